// How lines reach the runner and leave it: its standard streams, or one TCP connection at a time.
#ifndef LATBENCH_TRANSPORT_H
#define LATBENCH_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "failure.h"

#define MAX_REQUEST_BYTES 65536            // the longest line that must be taken, with its newline
#define MAX_REPLY_BYTES (16 * 1024 * 1024)  // the longest line that a client takes

struct channel {
    int in, out;
    size_t start, end;  // of what has been received and not yet been given out
    char buffer[MAX_REQUEST_BYTES];
};

enum line { LINE, LINE_TOO_LONG, LINE_END };

// Take the standard streams for the protocol, and give everyone else an empty input and the
// standard error: engines print what they like, and none of it may get between the replies.
bool channel_own_streams(struct channel *channel, struct failure *failure);

// Wait for a line that holds something. LINE_TOO_LONG: it has been passed over. LINE_END: the input
// has ended; a line that was cut off is dropped, since nobody waits for its answer.
// `line` is valid until the next call.
enum line channel_read(struct channel *channel, char **line, size_t *length);

// Write all of it. Returns false if nobody reads any more.
bool channel_write(struct channel *channel, const char *bytes, size_t count);

// Listen on a port of the loopback interface; 0: any that is free, which is put into `port`.
// Returns the socket, or -1.
int listen_locally(unsigned *port, struct failure *failure);

// Wait for the next client. Returns false if the socket is of no use any more.
bool channel_accept(struct channel *channel, int listener);
void channel_close(struct channel *channel);

#endif
