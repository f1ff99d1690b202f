// What state this unit is in, as far as Linux, and so Android, shows it without root.
#ifndef LATBENCH_CONDITIONS_H
#define LATBENCH_CONDITIONS_H

#include "files.h"
#include "text.h"

// Add the fields of `Conditions` (latbench/device/conditions.py) to a JSON object that is being written.
// What the unit does not tell is left out: so are the thermal status and the screen, which on
// Android only `dumpsys` tells, and the time, which is the host's.
void conditions_add(struct text *text, const struct files *files);

#endif
