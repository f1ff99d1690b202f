// The runner protocol, version 1 (docs/runner-protocol.md): one line in, one line out.
#ifndef LATBENCH_PROTOCOL_H
#define LATBENCH_PROTOCOL_H

#include "runner.h"
#include "transport.h"

// Answer one line: put the reply, with its newline, into `reply`, which is empty before. Returns
// whether it is the last. `line` need not end with a NUL.
bool protocol_answer(struct runner *runner, const char *line, size_t length, struct text *reply);

// Begin a reply with the id of its request as it was written; NULL: with null. The rest is an object's
// fields, a brace and a newline.
void protocol_begin(struct text *reply, const struct json *id);

// Put the whole reply to a request that is refused into `reply`; `stage` is the op.
void protocol_refuse(struct text *reply, const struct json *id, const char *stage,
                     const struct failure *failure);

// Answer a line that was too long to be read.
void protocol_refuse_long_line(struct text *reply);

// Answer requests until `quit`, the end of the input, or the loss of the client. Returns whether
// it was `quit`.
bool protocol_serve(struct runner *runner, struct channel *channel);

#endif
