// One loaded model, and the requests about it; see runner.h.
#ifndef LATBENCH_LOADED_H
#define LATBENCH_LOADED_H

#include "runner.h"
#include "timing.h"

struct loaded {
    struct loaded *next;
    char handle[24];
    struct installed *installed;
    struct model *model;
    struct threads pool;  // those that the engine started for it
};

// Load a model with an engine of `installed`, fill its inputs from `seed`, and measure how long that takes.
// Returns NULL with the reason in `failure`.
struct loaded *loaded_open(struct installed *installed, const struct load_options *options,
                           uint64_t seed, double *load_ms, struct failure *failure);
void loaded_close(struct loaded *loaded);

// Add `cores_observed` and `threads_observed` to the object in `reply`; without `loaded` the calling
// thread computes alone.
void loaded_add_observed(struct text *reply, const struct loaded *loaded);

// Add the fields of a `load` about the model itself: `inputs`, `outputs`, `coverage`.
void loaded_add_model(struct text *reply, const struct loaded *loaded);

// Add `samples_ns` and `clocks_khz`.
void loaded_add_samples(struct text *reply, const struct samples *samples);

// Add `outputs` with their values, as the last run left them; none without `loaded`.
bool loaded_add_outputs(struct text *reply, const struct loaded *loaded, struct failure *failure);

#endif
