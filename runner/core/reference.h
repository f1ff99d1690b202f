// A workload that uses no inference engine, to distinguish a changed machine from a changed engine:
// the 1x1 convolutions of MobileNetV2 at 224 pixels (Sandler et al., CVPR 2018, table 2) as
// matrix products. latbench/device/host/reference.py does the same work with NumPy.
#ifndef LATBENCH_REFERENCE_H
#define LATBENCH_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

#include "failure.h"

#define REFERENCE_HANDLE "reference"

// Its name: only times of the same workload can be compared. Increment the number with every change
// to reference.c; compilers make a difference too.
#ifdef __clang__
#define REFERENCE_COMPILER "Clang " REFERENCE_TEXT(__clang_major__)
#else
#define REFERENCE_COMPILER "GCC " REFERENCE_TEXT(__GNUC__)
#endif
#define REFERENCE_TEXT(number) REFERENCE_TEXT_(number)
#define REFERENCE_TEXT_(number) #number
#define REFERENCE_WORKLOAD "1x1 convolutions of MobileNetV2, C 1 by " REFERENCE_COMPILER

struct reference {
    float *weights;          // of all layers, one behind the other
    float *source, *target;  // what every layer reads, and what it writes
};

// Allocate and fill it. Returns false with the reason in `failure`.
bool reference_open(struct reference *reference, struct failure *failure);
void reference_close(struct reference *reference);

// Run the workload once, on the calling thread.
void reference_run(const struct reference *reference);

// Multiply-accumulates of one run.
int64_t reference_macs(void);

#define PANEL 8  // channels that are computed together
#define BLOCK 4  // pixels that are

// target[p][o] = sum over i of source[p][i] * weight(o, i), for pixels p, outputs o and inputs i.
// `outputs` is a multiple of PANEL, and weight(o, i) lies at weights[((o / PANEL) * inputs + i) *
// PANEL + o % PANEL]. Pixels are computed in whole blocks: both buffers have room for that.
void reference_multiply(const float *weights, const float *source, float *target, size_t pixels,
                        size_t inputs, size_t outputs);

#endif
