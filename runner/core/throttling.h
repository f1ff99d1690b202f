// The time in which a CPU quota held this process back, as its cgroups tell.
#ifndef LATBENCH_THROTTLING_H
#define LATBENCH_THROTTLING_H

#include "files.h"
#include "text.h"

// Add the field `throttled_s`, seconds since boot, summed over this process's CPU cgroup and those
// above it. Nothing is added where none tells.
void throttling_add(struct text *text, const struct files *files);

#endif
