// Reading JSON: see json.h.
#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

struct reader {
    const char *start, *at, *end;
    struct json *nodes;
    size_t count, capacity;
    char *strings;  // where decoded strings are put; they are never longer than the text
    struct failure *failure;
};

static bool wrong(struct reader *reader, const char *expected) {
    return fail(reader->failure, "%s at byte %zu", expected, (size_t)(reader->at - reader->start));
}

static void skip_space(struct reader *reader) {
    while (reader->at < reader->end && strchr(" \t\r\n", *reader->at) != NULL && *reader->at)
        reader->at++;
}

static bool next_is(struct reader *reader, char character) {
    return reader->at < reader->end && *reader->at == character;
}

static bool take(struct reader *reader, const char *word) {
    size_t length = strlen(word);
    if ((size_t)(reader->end - reader->at) < length) return false;
    if (memcmp(reader->at, word, length) != 0) return false;
    reader->at += length;
    return true;
}

static bool is_digit(const struct reader *reader) {
    return reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9';
}

static bool skip_digits(struct reader *reader) {
    if (!is_digit(reader)) return wrong(reader, "a digit is missing");
    while (is_digit(reader)) reader->at++;
    return true;
}

static bool read_number(struct reader *reader, struct json *node) {
    node->kind = JSON_NUMBER;
    const char *from = reader->at;
    bool negative = take(reader, "-");
    if (take(reader, "Infinity")) {
        node->number = negative ? -INFINITY : INFINITY;
        return true;
    }
    if (next_is(reader, '0'))
        reader->at++;
    else if (!skip_digits(reader))
        return false;
    if (take(reader, ".") && !skip_digits(reader)) return false;
    if (take(reader, "e") || take(reader, "E")) {
        if (!take(reader, "+")) take(reader, "-");
        if (!skip_digits(reader)) return false;
    }
    // strtod wants a NUL behind the number; the place for decoded strings has room for one.
    size_t length = (size_t)(reader->at - from);
    memcpy(reader->strings, from, length);
    reader->strings[length] = '\0';
    node->number = strtod(reader->strings, NULL);
    return true;
}

static bool read_hex(struct reader *reader, uint32_t *code) {
    *code = 0;
    for (int i = 0; i < 4; i++, reader->at++) {
        char digit = reader->at < reader->end ? *reader->at : '\0';
        uint32_t value;
        if (digit >= '0' && digit <= '9')
            value = (uint32_t)(digit - '0');
        else if (digit >= 'a' && digit <= 'f')
            value = (uint32_t)(digit - 'a') + 10;
        else if (digit >= 'A' && digit <= 'F')
            value = (uint32_t)(digit - 'A') + 10;
        else
            return wrong(reader, "a hexadecimal digit is missing");
        *code = *code << 4 | value;
    }
    return true;
}

static void put_utf8(struct reader *reader, uint32_t code) {
    unsigned char bytes[4];
    size_t length;
    if (code < 0x80) {
        length = 1;
        bytes[0] = (unsigned char)code;
    } else if (code < 0x800) {
        length = 2;
        bytes[0] = (unsigned char)(0xC0 | code >> 6);
    } else if (code < 0x10000) {
        length = 3;
        bytes[0] = (unsigned char)(0xE0 | code >> 12);
    } else {
        length = 4;
        bytes[0] = (unsigned char)(0xF0 | code >> 18);
    }
    for (size_t i = 1; i < length; i++)
        bytes[i] = (unsigned char)(0x80 | (code >> (6 * (length - 1 - i)) & 0x3F));
    memcpy(reader->strings, bytes, length);
    reader->strings += length;
}

static bool read_escape(struct reader *reader) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (reader->at == reader->end) return wrong(reader, "the string does not end");
    const char *simple = *reader->at ? strchr(from, *reader->at) : NULL;
    if (simple != NULL) {
        *reader->strings++ = to[simple - from];
        reader->at++;
        return true;
    }
    uint32_t code, low;
    if (!take(reader, "u")) return wrong(reader, "there is no such escape");
    if (!read_hex(reader, &code)) return false;
    if (code >= 0xD800 && code < 0xDC00) {
        if (!take(reader, "\\u") || !read_hex(reader, &low) || low < 0xDC00 || low > 0xDFFF)
            return wrong(reader, "half of a surrogate pair is missing");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    } else if (code >= 0xDC00 && code < 0xE000) {
        return wrong(reader, "half of a surrogate pair is missing");
    }
    put_utf8(reader, code);
    return true;
}

static bool read_string(struct reader *reader, const char **string, size_t *length) {
    if (!take(reader, "\"")) return wrong(reader, "a string is missing");
    char *begin = reader->strings;
    while (!take(reader, "\"")) {
        if (reader->at == reader->end) return wrong(reader, "the string does not end");
        if (take(reader, "\\")) {
            if (!read_escape(reader)) return false;
            continue;
        }
        size_t bytes = utf8_length(reader->at, (size_t)(reader->end - reader->at));
        if (bytes == 0) return wrong(reader, "there is no UTF-8");
        if ((unsigned char)*reader->at < 0x20) return wrong(reader, "there is a control character");
        memcpy(reader->strings, reader->at, bytes);
        reader->strings += bytes;
        reader->at += bytes;
    }
    *length = (size_t)(reader->strings - begin);
    *reader->strings++ = '\0';
    *string = begin;
    return true;
}

static struct json *read_value(struct reader *reader, int depth);

// Read the children of an array or object whose bracket has been taken.
static bool read_children(struct reader *reader, struct json *node, char close, int depth) {
    struct json **place = &node->first;
    skip_space(reader);
    if (next_is(reader, close)) {
        reader->at++;
        return true;
    }
    for (;;) {
        const char *name = NULL;
        size_t length = 0;
        skip_space(reader);
        if (node->kind == JSON_OBJECT) {
            if (!read_string(reader, &name, &length)) return false;
            skip_space(reader);
            if (!take(reader, ":")) return wrong(reader, "a colon is missing");
        }
        struct json *child = read_value(reader, depth);
        if (child == NULL) return false;
        child->name = name;
        *place = child;
        place = &child->next;
        node->length++;
        skip_space(reader);
        if (next_is(reader, close)) {
            reader->at++;
            return true;
        }
        if (!take(reader, ",")) return wrong(reader, "a comma is missing");
    }
}

static bool read_content(struct reader *reader, struct json *node, int depth) {
    if (next_is(reader, '"')) {
        node->kind = JSON_STRING;
        return read_string(reader, &node->string, &node->length);
    }
    if (next_is(reader, '[') || next_is(reader, '{')) {
        if (depth == JSON_MAX_DEPTH) return wrong(reader, "it is nested too deeply");
        node->kind = next_is(reader, '[') ? JSON_ARRAY : JSON_OBJECT;
        reader->at++;
        return read_children(reader, node, node->kind == JSON_ARRAY ? ']' : '}', depth + 1);
    }
    if (take(reader, "null")) return true;
    node->kind = JSON_BOOL;
    if ((node->truth = take(reader, "true")) || take(reader, "false")) return true;
    node->kind = JSON_NUMBER;
    node->number = NAN;
    if (take(reader, "NaN")) return true;
    if (next_is(reader, '-') || next_is(reader, 'I') || is_digit(reader))
        return read_number(reader, node);
    return wrong(reader, "a value is missing");
}

static struct json *read_value(struct reader *reader, int depth) {
    skip_space(reader);
    if (reader->count == reader->capacity) {
        wrong(reader, "there are too many values");
        return NULL;
    }
    struct json *node = &reader->nodes[reader->count++];
    *node = (struct json){.kind = JSON_NULL, .raw = reader->at};
    if (!read_content(reader, node, depth)) return NULL;
    node->raw_length = (size_t)(reader->at - node->raw);
    return node;
}

bool json_read(struct json_document *document, const char *text, size_t length,
               struct failure *failure) {
    *document = (struct json_document){0};
    // Two neighbours have a separator between them, and each depth may have one bracket more. A
    // decoded string is shorter than its text with its quotes, and has a NUL; a number needs one.
    size_t capacity = length / 2 + JSON_MAX_DEPTH + 2;
    document->nodes = malloc(capacity * sizeof *document->nodes);
    document->strings = malloc(length + 2);
    if (document->nodes == NULL || document->strings == NULL) {
        json_free(document);
        return fail(failure, "out of memory");
    }
    struct reader reader = {
        .start = text, .at = text, .end = text + length,
        .nodes = document->nodes, .capacity = capacity,
        .strings = document->strings, .failure = failure,
    };
    document->root = read_value(&reader, 0);
    skip_space(&reader);
    if (document->root != NULL && reader.at != reader.end) {
        document->root = NULL;
        wrong(&reader, "there is more behind the value");
    }
    if (document->root == NULL) {
        json_free(document);
        return false;
    }
    return true;
}

void json_free(struct json_document *document) {
    free(document->nodes);
    free(document->strings);
    *document = (struct json_document){0};
}

const struct json *json_member(const struct json *object, const char *name) {
    const struct json *found = NULL;
    if (object->kind != JSON_OBJECT) return NULL;
    for (const struct json *member = object->first; member != NULL; member = member->next)
        if (strcmp(member->name, name) == 0) found = member;
    return found;
}

bool json_integer(const struct json *value, int64_t *result) {
    const double exact = 9007199254740992.0;  // 2^53
    if (value->kind != JSON_NUMBER || !isfinite(value->number)) return false;
    if (trunc(value->number) != value->number || fabs(value->number) > exact) return false;
    *result = (int64_t)value->number;
    return true;
}
