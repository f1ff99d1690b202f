// A growing text, and JSON values added to it.
//
// A text that could not grow is `broken`, and everything added to it later is dropped; so only its
// end needs a look, not every step.
#ifndef LATBENCH_TEXT_H
#define LATBENCH_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"

struct text {
    char *data;  // ends with a NUL that `length` does not count; NULL while empty
    size_t length;
    size_t capacity;
    bool broken;  // memory ran out
};

void text_add(struct text *text, const char *format, ...) PRINTF_LIKE(2, 3);
void text_add_bytes(struct text *text, const char *bytes, size_t count);
void text_free(struct text *text);

// Add a JSON string, quotes included. Bytes that are not UTF-8 become U+FFFD.
void text_add_string(struct text *text, const char *string);

// Add a JSON number; null if it is not finite.
void text_add_number(struct text *text, double number);

// Add `"name":`, with a comma first unless it is the first field of its object.
void text_add_name(struct text *text, const char *name);

// Add a JSON string that holds `bytes` in base64 (RFC 4648, with padding).
void text_add_base64(struct text *text, const void *bytes, size_t count);

// The length of the UTF-8 sequence that `bytes` begin with; 0 if they begin with none.
// Overlong forms, surrogates and code points past U+10FFFF are none (RFC 3629).
size_t utf8_length(const char *bytes, size_t count);

#endif
