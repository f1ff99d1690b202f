// Connections: see companion.h. Each has a thread of its own; engines see one request at a time.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "companion.h"
#include "protocol.h"
#include "timing.h"

#define MAX_CONNECTIONS 16
#define PROOF_S 5   // a host that has not proved itself by then is sent away, however it dawdles
#define SEND_S 30   // nor may it leave a reply unread for longer
#define LOOK_MS 200  // how often that is looked at

struct connection {
    struct conversation conversation;
    struct channel channel;
    int64_t since_ns;
    bool over;  // its thread is done with it
    pthread_t thread;
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct connection *table[MAX_CONNECTIONS];

static void *converse(void *argument) {
    struct connection *connection = argument;
    struct text reply = {0};
    bool last = false;
    while (!last) {
        char *line;
        size_t length;
        enum line kind = channel_read(&connection->channel, &line, &length);
        if (kind == LINE_END) break;
        if (kind == LINE) {
            last = conversation_answer(&connection->conversation, line, length, &reply);
        } else {
            protocol_refuse_long_line(&reply);
            last = !connection->conversation.proved;
        }
        if (reply.broken || !channel_write(&connection->channel, reply.data, reply.length)) break;
        text_free(&reply);
    }
    text_free(&reply);
    conversation_end(&connection->conversation);
    pthread_mutex_lock(&table_lock);
    connection->over = true;
    pthread_mutex_unlock(&table_lock);
    return NULL;
}

// Close what is over, and send away who has not proved himself in time. Returns a free place, or NULL.
static struct connection **tidy(struct companion *companion) {
    struct connection **place = NULL;
    pthread_mutex_lock(&table_lock);
    for (size_t i = 0; i < MAX_CONNECTIONS; i++) {
        struct connection *connection = table[i];
        if (connection != NULL && connection->over) {
            pthread_join(connection->thread, NULL);
            channel_close(&connection->channel);
            free(connection);
            connection = table[i] = NULL;
        }
        if (connection == NULL) {
            place = &table[i];
            continue;
        }
        pthread_mutex_lock(&companion->changed);
        bool proved = connection->conversation.proved;
        pthread_mutex_unlock(&companion->changed);
        if (!proved && now_ns() - connection->since_ns > PROOF_S * INT64_C(1000000000))
            shutdown(connection->channel.in, SHUT_RDWR);  // its thread sees the end of its input
    }
    pthread_mutex_unlock(&table_lock);
    return place;
}

// Notice a host that is gone without a word, as one on Wi-Fi may be.
static void set_limits(int client) {
    const int yes = 1, seconds = 10;
    const struct timeval patience = {.tv_sec = SEND_S};
    setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(client, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
#if defined(TCP_KEEPIDLE)
    setsockopt(client, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
#elif defined(TCP_KEEPALIVE)
    setsockopt(client, IPPROTO_TCP, TCP_KEEPALIVE, &seconds, sizeof seconds);
#endif
#if defined(TCP_KEEPINTVL) && defined(TCP_KEEPCNT)
    const int interval = 5, probes = 3;
    setsockopt(client, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(client, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
#endif
}

// False if no connection could be taken from the listener.
static bool receive(struct companion *companion, int listener) {
    struct connection **place = tidy(companion);
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL || !channel_accept(&connection->channel, listener)) {
        free(connection);
        return false;
    }
    set_limits(connection->channel.in);
    conversation_begin(&connection->conversation, companion);
    connection->since_ns = now_ns();
    if (place == NULL ||
        pthread_create(&connection->thread, NULL, converse, connection) != 0) {
        channel_close(&connection->channel);
        free(connection);
        return true;
    }
    pthread_mutex_lock(&table_lock);
    *place = connection;
    pthread_mutex_unlock(&table_lock);
    return true;
}

static int listen_on_network(unsigned *port, struct failure *failure) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
    socklen_t size = sizeof address;
    const int yes = 1;
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener >= 0) {
        fcntl(listener, F_SETFD, FD_CLOEXEC);
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        if (bind(listener, (struct sockaddr *)&address, size) == 0 &&
            listen(listener, MAX_CONNECTIONS) == 0 &&
            getsockname(listener, (struct sockaddr *)&address, &size) == 0) {
            *port = ntohs(address.sin_port);
            return listener;
        }
    }
    fail(failure, "cannot listen on port %u: %s", *port, strerror(errno));
    if (listener >= 0) close(listener);
    return -1;
}

void companion_serve(struct companion *companion, struct failure *failure) {
    unsigned port = companion->port;
    int listener = companion->on_network ? listen_on_network(&port, failure)
                                         : listen_locally(&port, failure);
    if (listener < 0) return;
    signal(SIGPIPE, SIG_IGN);  // writing then says that nobody reads
    listen(listener, MAX_CONNECTIONS);
    if (companion->listening != NULL) companion->listening(port);
    struct pollfd waiting = {.fd = listener, .events = POLLIN};
    for (;;) {
        int ready = poll(&waiting, 1, LOOK_MS);
        if (ready < 0 && errno != EINTR) break;
        // iOS takes the socket away while the app is in the background.
        if (ready > 0 && (waiting.revents & POLLIN) == 0) break;
        if (ready > 0 && !receive(companion, listener)) break;
        if (ready <= 0) tidy(companion);
    }
    fail(failure, "the socket that hosts connect to is gone");
    close(listener);
}
