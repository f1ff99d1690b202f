// The companion app without its shell: the state of the phone that all threads serve to hosts.
#ifndef LATBENCH_COMPANION_H
#define LATBENCH_COMPANION_H

#include <pthread.h>

#include "cache.h"
#include "pairing.h"
#include "phone_state.h"
#include "runner.h"

#define COMPANION_PORT 58627  // of the phone, where the app listens

struct companion {
    // Set before `companion_serve`, and not changed after it.
    char token[TOKEN_TEXT_SIZE];
    struct cache cache;
    struct engines engines;
    struct files files;
    const char *model, *os_version, *unit;  // "iPhone10,3", "16.7.10", the phone's identifier
    bool emulated;                          // its times mean nothing
    unsigned port;                          // 0: one that is free
    bool on_network;                        // reachable by Wi-Fi too, not by cable alone
    void (*refresh)(struct companion *);    // brings `state` up to date; NULL: the shell does by itself
    void (*listening)(unsigned port);       // called once it listens; may be NULL

    // Requests that touch engines are answered one at a time, whichever conversation they are of.
    pthread_mutex_t requests;

    // Guarded by `changed`, and read by the shell to show it.
    pthread_mutex_t changed;
    struct phone_state state;
    const char *doing;          // the op that is being answered, "waiting" between two
    char session[NONCE_SIZE];   // of the host that measures; empty: none does
    unsigned conversations;     // that it holds
    unsigned refused_hosts;     // how often a host could not prove that it knows the token
};

// Make everything empty; the caller sets the rest.
void companion_init(struct companion *companion);

// A copy of the state, brought up to date.
struct phone_state companion_state(struct companion *companion);

// For the shell, which may call it from any thread.
void companion_set_state(struct companion *companion, const struct phone_state *state);

// One host's connection.
struct conversation {
    struct companion *companion;
    struct runner runner;
    struct upload upload;
    char session[NONCE_SIZE], host_nonce[NONCE_SIZE], phone_nonce[NONCE_SIZE];
    bool asked, proved;
};

void conversation_begin(struct conversation *conversation, struct companion *companion);

// Answer one line, as `protocol_answer`: until the host has proved that it knows the token, `pair` and
// `prove` alone are answered. Returns whether it is the last.
bool conversation_answer(struct conversation *conversation, const char *line, size_t length,
                         struct text *reply);

// Free what it holds.
void conversation_end(struct conversation *conversation);

// Serve until the socket fails; returns with the reason then. Each connection has a thread of its own.
void companion_serve(struct companion *companion, struct failure *failure);

#endif
