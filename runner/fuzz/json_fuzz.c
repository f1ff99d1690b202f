// Whatever bytes come, reading them as JSON and answering them as a request breaks nothing.
//
// With clang: a libFuzzer target (-fsanitize=fuzzer). With any other compiler: a program that makes
// up bytes itself, from the seeds below, so many times as its argument says.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Whatever is JSON must still be the same JSON after it has been written again as an id.
static void check_id(const char *text, size_t size) {
    struct json_document document;
    struct failure failure;
    if (!json_read(&document, text, size, &failure)) return;
    if (document.root->raw_length > size) abort();
    json_free(&document);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct runner runner = {.files = {.root = "/nowhere"}};
    // A copy of exactly that size, so that the sanitizer sees a read past its end.
    char *line = malloc(size + (size == 0));
    if (line == NULL) return 0;
    memcpy(line, data, size);
    check_id(line, size);
    struct text reply = {0};
    protocol_answer(&runner, line, size, &reply);
    if (reply.length == 0 || reply.data[reply.length - 1] != '\n') abort();
    struct json_document document;
    struct failure failure;
    if (!json_read(&document, reply.data, reply.length, &failure)) abort();
    if (document.root->kind != JSON_OBJECT) abort();
    json_free(&document);
    text_free(&reply);
    free(line);
    return 0;
}

#ifndef LATBENCH_LIBFUZZER
static const char *const SEEDS[] = {
    "{\"id\": 3, \"op\": \"run\", \"handle\": \"m1\", \"min_samples\": 3, \"seconds\": 1.5e-3}",
    "{\"id\":[1,{\"a\":null}],\"op\":\"hello\",\"versions\":[1,2,-7]}",
    "{\"op\":\"load\",\"path\":\"/a\\u00e9\\ud83d\\ude00\",\"runtime\":\"onnx\",\"input_shapes\":[[1,3,8,8]]}",
    "{\"op\":\"conditions\",\"x\":[[[[[[[[[true,false]]]]]]]]],\"y\":NaN}",
};
static const char PIECES[] = "{}[]\",:\\u0-+.eE19tfnN \t\n\xc3\xa9\xf0\xff";

static uint32_t random_number(void) {
    static uint32_t state = 2463534242;  // xorshift (Marsaglia 2003)
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

int main(int count, char **arguments) {
    long times = count > 1 ? strtol(arguments[1], NULL, 10) : 20000;
    for (long i = 0; i < times; i++) {
        uint8_t data[512];
        const char *seed = SEEDS[random_number() % (sizeof SEEDS / sizeof *SEEDS)];
        size_t size = strlen(seed);
        memcpy(data, seed, size);
        for (uint32_t edits = random_number() % 8; edits > 0 && size > 0; edits--) {
            size_t at = random_number() % size;
            uint8_t piece = (uint8_t)PIECES[random_number() % (sizeof PIECES - 1)];
            if (random_number() % 3 == 0) {
                memmove(data + at, data + at + 1, --size - at);
            } else if (random_number() % 2 == 0 && size < sizeof data) {
                memmove(data + at + 1, data + at, size++ - at);
                data[at] = piece;
            } else {
                data[at] = piece;
            }
        }
        if (random_number() % 10 == 0) size = size * (random_number() % 100) / 100;
        LLVMFuzzerTestOneInput(data, size);
    }
    printf("%ld inputs\n", times);
    return 0;
}
#endif
