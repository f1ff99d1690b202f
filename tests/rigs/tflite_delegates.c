// TensorFlow Lite with the delegates that only Apple's systems have, as far as Linux can: what they take is
// computed by XNNPACK. It is linked to the real library, whose functions are found through it.
//
// $GPU says what the GPU does: "refuses" (it cannot be made), "one" (it takes the first node alone, and
// computes nothing); else it takes what XNNPACK takes. Core ML refuses options that differ from those that
// latbench means to ask for.
#include <stdlib.h>
#include <string.h>

#include "tflite_api.h"

TfLiteDelegate *TfLiteXNNPackDelegateCreate(const void *options);
void TfLiteXNNPackDelegateDelete(TfLiteDelegate *delegate);

// As TensorFlow Lite 2.9 has them; tflite_api.h declares their beginnings.
struct registration {
    TfLiteRegistration begin;
    const char *custom_name;
    int version;
};
struct context {
    TfLiteContext begin;
    int (*ReplaceNodeSubsetsWithDelegateKernels)(TfLiteContext *, struct registration,
                                                 const struct tflite_ints *, TfLiteDelegate *);
};

static int nothing(void *context, void *node) { return (void)context, (void)node, 0; }

static int take_one(TfLiteContext *graph, TfLiteDelegate *self) {
    const struct registration kernel = {.begin = {.prepare = nothing, .invoke = nothing}};
    struct tflite_ints *plan, *first = malloc(2 * sizeof(int));
    graph->GetExecutionPlan(graph, &plan);
    first->size = 1;
    first->data[0] = plan->data[0];
    int status = ((struct context *)graph)
                     ->ReplaceNodeSubsetsWithDelegateKernels(graph, kernel, first, self);
    free(first);
    return status;
}

static TfLiteDelegate one = {.Prepare = take_one};

static bool gpu_is(const char *kind) {
    const char *wanted = getenv("GPU");
    return wanted != NULL && strcmp(wanted, kind) == 0;
}

TfLiteDelegate *TFLGpuDelegateCreate(const void *options) {
    if (options != NULL || gpu_is("refuses")) return NULL;
    return gpu_is("one") ? &one : TfLiteXNNPackDelegateCreate(NULL);
}

void TFLGpuDelegateDelete(TfLiteDelegate *delegate) {
    if (delegate != &one) TfLiteXNNPackDelegateDelete(delegate);
}

TfLiteDelegate *TfLiteCoreMlDelegateCreate(const void *options) {
    const int wanted[4] = {1, 0, 0, 1};  // all devices, newest, all partitions, from one node on
    return memcmp(options, wanted, sizeof wanted) == 0 ? TfLiteXNNPackDelegateCreate(NULL) : NULL;
}

void TfLiteCoreMlDelegateDelete(TfLiteDelegate *delegate) { TfLiteXNNPackDelegateDelete(delegate); }
