// ONNX Runtime, with inputs and outputs bound ahead of the run: see engine.h.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "library.h"
#include "onnxruntime_internal.h"

struct ort_functions ort;
OrtEnv *ort_environment;
OrtAllocator *ort_allocator;

static const struct ort_api_base *base;

bool ort_failed(OrtStatus *status, struct failure *failure, const char *what) {
    const char *said = ort.GetErrorMessage(status);
    fail(failure, "%s: %.*s", what, (int)strcspn(said, "\n"), said);
    ort.ReleaseStatus(status);
    return false;
}

static bool onnx_open(const char *path, struct failure *failure) {
    const struct ort_api_base *(*get_base)(void) = NULL;
#ifdef LATBENCH_LINKED_ONNXRUNTIME
    get_base = OrtGetApiBase;
#endif
    if (path != NULL) {
        void *library = library_open(path, failure);
        if (library == NULL) return false;
        if (!library_find(library, "OrtGetApiBase", &get_base))
            return fail(failure, "%s is no ONNX Runtime: it has no OrtGetApiBase", path);
        library_find(library, "OrtSessionOptionsAppendExecutionProvider_Nnapi", &ort.append_nnapi);
    }
    base = get_base();
    void *const *table = base->get_api(ORT_API_NEEDED);
    if (table == NULL)
        return fail(failure, "ONNX Runtime %s is older than 1.12", base->get_version());
#define FILL(place, since, name, result, parameters) \
    memcpy(&ort.name, &table[place], sizeof ort.name);
    ORT_FUNCTIONS(FILL)
    // A library says on its standard error what it has not, so ask only where it has.
    int major = 0, minor = 0;
    sscanf(base->get_version(), "%d.%d", &major, &minor);
    bool recent = major > 1 || minor >= ORT_API_WITH_ASSIGNMENT;
    table = recent ? base->get_api(ORT_API_WITH_ASSIGNMENT) : NULL;
    if (table != NULL) {
        ORT_ASSIGNMENT_FUNCTIONS(FILL)
    }
#undef FILL
    return true;
}

static const char *onnx_version(void) { return base->get_version(); }

static bool onnx_start(struct failure *failure) {
    const char *what = "ONNX Runtime cannot start";
    if (ort_environment != NULL) return true;
    ORT_CHECK(ort.GetAllocatorWithDefaultOptions(&ort_allocator), what);
    ORT_CHECK(ort.CreateEnv(ORT_LOGGING_LEVEL_ERROR, "latbench", &ort_environment), what);
    return true;
}

static void onnx_unload(struct model *model) {
    struct onnx_model *onnx = (struct onnx_model *)model;
    if (onnx->binding != NULL) ort.ReleaseIoBinding(onnx->binding);
    for (size_t i = 0; onnx->inputs != NULL && i < model->input_count; i++)
        if (onnx->inputs[i] != NULL) ort.ReleaseValue(onnx->inputs[i]);
    for (size_t i = 0; onnx->outputs != NULL && i < model->output_count; i++)
        if (onnx->outputs[i] != NULL) ort.ReleaseValue(onnx->outputs[i]);
    if (onnx->session != NULL) ort.ReleaseSession(onnx->session);
    free(onnx->inputs);
    free(onnx->outputs);
    model_free_tensors(model);
    free(onnx);
}

static bool create_inputs(struct onnx_model *onnx, struct failure *failure) {
    const struct model *model = &onnx->model;
    onnx->inputs = calloc(model->input_count + 1, sizeof(OrtValue *));
    onnx->outputs = calloc(model->output_count + 1, sizeof(OrtValue *));
    if (onnx->inputs == NULL || onnx->outputs == NULL) return fail(failure, "out of memory");
    for (size_t i = 0; i < model->input_count; i++)
        if (!onnx_create_value(&model->inputs[i], &onnx->inputs[i], failure)) return false;
    return true;
}

static struct model *onnx_load(const struct load_options *options, struct failure *failure) {
    struct onnx_model *onnx = calloc(1, sizeof *onnx);
    if (onnx == NULL) {
        fail(failure, "out of memory");
        return NULL;
    }
    onnx->model.engine = &onnxruntime_engine;
    onnx->model.coverage = (struct coverage){-1, -1, -1};
    if (onnx_load_session(onnx, options, failure) && create_inputs(onnx, failure))
        return &onnx->model;
    onnx_unload(&onnx->model);
    return NULL;
}

static bool onnx_set_input(struct model *model, size_t input, const void *data, size_t bytes,
                           struct failure *failure) {
    void *place;
    OrtValue *value = ((struct onnx_model *)model)->inputs[input];
    ORT_CHECK(ort.GetTensorMutableData(value, &place), model->inputs[input].name);
    memcpy(place, data, bytes);
    return true;
}

static bool onnx_get_output(struct model *model, size_t output, void *data, size_t bytes,
                            struct failure *failure) {
    void *place;
    OrtValue *value = ((struct onnx_model *)model)->outputs[output];
    ORT_CHECK(ort.GetTensorMutableData(value, &place), model->outputs[output].name);
    memcpy(data, place, bytes);
    return true;
}

// Shapes that depend on the computation are known only after one: run, and keep what it gives.
static bool compute_outputs(struct onnx_model *onnx, struct failure *failure) {
    const struct model *model = &onnx->model;
    const char **names = calloc(model->input_count + model->output_count + 1, sizeof *names);
    if (names == NULL) return fail(failure, "out of memory");
    const char **output_names = names + model->input_count;
    for (size_t i = 0; i < model->input_count; i++) names[i] = model->inputs[i].name;
    for (size_t i = 0; i < model->output_count; i++) output_names[i] = model->outputs[i].name;
    OrtStatus *status =
        ort.Run(onnx->session, NULL, names, (const OrtValue *const *)onnx->inputs,
                model->input_count, output_names, model->output_count, onnx->outputs);
    free(names);
    ORT_CHECK(status, "ONNX Runtime failed");
    for (size_t i = 0; i < model->output_count; i++)
        if (!onnx_read_shape(onnx->outputs[i], model->outputs[i].name, &model->outputs[i].shape,
                             failure))
            return false;
    return true;
}

static bool create_outputs(struct onnx_model *onnx, struct failure *failure) {
    const struct model *model = &onnx->model;
    for (size_t i = 0; i < model->output_count; i++)
        if (!onnx_create_value(&model->outputs[i], &onnx->outputs[i], failure)) return false;
    return true;
}

static bool onnx_prepare(struct model *model, struct failure *failure) {
    const char *what = "ONNX Runtime cannot bind";
    struct onnx_model *onnx = (struct onnx_model *)model;
    bool known = true;
    for (size_t i = 0; i < model->output_count; i++)
        known = known && tensor_bytes(&model->outputs[i]) > 0;
    if (!(known ? create_outputs(onnx, failure) : compute_outputs(onnx, failure))) return false;
    ORT_CHECK(ort.CreateIoBinding(onnx->session, &onnx->binding), what);
    for (size_t i = 0; i < model->input_count; i++)
        ORT_CHECK(ort.BindInput(onnx->binding, model->inputs[i].name, onnx->inputs[i]), what);
    for (size_t i = 0; i < model->output_count; i++)
        ORT_CHECK(ort.BindOutput(onnx->binding, model->outputs[i].name, onnx->outputs[i]), what);
    return true;
}

static bool onnx_run(struct model *model, struct failure *failure) {
    const struct onnx_model *onnx = (const struct onnx_model *)model;
    ORT_CHECK(ort.RunWithBinding(onnx->session, NULL, onnx->binding), "ONNX Runtime failed");
    return true;
}

static const char *const LIBRARIES[] = {"libonnxruntime.so", "libonnxruntime.dylib", NULL};
static const char *const ACCELERATORS[] = {
#ifdef __APPLE__
    "cpu", "xnnpack", "coreml", NULL,
#else
    "cpu", "xnnpack", "nnapi", "qnn", NULL,
#endif
};

const struct engine onnxruntime_engine = {
    .runtime = "onnx",
    .library_names = LIBRARIES,
#ifdef LATBENCH_LINKED_ONNXRUNTIME
    .linked = true,
#endif
    .accelerators = ACCELERATORS,
    .open = onnx_open,
    .version = onnx_version,
    .start = onnx_start,
    .load = onnx_load,
    .set_input = onnx_set_input,
    .get_output = onnx_get_output,
    .prepare = onnx_prepare,
    .run = onnx_run,
    .unload = onnx_unload,
};
