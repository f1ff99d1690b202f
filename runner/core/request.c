// Fields of requests: see request.h.
#include "request.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool request_integer(const struct json *request, const char *name, int64_t low, int64_t high,
                     int64_t *value, struct failure *failure) {
    const struct json *field = json_member(request, name);
    if (field == NULL) return true;
    int64_t number;
    if (!json_integer(field, &number) || number < low || number > high)
        return fail(failure, "field %s: it should be a whole number from %lld to %lld", name,
                    (long long)low, (long long)high);
    *value = number;
    return true;
}

bool request_number(const struct json *request, const char *name, double *value,
                    struct failure *failure) {
    const struct json *field = json_member(request, name);
    if (field == NULL) return true;
    if (field->kind != JSON_NUMBER || !isfinite(field->number) || field->number < 0)
        return fail(failure, "field %s: it should be a finite number that is not negative", name);
    *value = field->number;
    return true;
}

bool request_bool(const struct json *request, const char *name, bool *value,
                  struct failure *failure) {
    const struct json *field = json_member(request, name);
    if (field == NULL) return true;
    if (field->kind != JSON_BOOL)
        return fail(failure, "field %s: it should be true or false", name);
    *value = field->truth;
    return true;
}

bool request_string(const struct json *request, const char *name, const char **value,
                    struct failure *failure) {
    const struct json *field = json_member(request, name);
    if (field == NULL && *value != NULL) return true;
    if (field == NULL) return fail(failure, "field %s: it is missing", name);
    if (field->kind != JSON_STRING || strlen(field->string) != field->length)
        return fail(failure, "field %s: it should be a text", name);
    *value = field->string;
    return true;
}

bool request_integers(const struct json *request, const char *name, struct integers *value,
                      struct failure *failure) {
    const struct json *field = json_member(request, name);
    if (field == NULL) return true;
    if (field->kind != JSON_ARRAY || field->length > MAX_LIST)
        return fail(failure, "field %s: it should be an array of at most %d whole numbers", name,
                    MAX_LIST);
    value->count = 0;
    for (const struct json *child = field->first; child != NULL; child = child->next) {
        int64_t number;
        if (!json_integer(child, &number) || number < INT32_MIN || number > INT32_MAX)
            return fail(failure, "field %s: it should hold whole numbers only", name);
        value->values[value->count++] = number;
    }
    return true;
}

static bool read_shape(const struct json *array, struct shape *shape) {
    if (array->kind != JSON_ARRAY || array->length > MAX_RANK) return false;
    for (const struct json *dim = array->first; dim != NULL; dim = dim->next) {
        int64_t number;
        if (!json_integer(dim, &number) || number > INT32_MAX || number < INT32_MIN) return false;
        shape->dims[shape->rank++] = number;
    }
    return true;
}

bool request_shapes(const struct json *request, const char *name, struct shape **value,
                    size_t *count, struct failure *failure) {
    const struct json *field = json_member(request, name);
    *value = NULL;
    *count = 0;
    if (field == NULL || field->kind == JSON_NULL) return true;
    if (field->kind != JSON_ARRAY || field->length > MAX_LIST)
        return fail(failure, "field %s: it should be an array of shapes, or null", name);
    *value = calloc(field->length + 1, sizeof **value);
    if (*value == NULL) return fail(failure, "out of memory");
    for (const struct json *child = field->first; child != NULL; child = child->next) {
        if (read_shape(child, &(*value)[(*count)++])) continue;
        free(*value);
        *value = NULL;
        return fail(failure, "field %s: a shape should be an array of at most %d whole numbers",
                    name, MAX_RANK);
    }
    return true;
}
