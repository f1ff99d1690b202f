// Artifacts that are folders (Core ML's .mlpackage): they travel as one POSIX tar file (ustar).
#ifndef LATBENCH_PACKAGE_H
#define LATBENCH_PACKAGE_H

#include <stdbool.h>

#include "failure.h"

// Unpack the tar file at `path` into the new folder `folder`. Only files and folders below it are
// taken; an archive with any other member, or a name that leads out, is refused.
bool package_unpack(const char *path, const char *folder, struct failure *failure);

#endif
