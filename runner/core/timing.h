// The innermost loop: run, and take the time.
#ifndef LATBENCH_TIMING_H
#define LATBENCH_TIMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"
#include "files.h"

#define MAX_SAMPLES 500000  // of one `run`: they must fit in a reply

// Nanoseconds of a clock that never jumps.
int64_t now_ns(void);

// The present clock of one core, read again and again from one open file.
struct clock_reader {
    int file;
    int64_t khz;
    int64_t due_ns;  // when the file is to be read again
};

// Returns false where the system does not tell the clock of `core`.
bool clock_open(struct clock_reader *clock, const struct files *files, int core);
void clock_close(struct clock_reader *clock);

// The clock in kHz as it was at most 5 ms before `at_ns`.
int64_t clock_khz(struct clock_reader *clock, int64_t at_ns);

// What `run` asks for; see docs/runner-protocol.md.
struct sampling {
    int64_t warmups, min_samples, max_samples;
    double warmup_seconds, seconds, idle_ms;
};

struct samples {
    size_t count;
    int64_t *ns;   // how long each run took
    int64_t *khz;  // the clock before each; NULL if it is not reported
};

// Warm up and time `run` as `sampling` says. `clock` may be NULL. If a run fails, the reason is in
// `failure` and there are no samples.
bool take_samples(bool (*run)(void *context, struct failure *failure), void *context,
                  const struct sampling *sampling, struct clock_reader *clock,
                  struct samples *samples, struct failure *failure);
void samples_free(struct samples *samples);

#endif
