// The inputs and outputs of a model: shapes, element types, and reproducible data.
#ifndef LATBENCH_TENSOR_H
#define LATBENCH_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"
#include "text.h"

#define MAX_RANK 16

enum dtype {
    DTYPE_NONE,  // one that the runner cannot fill
    DTYPE_BOOL, DTYPE_INT8, DTYPE_INT16, DTYPE_INT32, DTYPE_INT64,
    DTYPE_UINT8, DTYPE_UINT16, DTYPE_UINT32, DTYPE_UINT64,
    DTYPE_FLOAT16, DTYPE_FLOAT32, DTYPE_FLOAT64,
};

struct shape {
    size_t rank;
    int64_t dims[MAX_RANK];  // below 1: dynamic
};

struct tensor {
    char *name;
    enum dtype dtype;
    struct shape shape;
    bool quantized;  // an integer that stands for scale * (integer - zero_point)
    double scale;
    int64_t zero_point;
};

const char *dtype_name(enum dtype dtype);  // as NumPy calls it
size_t dtype_size(enum dtype dtype);       // bytes an element

// How many bytes a tensor takes; 0 if that overflows or a dimension is dynamic.
size_t tensor_bytes(const struct tensor *tensor);

// Add a tensor as a JSON object without its closing brace.
void tensor_add(struct text *text, const struct tensor *tensor);

// The data that inputs are filled with: standard normal, quantized where the tensor is stored so,
// zero for other integers, true for flags. Element i is
//
//     sqrt(-2 ln u) cos(2 pi v),  u = ((b(2i) >> 11) + 1) / 2^53,  v = (b(2i + 1) >> 11) / 2^53
//
// (Box and Muller 1958), where b(n) is the n-th output of SplitMix64 (Steele et al. 2014) from
// `seed`; so every language can make the same.
void tensor_fill(const struct tensor *tensor, uint64_t seed, void *data);

// The shapes to load a model with: the requested ones in `asked`, or, if `asked` is NULL, `declared`
// with batch 1. Puts them into `settled`. As latbench.runtime.base.settle_shapes.
bool settle_shapes(const struct shape *declared, size_t count, const struct shape *asked,
                   size_t asked_count, struct shape *settled, struct failure *failure);

// Report that a requested shape does not fit the model's own. Returns false.
bool refuse_shape(const struct shape *own, const struct shape *wanted, struct failure *failure);

#endif
