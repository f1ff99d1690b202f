// How lines travel: see transport.h.
#include "transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

bool channel_own_streams(struct channel *channel, struct failure *failure) {
    channel->start = channel->end = 0;
    channel->in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    channel->out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int nothing = open("/dev/null", O_RDWR);
    if (channel->in < 0 || channel->out < 0 || nothing < 0)
        return fail(failure, "there are no standard streams: %s", strerror(errno));
    if (fcntl(STDERR_FILENO, F_GETFD) < 0) dup2(nothing, STDERR_FILENO);
    dup2(nothing, STDIN_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    if (nothing > STDERR_FILENO) close(nothing);
    return true;
}

// Receive more into the buffer, which has room. Returns false at the end of the input.
static bool receive(struct channel *channel) {
    ssize_t count;
    do {
        count = read(channel->in, channel->buffer + channel->end,
                     sizeof channel->buffer - channel->end);
    } while (count < 0 && errno == EINTR);
    if (count <= 0) return false;
    channel->end += (size_t)count;
    return true;
}

// Give out what has been received up to and with the next newline; NULL if there is none yet.
static char *next_line(struct channel *channel, size_t *length) {
    char *line = channel->buffer + channel->start;
    char *newline = memchr(line, '\n', channel->end - channel->start);
    if (newline == NULL) return NULL;
    *length = (size_t)(newline - line);
    channel->start += *length + 1;
    return line;
}

static bool is_blank(const char *line, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (line[i] == '\0' || strchr(" \t\r\v\f", line[i]) == NULL) return false;
    return true;
}

enum line channel_read(struct channel *channel, char **line, size_t *length) {
    bool too_long = false;
    for (;;) {
        while ((*line = next_line(channel, length)) != NULL) {
            if (too_long) return LINE_TOO_LONG;
            if (!is_blank(*line, *length)) return LINE;
        }
        size_t left = channel->end - channel->start;
        memmove(channel->buffer, channel->buffer + channel->start, left);
        channel->start = 0;
        channel->end = left;
        if (left == sizeof channel->buffer) {
            too_long = true;
            channel->end = 0;
        }
        if (!receive(channel)) return too_long ? LINE_TOO_LONG : LINE_END;
    }
}

bool channel_write(struct channel *channel, const char *bytes, size_t count) {
    while (count > 0) {
        ssize_t written = write(channel->out, bytes, count);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        bytes += written;
        count -= (size_t)written;
    }
    return true;
}

int listen_locally(unsigned *port, struct failure *failure) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    const int yes = 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener >= 0) {
        fcntl(listener, F_SETFD, FD_CLOEXEC);
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        if (bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1) == 0 &&
            getsockname(listener, (struct sockaddr *)&address, &size) == 0) {
            *port = ntohs(address.sin_port);
            return listener;
        }
    }
    fail(failure, "cannot listen on port %u: %s", *port, strerror(errno));
    if (listener >= 0) close(listener);
    return -1;
}

bool channel_accept(struct channel *channel, int listener) {
    // A client may give up before it is accepted; but a listener that iOS took away says so for ever.
    int client, aborted = 0;
    do {
        client = accept(listener, NULL, NULL);
    } while (client < 0 && (errno == EINTR || (errno == ECONNABORTED && ++aborted < 8)));
    if (client < 0) return false;
    const int yes = 1;
    fcntl(client, F_SETFD, FD_CLOEXEC);
    // A reply must not wait for an acknowledgement of the one before.
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    channel->in = channel->out = client;
    channel->start = channel->end = 0;
    return true;
}

void channel_close(struct channel *channel) {
    shutdown(channel->in, SHUT_RDWR);  // wakes who still watches it
    close(channel->in);
}
