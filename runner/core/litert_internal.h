// What the parts of the LiteRT engine share.
#ifndef LATBENCH_LITERT_INTERNAL_H
#define LATBENCH_LITERT_INTERNAL_H

#include "engine.h"
#include "litert_api.h"

struct litert_model {
    struct model model;
    LiteRtModel *file;
    LiteRtCompiledModel *compiled;
    struct litert_type *input_types, *output_types;
    LiteRtTensorBuffer **inputs, **outputs;
};

struct litert_functions {
#define FIELD(name, result, parameters) result(*name) parameters;
    LITERT_FUNCTIONS(FIELD)
#undef FIELD
};

extern struct litert_functions litert;
extern LiteRtEnvironment *litert_environment;

// Report `what`, and the meaning of the status. Returns false.
bool litert_failed(int status, struct failure *failure, const char *what);

// Return false, with the reason in the variable `failure`, from the function around it if a call of
// the engine failed.
#define LITERT_CHECK(call, what)                                          \
    do {                                                                  \
        int status_ = (call);                                             \
        if (status_ != 0) return litert_failed(status_, failure, (what)); \
    } while (0)

// litert_tensors.c: the inputs and outputs of a model.

bool litert_read_tensors(struct litert_model *lite, LiteRtSignature *signature,
                         struct failure *failure);
// Give the inputs of a compiled model other shapes, and find those of the outputs.
bool litert_resize_inputs(struct litert_model *lite, const struct shape *settled,
                          struct failure *failure);
bool litert_create_buffers(struct litert_model *lite, struct failure *failure);

#endif
