// Engines in libraries of their own, which may be in another language: see ../plugins.
//
// Such a library has three functions:
//
//     const struct engine *latbench_engine(void);
//     size_t latbench_engine_bytes(void);  // sizeof(struct engine): one of another runner's is refused
//     const char *latbench_engine_library(void);  // the path of what computes; NULL: itself
#ifndef LATBENCH_PLUGIN_H
#define LATBENCH_PLUGIN_H

#include "installed.h"

// Open the library at `path` and put its engine into `installed`.
bool plugin_open(const char *path, struct installed *installed, struct failure *failure);

#endif
