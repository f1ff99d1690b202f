// The state of this unit, as far as Linux, and so Android, shows it without root.
#ifndef LATBENCH_CONDITIONS_H
#define LATBENCH_CONDITIONS_H

#include "files.h"
#include "text.h"

// Add the fields of `Conditions` (latbench/device/conditions.py) to a JSON object that is being written.
// Unavailable values are left out: also the thermal status and the screen, which on Android only
// `dumpsys` reports, and the time, which is the host's.
void conditions_add(struct text *text, const struct files *files);

#endif
