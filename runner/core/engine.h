// Inference engines: one table of functions each, so that the rest of the runner knows none.
//
// An engine can be in a library that is opened when needed, be linked into the program, or be written
// in another language: it only needs a table of C functions.
#ifndef LATBENCH_ENGINE_H
#define LATBENCH_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"
#include "sha256.h"
#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

// What runs where, as far as the engine reports it; below 0: it does not.
struct coverage {
    int64_t ops;                    // of the model
    int64_t delegate_nodes;         // what delegates or accelerators made of them
    int64_t ops_outside_delegates;  // what is left
};

// A loaded model. Engines put it first in a larger struct of their own.
struct model {
    const struct engine *engine;
    struct tensor *inputs, *outputs;
    size_t input_count, output_count;
    struct coverage coverage;
};

struct load_options {
    const char *path;
    int threads;              // that a run computes on, the calling one included
    const char *accelerator;  // one of the engine's
    const struct shape *input_shapes;  // one an input, or NULL
    size_t input_shape_count;
    // Where an engine may keep what it computes from the file, and load from at later loads of the same
    // file in the same way; NULL: nowhere. The same kernels must run, with weights in fresh memory.
    const char *prepared;
};

// Every function that returns a bool returns false with the reason in `failure`.
struct engine {
    const char *runtime;                // as the protocol calls it: "onnx", "tflite"
    const char *const *library_names;   // what its library is called, ended by a NULL
    const char *const *accelerators;    // its accelerators, terminated by NULL

    // Open the library at `path`; NULL: the engine is linked into the program. Called once.
    bool (*open)(const char *path, struct failure *failure);

    // The version of the open library; NULL if it does not tell.
    const char *(*version)(void);

    // Start what all models share. May be called again, and does nothing then.
    bool (*start)(struct failure *failure);

    // Load a model, with its inputs allocated but not filled; `outputs` need not be settled.
    struct model *(*load)(const struct load_options *options, struct failure *failure);

    // Copy data into an input or out of an output; `bytes` is what tensor_bytes says.
    bool (*set_input)(struct model *model, size_t input, const void *data, size_t bytes,
                      struct failure *failure);
    bool (*get_output)(struct model *model, size_t output, void *data, size_t bytes,
                       struct failure *failure);

    // Settle and allocate the outputs, now that the inputs are filled.
    bool (*prepare)(struct model *model, struct failure *failure);

    // Run once, with nothing but the inference inside.
    bool (*run)(struct model *model, struct failure *failure);

    void (*unload)(struct model *model);

    bool linked;         // into this program
    const char *marker;  // a function that its libraries have; NULL: nobody asks

    // The same runtime by another API, for libraries that have its marker and not this one's; or NULL.
    const struct engine *other;
};

extern const struct engine onnxruntime_engine;
extern const struct engine litert_engine;
extern const struct engine tflite_engine;

// Names and tensors of a model, for its engine's `unload`.
void model_free_tensors(struct model *model);

// Whether the file at `path` says that it is a TFLite model; LiteRT and TensorFlow Lite may crash on others.
bool model_is_tflite(const char *path, struct failure *failure);

#ifdef __cplusplus
}
#endif

#endif
