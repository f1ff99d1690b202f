// Whatever bytes a host sends, paired or not, answering them breaks nothing and lets nobody in.
//
// A libFuzzer target. An input is a conversation, a line a request. Its first byte says whether the host
// has proved itself; if not, it must still not have when the input ends, since it knows no token.
//
// Almost all the time goes into reading JSON, the replies' above all: a reply that was right once is not read
// again, and a conversation ends after MAX_ASKED requests, since libFuzzer likes to make many empty ones.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "companion.h"
#include "protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_ASKED 8
#define KNOWN (1U << 16)  // replies, a power of two

static struct companion companion;
static char folder[256];

static void leave_nothing(void) {
    struct failure failure;
    cache_open(&companion.cache, folder, &failure);  // removes what was cut off
    cache_clear(&companion.cache);
    rmdir(folder);
}

static struct companion *the_companion(void) {
    static bool ready;
    if (ready) return &companion;
    struct failure failure;
    const char *where = getenv("TMPDIR");  // one in memory is the fastest
    snprintf(folder, sizeof folder, "%s/companion_fuzz_XXXXXX", where != NULL ? where : "/tmp");
    companion_init(&companion);
    companion.files.root = "/nowhere";
    companion.state.active = true;
    if (!token_make(companion.token) || mkdtemp(folder) == NULL ||
        !cache_open(&companion.cache, folder, &failure))
        abort();
    atexit(leave_nothing);
    ready = true;
    return &companion;
}

#if defined(__clang__)
#define NOT_SEEN __attribute__((no_sanitize("coverage")))  // new paths in here are none of the app's
#else
#define NOT_SEEN
#endif

// Whether this very reply was there before; from now on it was. A reply that falls on the place of another
// one replaces it, and is only read once more.
NOT_SEEN static bool was_read(const char *reply, size_t length) {
    static uint64_t known[KNOWN];
    uint64_t hash = UINT64_C(0xcbf29ce484222325);  // FNV-1a
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)reply[i]) * UINT64_C(0x100000001b3);
    const size_t place = (size_t)((hash ^ (hash >> 32)) & (KNOWN - 1));
    const bool same = known[place] == hash;
    known[place] = hash;
    return same;
}

static void read_reply(const struct text *reply) {
    struct json_document document;
    struct failure failure;
    if (reply->length == 0 || reply->data[reply->length - 1] != '\n') abort();
    if (was_read(reply->data, reply->length)) return;
    if (!json_read(&document, reply->data, reply->length, &failure)) abort();
    if (document.root->kind != JSON_OBJECT) abort();
    json_free(&document);
}

static bool has_word(const char *text, size_t length, const char *word) {
    return memmem(text, length, word, strlen(word)) != NULL;
}

static bool ask(struct conversation *conversation, const char *line, size_t length) {
    struct text reply = {0};
    // A copy of exactly that size, so that the sanitizer sees a read past its end.
    char *copy = malloc(length + (length == 0));
    if (copy == NULL) abort();
    memcpy(copy, line, length);
    bool last = conversation_answer(conversation, copy, length, &reply);
    read_reply(&reply);
    text_free(&reply);
    free(copy);
    return last;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct companion *phone = the_companion();
    static struct conversation conversation;
    if (size == 0) return 0;
    const bool paired = (data[0] & 1) != 0;
    conversation_begin(&conversation, phone);
    if (paired) {
        conversation.proved = true;
        phone->conversations = 1;
    }
    const char *at = (const char *)data + 1, *end = (const char *)data + size;
    bool last = false;
    for (unsigned asked = 0; asked < MAX_ASKED && at < end && !last; asked++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline != NULL ? newline : end;
        // A run of the reference, or a long one of anything, would only be slow.
        if (!has_word(at, (size_t)(stop - at), "run"))
            last = ask(&conversation, at, (size_t)(stop - at));
        at = stop + 1;
    }
    if (conversation.proved != paired) abort();
    conversation_end(&conversation);
    // Every input finds the phone as the first one did.
    if (has_word((const char *)data, size, "upload")) cache_clear(&phone->cache);
    return 0;
}
