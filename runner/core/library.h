// Opening an engine's library and finding its functions.
#ifndef LATBENCH_LIBRARY_H
#define LATBENCH_LIBRARY_H

#include <stdbool.h>

#include "failure.h"

// Open the library at `path`; NULL with the reason if the system's loader refuses it.
void *library_open(const char *path, struct failure *failure);

// Put the function called `name` into the function pointer at `function`, whatever its type.
// Returns false, and puts nothing, if the library has none.
bool library_find(void *library, const char *name, void *function);

#endif
