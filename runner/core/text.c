// A growing text: see text.h.
#include "text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Make room for `more` bytes and a NUL.
static bool reserve(struct text *text, size_t more) {
    if (text->broken) return false;
    if (more < text->capacity - text->length && text->data != NULL) return true;
    size_t capacity = text->capacity < 256 ? 256 : text->capacity;
    while (capacity - text->length <= more) capacity *= 2;
    char *data = realloc(text->data, capacity);
    if (data == NULL) {
        text->broken = true;
        return false;
    }
    text->data = data;
    text->capacity = capacity;
    return true;
}

void text_add_bytes(struct text *text, const char *bytes, size_t count) {
    if (!reserve(text, count)) return;
    memcpy(text->data + text->length, bytes, count);
    text->length += count;
    text->data[text->length] = '\0';
}

void text_add(struct text *text, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int needed = vsnprintf(NULL, 0, format, arguments);
    if (needed >= 0 && reserve(text, (size_t)needed)) {
        vsnprintf(text->data + text->length, (size_t)needed + 1, format, again);
        text->length += (size_t)needed;
    }
    va_end(again);
    va_end(arguments);
}

void text_free(struct text *text) {
    free(text->data);
    *text = (struct text){0};
}

size_t utf8_length(const char *bytes, size_t count) {
    if (count == 0) return 0;
    const unsigned char *byte = (const unsigned char *)bytes;
    if (byte[0] < 0x80) return 1;
    size_t length = byte[0] >= 0xF0 ? 4 : byte[0] >= 0xE0 ? 3 : 2;
    if (byte[0] < 0xC2 || byte[0] > 0xF4 || length > count) return 0;
    for (size_t i = 1; i < length; i++)
        if ((byte[i] & 0xC0) != 0x80) return 0;
    bool overlong = (byte[0] == 0xE0 && byte[1] < 0xA0) || (byte[0] == 0xF0 && byte[1] < 0x90);
    bool surrogate = byte[0] == 0xED && byte[1] >= 0xA0;
    bool beyond = byte[0] == 0xF4 && byte[1] >= 0x90;
    return overlong || surrogate || beyond ? 0 : length;
}

void text_add_string(struct text *text, const char *string) {
    text_add_bytes(text, "\"", 1);
    size_t left = strlen(string);
    while (left > 0) {
        unsigned char byte = (unsigned char)*string;
        size_t length = utf8_length(string, left);
        if (length == 0) {
            text_add(text, "\\ufffd");
            length = 1;
        } else if (byte == '"' || byte == '\\') {
            text_add(text, "\\%c", byte);
        } else if (byte < 0x20 || byte == 0x7F) {
            text_add(text, "\\u%04x", byte);
        } else {
            text_add_bytes(text, string, length);
        }
        string += length;
        left -= length;
    }
    text_add_bytes(text, "\"", 1);
}

void text_add_number(struct text *text, double number) {
    if (isfinite(number))
        text_add(text, "%.17g", number);
    else
        text_add(text, "null");
}

void text_add_name(struct text *text, const char *name) {
    bool first = text->length == 0 || text->data[text->length - 1] == '{';
    if (!first) text_add_bytes(text, ",", 1);
    text_add_string(text, name);
    text_add_bytes(text, ":", 1);
}

void text_add_base64(struct text *text, const void *bytes, size_t count) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *from = bytes;
    if (!reserve(text, (count + 2) / 3 * 4 + 2)) return;
    char *to = text->data + text->length;
    *to++ = '"';
    for (size_t i = 0; i < count; i += 3) {
        size_t have = count - i < 3 ? count - i : 3;
        uint32_t group = (uint32_t)from[i] << 16;
        if (have > 1) group |= (uint32_t)from[i + 1] << 8;
        if (have > 2) group |= from[i + 2];
        *to++ = digits[group >> 18 & 63];
        *to++ = digits[group >> 12 & 63];
        *to++ = have > 1 ? digits[group >> 6 & 63] : '=';
        *to++ = have > 2 ? digits[group & 63] : '=';
    }
    *to++ = '"';
    *to = '\0';
    text->length = (size_t)(to - text->data);
}
