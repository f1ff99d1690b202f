// What the unit tests need: a check that says where it failed, and an end that counts them.
#ifndef LATBENCH_CHECK_H
#define LATBENCH_CHECK_H

#include <stdio.h>
#include <string.h>

static int checks_failed;

#define CHECK(condition)                                                      \
    do {                                                                      \
        if (!(condition)) {                                                   \
            printf("%s:%d: it is not so: %s\n", __FILE__, __LINE__, #condition); \
            checks_failed++;                                                  \
        }                                                                     \
    } while (0)

#define CHECK_TEXT(got, expected)                                                           \
    do {                                                                                    \
        const char *got_ = (got), *expected_ = (expected);                                  \
        if (got_ == NULL || strcmp(got_, expected_) != 0) {                                 \
            printf("%s:%d: got %s\n  expected %s\n", __FILE__, __LINE__, got_ ? got_ : "NULL", \
                   expected_);                                                              \
            checks_failed++;                                                                \
        }                                                                                   \
    } while (0)

#define CHECKS_STATUS (checks_failed == 0 ? 0 : 1)

#endif
