// Reading JSON (RFC 8259): one text becomes a tree.
//
// Two things are as in Python's json module, which the Python worker reads requests with:
// NaN, Infinity and -Infinity are numbers, and the last of two equal names in an object counts.
#ifndef LATBENCH_JSON_H
#define LATBENCH_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"

enum json_kind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_kind kind;
    const char *name;  // of a member of an object
    const char *raw;   // the value as it was written
    size_t raw_length;
    bool truth;          // JSON_BOOL
    double number;       // JSON_NUMBER
    const char *string;  // JSON_STRING: UTF-8, decoded; NUL-terminated
    size_t length;       // JSON_STRING: bytes, since it may hold a NUL; JSON_ARRAY: elements
    struct json *first;  // JSON_ARRAY, JSON_OBJECT: the first child
    struct json *next;   // the next child of the same parent
};

// How deeply arrays and objects can be nested. Requests of the protocol need three levels.
#define JSON_MAX_DEPTH 64

struct json_document {
    struct json *root;
    struct json *nodes;
    char *strings;
};

// Read `length` bytes at `text`, which need not end with a NUL but must outlive the document.
// Returns false, with the reason and the place in `failure`, if they are not JSON.
bool json_read(struct json_document *document, const char *text, size_t length,
               struct failure *failure);
void json_free(struct json_document *document);

// The member called `name` of an object; NULL if there is none.
const struct json *json_member(const struct json *object, const char *name);

// Whether a value is a whole number that a double holds exactly; puts it into `result`.
bool json_integer(const struct json *value, int64_t *result);

#endif
