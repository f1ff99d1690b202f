// The temperatures of Linux's thermal zones and hardware monitors.
#ifndef LATBENCH_TEMPERATURES_H
#define LATBENCH_TEMPERATURES_H

#include "files.h"
#include "text.h"

// Add the field `temperatures_c`, an object of degrees Celsius by name; a name that repeats gets a
// number. Nothing is added if there are none.
void temperatures_add(struct text *text, const struct files *files);

#endif
