// What the parts of the TensorFlow Lite engine share.
#ifndef LATBENCH_TFLITE_INTERNAL_H
#define LATBENCH_TFLITE_INTERNAL_H

#include "engine.h"
#include "tflite_api.h"

// A delegate around another one, that counts what the other took.
struct tflite_watch {
    TfLiteDelegate delegate;  // first: the interpreter gives it back to `Prepare`
    TfLiteDelegate *watched;  // NULL: only the ops are counted
    const TfLiteContext *graph;  // the model's main one; NULL: not yet seen
    int64_t ops, delegate_nodes, left;  // below 0: could not be counted
};

struct tflite_model {
    struct model model;
    TfLiteModel *file;
    TfLiteInterpreter *interpreter;
    TfLiteDelegate *delegate;
    void (*delete_delegate)(TfLiteDelegate *);
    struct tflite_watch watch;
    char said[256];  // the library's message about its last call
};

// Those that a library lacks are NULL.
struct tflite_functions {
#define FIELD(name, result, parameters) result(*name) parameters;
    TFLITE_FUNCTIONS(FIELD) TFLITE_XNNPACK_FUNCTIONS(FIELD) TFLITE_APPLE_FUNCTIONS(FIELD)
#undef FIELD
};

extern struct tflite_functions tflite;

// Report `what`, and the library's message about it. Returns false.
bool tflite_failed(const struct tflite_model *lite, struct failure *failure, const char *what);

// tflite_delegates.c: who computes.

// Make the delegate that `load` asks for, and have the interpreter use it.
bool tflite_add_delegate(struct tflite_model *lite, const struct load_options *load,
                         TfLiteInterpreterOptions *options, struct failure *failure);
// What went where, now that tensors are allocated.
struct coverage tflite_coverage(const struct tflite_model *lite, const char *accelerator);

// tflite_tensors.c: what a model takes and gives.

bool tflite_read_inputs(struct tflite_model *lite, struct failure *failure);
// Set the requested shapes of the inputs, and allocate all tensors.
bool tflite_settle_inputs(struct tflite_model *lite, const struct load_options *load,
                          struct failure *failure);
bool tflite_read_outputs(struct tflite_model *lite, struct failure *failure);
// Update the outputs' shapes; returns whether all are known.
bool tflite_read_output_shapes(struct tflite_model *lite);

#endif
