// LiteRT (TensorFlow Lite) through its compiled models, on the CPU with XNNPACK: see engine.h.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "library.h"
#include "litert_internal.h"

struct litert_functions litert;
LiteRtEnvironment *litert_environment;

bool litert_failed(int status, struct failure *failure, const char *what) {
    static const struct {
        int status;
        const char *meaning;
    } meanings[] = {
        {1, "invalid argument"}, {2, "out of memory"}, {3, "runtime failure"},
        {4, "missing input tensor"}, {5, "unsupported"}, {6, "not found"}, {8, "wrong version"},
        {500, "the file cannot be read"}, {501, "invalid flatbuffer"},
        {502, "a library cannot be loaded"}, {503, "invalid serialization"},
        {504, "compilation failed"}, {1000, "index out of bounds"}, {1001, "invalid type"},
        {1002, "invalid graph"},
    };
    const char *meaning = "failure";
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
        if (meanings[i].status == status) meaning = meanings[i].meaning;
    return fail(failure, "%s: %s (LiteRT's status %d)", what, meaning, status);
}

static bool litert_open(const char *path, struct failure *failure) {
#ifdef LATBENCH_LINKED_LITERT
#define LINK(name, result, parameters) litert.name = LiteRt##name;
    if (path == NULL) {
        LITERT_FUNCTIONS(LINK)
        return true;
    }
#undef LINK
#endif
    void *library = library_open(path, failure), *marker;
    if (library == NULL) return false;
    if (!library_find(library, LITERT_MARKER, &marker))
        return fail(failure, "%s is neither LiteRT 2.1.6 or later nor TensorFlow Lite: it has no %s "
                    "and no %s", path, LITERT_MARKER, tflite_engine.marker);
#define FIND(name, result, parameters)                            \
    if (!library_find(library, "LiteRt" #name, &litert.name))     \
        return fail(failure, "%s has no LiteRt%s", path, #name);
    LITERT_FUNCTIONS(FIND)
#undef FIND
    return true;
}

static const char *litert_version(void) { return NULL; }  // no function of the library reports it

static bool litert_start(struct failure *failure) {
    if (litert_environment != NULL) return true;
    // Routine lines would displace the last message before a crash.
    const struct litert_option quiet = {LITERT_MIN_LOGGER_SEVERITY, {LITERT_INTEGER, LITERT_ERROR}};
    LITERT_CHECK(litert.CreateEnvironment(1, &quiet, &litert_environment), "LiteRT cannot start");
    return true;
}

static void litert_unload(struct model *model) {
    struct litert_model *lite = (struct litert_model *)model;
    for (size_t i = 0; lite->inputs != NULL && i < model->input_count; i++)
        if (lite->inputs[i] != NULL) litert.DestroyTensorBuffer(lite->inputs[i]);
    for (size_t i = 0; lite->outputs != NULL && i < model->output_count; i++)
        if (lite->outputs[i] != NULL) litert.DestroyTensorBuffer(lite->outputs[i]);
    if (lite->compiled != NULL) litert.DestroyCompiledModel(lite->compiled);
    if (lite->file != NULL) litert.DestroyModel(lite->file);
    free(lite->inputs);
    free(lite->outputs);
    free(lite->input_types);
    free(lite->output_types);
    model_free_tensors(model);
    free(lite);
}

// Ask XNNPACK for a number of threads: an option whose content is a line of TOML.
static bool add_threads(LiteRtOptions *options, int threads, struct failure *failure) {
    const char *what = "LiteRT refuses the number of threads";
    LiteRtOpaqueOptions *opaque;
    char *payload = malloc(64);
    if (payload == NULL) return fail(failure, "out of memory");
    snprintf(payload, 64, "num_threads = %d\n", threads);
    int status = litert.CreateOpaqueOptions("xnnpack", payload, free, &opaque);
    if (status != 0) free(payload);
    LITERT_CHECK(status, what);
    LITERT_CHECK(litert.AddOpaqueOptions(options, opaque), what);
    return true;
}

static bool compile_with(struct litert_model *lite, const struct load_options *load,
                         LiteRtOptions *options, struct failure *failure) {
    char what[512];
    int accelerator = strcmp(load->accelerator, "gpu") == 0   ? LITERT_GPU
                      : strcmp(load->accelerator, "npu") == 0 ? LITERT_NPU
                                                              : LITERT_CPU;
    LITERT_CHECK(litert.SetOptionsHardwareAccelerators(options, accelerator),
                 "LiteRT refuses the accelerator");
    if (!add_threads(options, load->threads, failure)) return false;
    snprintf(what, sizeof what, "%s is no model that LiteRT can run on %s", load->path,
             load->accelerator);
    LITERT_CHECK(
        litert.CreateCompiledModel(litert_environment, lite->file, options, &lite->compiled), what);
    return true;
}

static bool compile(struct litert_model *lite, const struct load_options *load,
                    struct failure *failure) {
    LiteRtOptions *options;
    LITERT_CHECK(litert.CreateOptions(&options), "LiteRT failed");
    bool compiled = compile_with(lite, load, options, failure);
    litert.DestroyOptions(options);
    return compiled;
}

// LiteRT reports the number of ops, and whether all went to a delegate.
static bool count_coverage(struct litert_model *lite, LiteRtSignature *signature,
                           struct failure *failure) {
    const char *what = "LiteRT failed";
    LiteRtSubgraph *subgraph;
    size_t ops;
    bool all;
    LITERT_CHECK(litert.GetSignatureSubgraph(signature, &subgraph), what);
    LITERT_CHECK(litert.GetNumSubgraphOps(subgraph, &ops), what);
    LITERT_CHECK(litert.CompiledModelIsFullyAccelerated(lite->compiled, &all), what);
    lite->model.coverage = (struct coverage){(int64_t)ops, -1, all ? 0 : -1};
    return true;
}

static bool settle(struct litert_model *lite, const struct load_options *load,
                   struct failure *failure) {
    const size_t count = lite->model.input_count;
    struct shape *declared = calloc(2 * (count + 1), sizeof *declared);
    if (declared == NULL) return fail(failure, "out of memory");
    struct shape *settled = declared + count + 1;
    for (size_t i = 0; i < count; i++) {
        declared[i] = lite->model.inputs[i].shape;
        // LiteRT reports the batch-1 shape of a dynamic input, not what is dynamic in it. So try the
        // requested shape, which LiteRT may refuse.
        bool asked = load->input_shapes != NULL && i < load->input_shape_count &&
                     load->input_shapes[i].rank == declared[i].rank;
        for (size_t k = 0; asked && k < declared[i].rank; k++)
            if (load->input_shapes[i].dims[k] > 0)
                declared[i].dims[k] = load->input_shapes[i].dims[k];
    }
    bool fine = settle_shapes(declared, count, load->input_shapes, load->input_shape_count, settled,
                              failure) &&
                litert_resize_inputs(lite, settled, failure);
    free(declared);
    return fine;
}

static bool load_into(struct litert_model *lite, const struct load_options *load,
                      struct failure *failure) {
    char what[512];
    size_t signatures;
    LiteRtSignature *signature;
    snprintf(what, sizeof what, "%s is no model that LiteRT can run", load->path);
    if (!model_is_tflite(load->path, failure)) return false;
    LITERT_CHECK(litert.CreateModelFromFile(litert_environment, load->path, &lite->file), what);
    LITERT_CHECK(litert.GetNumModelSignatures(lite->file, &signatures), what);
    if (signatures == 0) return fail(failure, "%s: it has no signature", what);
    LITERT_CHECK(litert.GetModelSignature(lite->file, 0, &signature), what);
    return compile(lite, load, failure) && litert_read_tensors(lite, signature, failure) &&
           settle(lite, load, failure) && count_coverage(lite, signature, failure) &&
           litert_create_buffers(lite, failure);
}

static struct model *litert_load(const struct load_options *options, struct failure *failure) {
    struct litert_model *lite = calloc(1, sizeof *lite);
    if (lite == NULL) {
        fail(failure, "out of memory");
        return NULL;
    }
    lite->model.engine = &litert_engine;
    if (load_into(lite, options, failure)) return &lite->model;
    litert_unload(&lite->model);
    return NULL;
}

static bool litert_set_input(struct model *model, size_t input, const void *data, size_t bytes,
                             struct failure *failure) {
    LiteRtTensorBuffer *buffer = ((struct litert_model *)model)->inputs[input];
    const char *name = model->inputs[input].name;
    void *place;
    LITERT_CHECK(litert.LockTensorBuffer(buffer, &place, LITERT_LOCK_FOR_WRITING), name);
    memcpy(place, data, bytes);
    LITERT_CHECK(litert.UnlockTensorBuffer(buffer), name);
    return true;
}

static bool litert_get_output(struct model *model, size_t output, void *data, size_t bytes,
                              struct failure *failure) {
    LiteRtTensorBuffer *buffer = ((struct litert_model *)model)->outputs[output];
    const char *name = model->outputs[output].name;
    void *place;
    LITERT_CHECK(litert.LockTensorBuffer(buffer, &place, LITERT_LOCK_FOR_READING), name);
    memcpy(data, place, bytes);
    LITERT_CHECK(litert.UnlockTensorBuffer(buffer), name);
    return true;
}

// The outputs are settled while loading: LiteRT has no shape that depends on values.
static bool litert_prepare(struct model *model, struct failure *failure) {
    (void)model;
    (void)failure;
    return true;
}

static bool litert_run(struct model *model, struct failure *failure) {
    const struct litert_model *lite = (const struct litert_model *)model;
    LITERT_CHECK(litert.RunCompiledModel(lite->compiled, 0, model->input_count, lite->inputs,
                                         model->output_count, lite->outputs),
                 "LiteRT failed");
    return true;
}

static const char *const LIBRARIES[] = {"libLiteRt.so", "libLiteRt.dylib", NULL};
static const char *const ACCELERATORS[] = {"cpu", "gpu", "npu", NULL};

const struct engine litert_engine = {
    .runtime = "tflite",
    .library_names = LIBRARIES,
    .marker = LITERT_MARKER,
    .other = &tflite_engine,
#ifdef LATBENCH_LINKED_LITERT
    .linked = true,
#endif
    .accelerators = ACCELERATORS,
    .open = litert_open,
    .version = litert_version,
    .start = litert_start,
    .load = litert_load,
    .set_input = litert_set_input,
    .get_output = litert_get_output,
    .prepare = litert_prepare,
    .run = litert_run,
    .unload = litert_unload,
};
