// Why something failed, for the person at the other end of the protocol.
#ifndef LATBENCH_FAILURE_H
#define LATBENCH_FAILURE_H

#include <stdbool.h>

#if defined(__GNUC__)
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))
#else
#define PRINTF_LIKE(text, first)
#endif

struct failure {
    char message[1024];  // one sentence: what was wrong
    char hint[320];      // what to do; empty: nothing to say
};

// Set the message of `failure`, and no hint. Returns false, so that `return fail(…)` reads well.
bool fail(struct failure *failure, const char *format, ...) PRINTF_LIKE(2, 3);

// Set the hint of a failure whose message is set. Returns false likewise.
bool hint(struct failure *failure, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
