// What the scheduler lets this process's threads do: on which cores, and how long they wait.
//
// Linux keeps an affinity for each thread, and a new thread inherits that of the thread that starts
// it: so pinning has to visit every thread there is, before an engine starts more.
#ifndef LATBENCH_AFFINITY_H
#define LATBENCH_AFFINITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"

#define MAX_CORES 1024    // cores are numbered below it
#define MAX_THREADS 4096  // of this process that are looked at

struct cores {
    bool known;  // whether the system tells
    size_t count;
    int cores[MAX_CORES];  // ascending
};

// Let every thread of this process run on `cores` only.
bool affinity_pin(const int *cores, size_t count, struct failure *failure);

// Forget what `affinity_pin` did: every thread may run where the process might when it started.
void affinity_restore(void);

// Remember where the process may run now, for `affinity_restore`.
void affinity_remember(void);

// The cores that any thread of this process may use.
void affinity_observed(struct cores *cores);

// The system's numbers of this process's threads; none where it does not tell.
struct threads {
    size_t count;
    int ids[MAX_THREADS];
};
void affinity_threads(struct threads *threads);

// Nanoseconds in which threads of this process were ready to run while others had their core: since
// each thread began, summed over those that live. Returns false where the system does not tell.
// Source: Linux, Documentation/scheduler/sched-stats.rst, second figure of /proc/<pid>/schedstat.
bool affinity_waited_ns(int64_t *nanoseconds);

// Write cores like "core 3", "cores 0,1" or "any core".
void cores_say(const int *cores, size_t count, char *text, size_t size);

#endif
