// The CPU affinity of this process's threads, and how long they wait for a core.
//
// Linux keeps an affinity for each thread, and a new thread inherits that of the thread that starts
// it: so pinning must set it for all existing threads, before an engine starts more.
#ifndef LATBENCH_AFFINITY_H
#define LATBENCH_AFFINITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"

#define MAX_CORES 1024    // cores are numbered below it
#define MAX_THREADS 4096  // of this process that are looked at

struct cores {
    bool known;  // whether the system reports them
    size_t count;
    int cores[MAX_CORES];  // ascending
};

// Pin every thread of this process to `cores`.
bool affinity_pin(const int *cores, size_t count, struct failure *failure);

// Undo `affinity_pin`: every thread may run on the cores of the process when it started.
void affinity_restore(void);

// Save the cores of the process for `affinity_restore`.
void affinity_remember(void);

// The cores that any thread of this process may use.
void affinity_observed(struct cores *cores);

// The thread IDs of this process; none if the system does not list them.
struct threads {
    size_t count;
    int ids[MAX_THREADS];
};
void affinity_threads(struct threads *threads);

// Nanoseconds in which threads of this process were ready to run while others used their core, since
// each thread started, summed over living threads. Returns false if the system does not report it.
// Source: Linux, Documentation/scheduler/sched-stats.rst, second figure of /proc/<pid>/schedstat.
bool affinity_waited_ns(int64_t *nanoseconds);

// Write cores like "core 3", "cores 0,1" or "any core".
void cores_say(const int *cores, size_t count, char *text, size_t size);

#endif
