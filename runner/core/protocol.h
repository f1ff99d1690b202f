// The runner protocol, version 1 (docs/runner-protocol.md): one line in, one line out.
#ifndef LATBENCH_PROTOCOL_H
#define LATBENCH_PROTOCOL_H

#include "runner.h"
#include "transport.h"

// Answer one line: put the reply, with its newline, into `reply`, which is empty before. Returns
// whether it is the last. `line` need not end with a NUL.
bool protocol_answer(struct runner *runner, const char *line, size_t length, struct text *reply);

// Answer a line that was too long to be read.
void protocol_refuse_long_line(struct text *reply);

// Answer what comes until `quit`, the end of the input, or the loss of who listens. Returns whether
// it was `quit`.
bool protocol_serve(struct runner *runner, struct channel *channel);

#endif
