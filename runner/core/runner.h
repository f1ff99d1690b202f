// The loaded models, and the threads and cores that they share.
#ifndef LATBENCH_RUNNER_H
#define LATBENCH_RUNNER_H

#include "affinity.h"
#include "files.h"
#include "installed.h"
#include "json.h"
#include "reference.h"
#include "text.h"

struct loaded;

struct runner {
    struct files files;      // where /proc and /sys are
    const char *scratch;     // a folder for what several loads of a file share; NULL: there is none
    struct engines engines;  // those that may be there
    struct loaded *models;
    struct reference reference;  // empty until it is first run
    long long loads;  // so far; handles are numbered by it
    bool settled;     // whether there has been a load, which sets threads and cores for all
    int threads;
    size_t core_count;
    int cores[MAX_CORES];
};

// What the ops do. Each adds the fields of its reply to the object in `reply`, or returns false
// with the reason in `failure`.
bool runner_hello(struct runner *runner, const struct json *request, struct text *reply,
                  struct failure *failure);
bool runner_load(struct runner *runner, const struct json *request, struct text *reply,
                 struct failure *failure);
bool runner_run(struct runner *runner, const struct json *request, struct text *reply,
                struct failure *failure);
bool runner_conditions(struct runner *runner, const struct json *request, struct text *reply,
                       struct failure *failure);
bool runner_unload(struct runner *runner, const struct json *request, struct text *reply,
                   struct failure *failure);

// Unload every model and the reference, and reset threads and cores: the next client may use another target.
void runner_reset(struct runner *runner);

// Remove the folder that loads share, for a client that is gone.
void runner_remove_scratch(const struct runner *runner);

#endif
