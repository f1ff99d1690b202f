// ONNX Runtime: sessions, their options and accelerators.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "onnxruntime_internal.h"

static bool append_provider(OrtSessionOptions *options, const struct load_options *load,
                            struct failure *failure) {
    const char *what = "ONNX Runtime refuses the accelerator";
    char threads[16];
    snprintf(threads, sizeof threads, "%d", load->threads);
    if (strcmp(load->accelerator, "xnnpack") == 0) {
        const char *keys[] = {"intra_op_num_threads"}, *values[] = {threads};
        // XNNPACK has a pool of its own; two of them would wait for each other.
        ORT_CHECK(ort.SetIntraOpNumThreads(options, 1), what);
        ORT_CHECK(ort.SessionOptionsAppendExecutionProvider(options, "XNNPACK", keys, values, 1),
                  what);
    } else if (strcmp(load->accelerator, "qnn") == 0) {
        const char *keys[] = {"backend_path"}, *values[] = {"libQnnHtp.so"};
        ORT_CHECK(ort.SessionOptionsAppendExecutionProvider(options, "QNN", keys, values, 1), what);
    } else if (strcmp(load->accelerator, "coreml") == 0) {
        ORT_CHECK(ort.SessionOptionsAppendExecutionProvider(options, "CoreML", NULL, NULL, 0), what);
    } else if (strcmp(load->accelerator, "nnapi") == 0) {
        if (ort.append_nnapi == NULL) return fail(failure, "%s: it was built without NNAPI", what);
        ORT_CHECK(ort.append_nnapi(options, 0), what);
    }
    return true;
}

static bool set_options(OrtSessionOptions *options, const struct load_options *load,
                        struct failure *failure) {
    const char *what = "ONNX Runtime refuses an option";
    ORT_CHECK(ort.SetSessionLogSeverityLevel(options, ORT_LOGGING_LEVEL_ERROR), what);
    ORT_CHECK(ort.SetIntraOpNumThreads(options, load->threads), what);
    ORT_CHECK(ort.SetInterOpNumThreads(options, 1), what);
    // A pool that went on spinning after its run would slow the next model's.
    ORT_CHECK(ort.AddSessionConfigEntry(options, "session.force_spinning_stop", "1"), what);
    if (ort.Session_GetEpGraphAssignmentInfo != NULL)
        ORT_CHECK(
            ort.AddSessionConfigEntry(options, "session.record_ep_graph_assignment_info", "1"),
            what);
    return append_provider(options, load, failure);
}

static bool create_session(struct onnx_model *onnx, const struct load_options *load,
                           const OrtSessionOptions *options, struct failure *failure) {
    char what[512];
    snprintf(what, sizeof what, "%s is no model that ONNX Runtime can run", load->path);
    ORT_CHECK(ort.CreateSession(ort_environment, load->path, options, &onnx->session), what);
    return true;
}

// Give the inputs their shapes, which takes a second session where named dimensions are dynamic.
static bool shape_inputs(struct onnx_model *onnx, const struct load_options *load,
                         OrtSessionOptions *options, struct shape *declared, struct shape *settled,
                         struct failure *failure) {
    struct model *model = &onnx->model;
    bool any = false;
    for (size_t i = 0; i < model->input_count; i++) declared[i] = model->inputs[i].shape;
    if (!settle_shapes(declared, model->input_count, load->input_shapes, load->input_shape_count,
                       settled, failure))
        return false;
    for (size_t i = 0; i < model->input_count; i++) {
        if (!onnx_override_dimensions(onnx->session, i, &settled[i], options, &any, failure))
            return false;
        model->inputs[i].shape = settled[i];
    }
    if (!any) return true;
    ort.ReleaseSession(onnx->session);
    onnx->session = NULL;
    return create_session(onnx, load, options, failure);
}

// Count which nodes went where, where the engine tells. What Core ML took it may still compute on the CPU,
// and does not tell.
static bool count_coverage(struct onnx_model *onnx, const struct load_options *load,
                           struct failure *failure) {
    const char *what = "ONNX Runtime failed";
    const OrtEpAssignedSubgraph *const *subgraphs;
    size_t count;
    struct coverage coverage = {0};
    if (ort.Session_GetEpGraphAssignmentInfo == NULL) return true;
    ORT_CHECK(ort.Session_GetEpGraphAssignmentInfo(onnx->session, &subgraphs, &count), what);
    for (size_t i = 0; i < count; i++) {
        const OrtEpAssignedNode *const *nodes;
        const char *provider;
        size_t node_count;
        ORT_CHECK(ort.EpAssignedSubgraph_GetEpName(subgraphs[i], &provider), what);
        ORT_CHECK(ort.EpAssignedSubgraph_GetNodes(subgraphs[i], &nodes, &node_count), what);
        coverage.ops += (int64_t)node_count;
        if (strcmp(provider, "CPUExecutionProvider") == 0)
            coverage.ops_outside_delegates += (int64_t)node_count;
        else
            coverage.delegate_nodes++;
    }
    if (strcmp(load->accelerator, "coreml") == 0 && coverage.ops_outside_delegates == 0)
        coverage.ops_outside_delegates = -1;
    onnx->model.coverage = coverage;
    return true;
}

// Options that let a session write its optimised graph to `path`, and that read such a graph. ORT's own
// format keeps the order of the nodes; after ONNX's they run in another one.
static bool set_saving(OrtSessionOptions *options, const char *path, struct failure *failure) {
    const char *what = "ONNX Runtime refuses an option";
    ORT_CHECK(ort.SetOptimizedModelFilePath(options, path), what);
    ORT_CHECK(ort.AddSessionConfigEntry(options, "session.save_model_format", "ORT"), what);
    return true;
}

static bool set_reading(OrtSessionOptions *options, struct failure *failure) {
    const char *what = "ONNX Runtime refuses an option";
    ORT_CHECK(ort.SetSessionGraphOptimizationLevel(options, ORT_DISABLE_ALL), what);
    ORT_CHECK(ort.AddSessionConfigEntry(options, "session.load_model_format", "ORT"), what);
    return true;
}

static bool load_with(struct onnx_model *onnx, const struct load_options *load,
                      OrtSessionOptions *options, struct failure *failure) {
    struct model *model = &onnx->model;
    if (!create_session(onnx, load, options, failure) ||
        !onnx_read_inputs(onnx->session, model, failure))
        return false;
    struct shape *shapes = calloc(2 * (model->input_count + 1), sizeof *shapes);
    if (shapes == NULL) return fail(failure, "out of memory");
    bool shaped = shape_inputs(onnx, load, options, shapes, shapes + model->input_count + 1,
                               failure);
    free(shapes);
    return shaped && onnx_read_outputs(onnx->session, model, failure);
}

// Load the file, or the optimised graph in its place, or the file and write its graph to `save`.
static bool load_as(struct onnx_model *onnx, const struct load_options *load, bool optimised,
                    const char *save, struct failure *failure) {
    OrtSessionOptions *options;
    ORT_CHECK(ort.CreateSessionOptions(&options), "ONNX Runtime failed");
    bool loaded = set_options(options, load, failure) &&
                  (!optimised || set_reading(options, failure)) &&
                  (save == NULL || set_saving(options, save, failure)) &&
                  load_with(onnx, load, options, failure) &&
                  // Of a graph that was optimised before, the engine tells nothing.
                  (optimised || count_coverage(onnx, load, failure));
    ort.ReleaseSessionOptions(options);
    if (!loaded) {
        if (onnx->session != NULL) ort.ReleaseSession(onnx->session);
        onnx->session = NULL;
        model_free_tensors(&onnx->model);
    }
    return loaded;
}

// Load the graph that an earlier load wrote, or write it. Returns false if neither can be done.
static bool load_prepared(struct onnx_model *onnx, const struct load_options *load) {
    struct failure ignored;
    char unfinished[FILES_MAX_PATH];
    struct load_options graph = *load;
    graph.path = load->prepared;
    if (access(graph.path, R_OK) == 0 && load_as(onnx, &graph, true, NULL, &ignored)) return true;
    int length = snprintf(unfinished, sizeof unfinished, "%s.%ld", load->prepared, (long)getpid());
    if (length < 0 || (size_t)length >= sizeof unfinished) return false;
    bool loaded = load_as(onnx, load, false, unfinished, &ignored);
    if (!loaded || rename(unfinished, load->prepared) != 0) unlink(unfinished);
    return loaded;
}

bool onnx_load_session(struct onnx_model *onnx, const struct load_options *load,
                       struct failure *failure) {
    // What an accelerator compiled cannot be written.
    bool keep = load->prepared != NULL && strcmp(load->accelerator, "cpu") == 0;
    return (keep && load_prepared(onnx, load)) || load_as(onnx, load, false, NULL, failure);
}
