// What the parts of the ONNX Runtime engine share.
#ifndef LATBENCH_ONNXRUNTIME_INTERNAL_H
#define LATBENCH_ONNXRUNTIME_INTERNAL_H

#include "engine.h"
#include "onnxruntime_api.h"

struct onnx_model {
    struct model model;
    OrtSession *session;
    OrtIoBinding *binding;
    OrtValue **inputs, **outputs;
};

struct ort_functions {
#define FIELD(place, since, name, result, parameters) result(*name) parameters;
    ORT_FUNCTIONS(FIELD) ORT_ASSIGNMENT_FUNCTIONS(FIELD)
#undef FIELD
    OrtStatus *(*append_nnapi)(OrtSessionOptions *, uint32_t flags);  // NULL: not built for Android
};

extern struct ort_functions ort;
extern OrtEnv *ort_environment;
extern OrtAllocator *ort_allocator;

// Report `what`, and the first line of the engine's message. Releases the status; returns false.
bool ort_failed(OrtStatus *status, struct failure *failure, const char *what);

// Return false, with the reason in the variable `failure`, from the function around it if a call of
// the engine failed.
#define ORT_CHECK(call, what)                                             \
    do {                                                                  \
        OrtStatus *status_ = (call);                                      \
        if (status_ != NULL) return ort_failed(status_, failure, (what)); \
    } while (0)

// onnxruntime_tensors.c: the inputs and outputs of a model.

bool onnx_read_inputs(const OrtSession *session, struct model *model, struct failure *failure);
bool onnx_read_outputs(const OrtSession *session, struct model *model, struct failure *failure);
// The shape of an output value of a run.
bool onnx_read_shape(const OrtValue *value, const char *name, struct shape *shape,
                     struct failure *failure);
// Set the named dynamic dimensions of an input to those of `wanted`; `any` is set if there are some.
bool onnx_override_dimensions(const OrtSession *session, size_t input, const struct shape *wanted,
                              OrtSessionOptions *options, bool *any, struct failure *failure);
bool onnx_create_value(const struct tensor *tensor, OrtValue **value, struct failure *failure);

// onnxruntime_session.c: a session with its inputs' names, types and shapes settled.

bool onnx_load_session(struct onnx_model *onnx, const struct load_options *load,
                       struct failure *failure);

#endif
