// TensorFlow Lite through its interpreters, by the C API that TensorFlowLiteC (iOS) and
// libtensorflowlite_c.so have: see engine.h.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "library.h"
#include "tflite_internal.h"

struct tflite_functions tflite;

bool tflite_failed(const struct tflite_model *lite, struct failure *failure, const char *what) {
    if (lite->said[0] == '\0') return fail(failure, "%s", what);
    return fail(failure, "%s: %s", what, lite->said);
}

// The library may report one failure several times; the first message says most.
static void hear(void *lite, const char *format, va_list arguments) {
    char *said = ((struct tflite_model *)lite)->said;
    if (said[0] != '\0') return;
    vsnprintf(said, sizeof ((struct tflite_model *)lite)->said, format, arguments);
    said[strcspn(said, "\n")] = '\0';
}

static bool tflite_open(const char *path, struct failure *failure) {
#ifdef LATBENCH_LINKED_TFLITE
#define LINK(name, result, parameters) tflite.name = name;
    if (path == NULL) {
        TFLITE_LINKED_FUNCTIONS(LINK)
        return true;
    }
#undef LINK
#endif
    void *library = library_open(path, failure);
    if (library == NULL) return false;
#define FIND(name, result, parameters)                \
    if (!library_find(library, #name, &tflite.name))  \
        return fail(failure, "%s has no %s", path, #name);
    TFLITE_FUNCTIONS(FIND)
#undef FIND
#define FIND(name, result, parameters) library_find(library, #name, &tflite.name);
    TFLITE_XNNPACK_FUNCTIONS(FIND)
    TFLITE_APPLE_FUNCTIONS(FIND)
#undef FIND
    return true;
}

static const char *tflite_version(void) { return tflite.TfLiteVersion(); }

static bool tflite_start(struct failure *failure) {
    (void)failure;
    return true;
}

static void tflite_unload(struct model *model) {
    struct tflite_model *lite = (struct tflite_model *)model;
    // An interpreter uses its delegate to the end.
    if (lite->interpreter != NULL) tflite.TfLiteInterpreterDelete(lite->interpreter);
    if (lite->delegate != NULL && lite->delete_delegate != NULL)
        lite->delete_delegate(lite->delegate);
    if (lite->file != NULL) tflite.TfLiteModelDelete(lite->file);
    model_free_tensors(model);
    free(lite);
}

static bool create_interpreter(struct tflite_model *lite, const struct load_options *load,
                               struct failure *failure) {
    char what[512];
    snprintf(what, sizeof what, "%s is no model that TensorFlow Lite can run on %s", load->path,
             load->accelerator);
    TfLiteInterpreterOptions *options = tflite.TfLiteInterpreterOptionsCreate();
    if (options == NULL) return fail(failure, "out of memory");
    tflite.TfLiteInterpreterOptionsSetErrorReporter(options, hear, lite);
    tflite.TfLiteInterpreterOptionsSetNumThreads(options, load->threads);
    bool added = tflite_add_delegate(lite, load, options, failure);
    if (added) lite->interpreter = tflite.TfLiteInterpreterCreate(lite->file, options);
    tflite.TfLiteInterpreterOptionsDelete(options);
    if (added && lite->interpreter == NULL) return tflite_failed(lite, failure, what);
    return added;
}

static bool load_into(struct tflite_model *lite, const struct load_options *load,
                      struct failure *failure) {
    if (!model_is_tflite(load->path, failure)) return false;
    lite->file = tflite.TfLiteModelCreateFromFile(load->path);
    if (lite->file == NULL)
        return fail(failure, "%s is no model that TensorFlow Lite can run", load->path);
    if (!create_interpreter(lite, load, failure) || !tflite_read_inputs(lite, failure) ||
        !tflite_settle_inputs(lite, load, failure) || !tflite_read_outputs(lite, failure))
        return false;
    lite->model.coverage = tflite_coverage(lite, load->accelerator);
    return true;
}

static struct model *tflite_load(const struct load_options *options, struct failure *failure) {
    struct tflite_model *lite = calloc(1, sizeof *lite);
    if (lite == NULL) {
        fail(failure, "out of memory");
        return NULL;
    }
    lite->model.engine = &tflite_engine;
    if (load_into(lite, options, failure)) return &lite->model;
    tflite_unload(&lite->model);
    return NULL;
}

static bool tflite_set_input(struct model *model, size_t input, const void *data, size_t bytes,
                             struct failure *failure) {
    struct tflite_model *lite = (struct tflite_model *)model;
    TfLiteTensor *tensor =
        tflite.TfLiteInterpreterGetInputTensor(lite->interpreter, (int32_t)input);
    lite->said[0] = '\0';
    return tflite.TfLiteTensorCopyFromBuffer(tensor, data, bytes) == 0 ||
           tflite_failed(lite, failure, model->inputs[input].name);
}

static bool tflite_get_output(struct model *model, size_t output, void *data, size_t bytes,
                              struct failure *failure) {
    struct tflite_model *lite = (struct tflite_model *)model;
    const TfLiteTensor *tensor =
        tflite.TfLiteInterpreterGetOutputTensor(lite->interpreter, (int32_t)output);
    lite->said[0] = '\0';
    return tflite.TfLiteTensorCopyToBuffer(tensor, data, bytes) == 0 ||
           tflite_failed(lite, failure, model->outputs[output].name);
}

static bool tflite_run(struct model *model, struct failure *failure) {
    struct tflite_model *lite = (struct tflite_model *)model;
    lite->said[0] = '\0';
    if (tflite.TfLiteInterpreterInvoke(lite->interpreter) == 0) return true;
    return tflite_failed(lite, failure, "TensorFlow Lite failed");
}

// A shape that depends on values is known only after a run.
static bool tflite_prepare(struct model *model, struct failure *failure) {
    struct tflite_model *lite = (struct tflite_model *)model;
    lite->said[0] = '\0';
    if (tflite_read_output_shapes(lite)) return true;
    return tflite_run(model, failure) &&
           (tflite_read_output_shapes(lite) ||
            fail(failure, "TensorFlow Lite does not tell the outputs' shapes"));
}

static const char *const LIBRARIES[] = {"libtensorflowlite_c.so", "libtensorflowlite_jni.so",
                                        "libtensorflowlite_c.dylib", NULL};
static const char *const ACCELERATORS[] = {"cpu", "gpu", "coreml", NULL};

const struct engine tflite_engine = {
    .runtime = "tflite",
    .library_names = LIBRARIES,
    .marker = TFLITE_MARKER,
#ifdef LATBENCH_LINKED_TFLITE
    .linked = true,
#endif
    .accelerators = ACCELERATORS,
    .open = tflite_open,
    .version = tflite_version,
    .start = tflite_start,
    .load = tflite_load,
    .set_input = tflite_set_input,
    .get_output = tflite_get_output,
    .prepare = tflite_prepare,
    .run = tflite_run,
    .unload = tflite_unload,
};
