// TensorFlow Lite: who computes, and what was left.
//
// The C API does not tell what became of a graph. But a delegate is shown the graph when it is asked to
// take its part, so one of ours stands in front of the real one, and looks before and after.
#include <string.h>

#include "tflite_internal.h"

// Count the nodes of a graph, and those of them that are delegates'. Returns false if it does not tell.
static bool count_nodes(TfLiteContext *graph, int64_t *nodes, int64_t *delegates) {
    struct tflite_ints *plan;
    if (graph->GetExecutionPlan(graph, &plan) != 0) return false;
    *nodes = plan->size;
    *delegates = 0;
    for (int i = 0; i < plan->size; i++) {
        void *node;
        TfLiteRegistration *registration;
        if (graph->GetNodeAndRegistration(graph, plan->data[i], &node, &registration) != 0)
            return false;
        *delegates += registration->builtin_code == TFLITE_BUILTIN_DELEGATE;
    }
    return true;
}

// Called for each graph of the model, the main one first; and again where inputs were resized.
static int watch(TfLiteContext *graph, TfLiteDelegate *delegate) {
    struct tflite_watch *self = (struct tflite_watch *)delegate;
    TfLiteDelegate *watched = self->watched;
    int64_t nodes, delegates;
    if (self->graph == NULL) self->graph = graph;
    bool whole = self->graph == graph;  // not the body of a branch or loop
    if (whole) self->ops = self->delegate_nodes = self->left = -1;
    if (whole && count_nodes(graph, &nodes, &delegates)) self->ops = nodes;
    if (watched == NULL) return 0;
    int status = watched->Prepare(graph, watched);
    if (status == 0 && whole && count_nodes(graph, &nodes, &delegates)) {
        self->delegate_nodes = delegates;
        self->left = nodes - delegates;
    }
    return status;
}

static void add(struct tflite_model *lite, TfLiteInterpreterOptions *options) {
    struct tflite_watch *self = &lite->watch;
    self->ops = self->delegate_nodes = self->left = -1;
    TfLiteDelegate *real = lite->delegate;
    if (real != NULL && real->Prepare == NULL) {  // of a newer kind, which shows its graph to itself alone
        tflite.TfLiteInterpreterOptionsAddDelegate(options, real);
        return;
    }
    self->watched = real;
    self->delegate.Prepare = watch;
    self->delegate.flags = real != NULL ? real->flags : TFLITE_ALLOWS_DYNAMIC_TENSORS;
    tflite.TfLiteInterpreterOptionsAddDelegate(options, &self->delegate);
}

bool tflite_add_delegate(struct tflite_model *lite, const struct load_options *load,
                         TfLiteInterpreterOptions *options, struct failure *failure) {
    const struct tflite_coreml_options coreml = {.enabled_devices = 1, .min_nodes_per_partition = 1};
    const struct tflite_xnnpack_options xnnpack = {.threads = load->threads};
    const char *missing = NULL;
    if (strcmp(load->accelerator, "gpu") == 0) {
        missing = tflite.TFLGpuDelegateCreate == NULL ? "TFLGpuDelegateCreate" : NULL;
        if (missing == NULL) lite->delegate = tflite.TFLGpuDelegateCreate(NULL);
        lite->delete_delegate = tflite.TFLGpuDelegateDelete;
    } else if (strcmp(load->accelerator, "coreml") == 0) {
        missing = tflite.TfLiteCoreMlDelegateCreate == NULL ? "TfLiteCoreMlDelegateCreate" : NULL;
        if (missing == NULL) lite->delegate = tflite.TfLiteCoreMlDelegateCreate(&coreml);
        lite->delete_delegate = tflite.TfLiteCoreMlDelegateDelete;
    } else if (tflite.TfLiteXNNPackDelegateCreate != NULL) {
        lite->delegate = tflite.TfLiteXNNPackDelegateCreate(&xnnpack);
        lite->delete_delegate = tflite.TfLiteXNNPackDelegateDelete;
    } else {
        add(lite, options);  // the library has its own kernels, and uses XNNPACK where it was built to
        return true;
    }
    if (missing != NULL) {
        fail(failure, "this TensorFlow Lite has no accelerator %s: it lacks %s", load->accelerator,
             missing);
        return hint(failure, "choose --accelerator cpu, or a library that has it, as iOS's frameworks");
    }
    if (lite->delegate == NULL)
        return fail(failure, "TensorFlow Lite refuses the accelerator %s", load->accelerator);
    add(lite, options);
    return true;
}

struct coverage tflite_coverage(const struct tflite_model *lite, const char *accelerator) {
    const struct tflite_watch *seen = &lite->watch;
    struct coverage coverage = {seen->ops, seen->delegate_nodes, seen->left};
    // What Core ML took it may still compute on the CPU, and does not tell.
    if (strcmp(accelerator, "coreml") == 0 && coverage.ops_outside_delegates == 0)
        coverage.ops_outside_delegates = -1;
    return coverage;
}
