// Reading the fields of a request: each has a type, and most have a default.
//
// A function that returns false has put into `failure` which field is wrong, and why. If a field is
// absent, its value is left unchanged.
#ifndef LATBENCH_REQUEST_H
#define LATBENCH_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "json.h"
#include "tensor.h"

#define MAX_LIST 1024

bool request_integer(const struct json *request, const char *name, int64_t low, int64_t high,
                     int64_t *value, struct failure *failure);

// A number that is finite and not negative.
bool request_number(const struct json *request, const char *name, double *value,
                    struct failure *failure);

bool request_bool(const struct json *request, const char *name, bool *value,
                  struct failure *failure);

// A text without NULs. An absent one is an error if `value` holds NULL.
bool request_string(const struct json *request, const char *name, const char **value,
                    struct failure *failure);

struct integers {
    size_t count;
    int64_t values[MAX_LIST];
};
bool request_integers(const struct json *request, const char *name, struct integers *value,
                      struct failure *failure);

// Shapes, or null. The caller frees them; NULL if they are absent or null.
bool request_shapes(const struct json *request, const char *name, struct shape **value,
                    size_t *count, struct failure *failure);

#endif
