// The engines that are linked into the app.
#ifndef LATBENCH_ENGINES_H
#define LATBENCH_ENGINES_H

#include "companion.h"

// Core ML itself; its artifacts are .mlpackage folders, each as one tar file.
extern const struct engine coreml_engine;

// Make all engines of the app known to `companion`.
void engines_add(struct companion *companion);

#endif
