// Whatever bytes a host sends, paired or not, answering them breaks nothing and lets nobody in.
//
// A libFuzzer target. An input is a conversation, a line a request. Its first byte says whether the host
// has proved itself; if not, it must still not have when the input ends, since it knows no token.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "companion.h"
#include "protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct companion companion;
static char folder[] = "/tmp/companion_fuzz_XXXXXX";

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

// A run of the reference, or a long one of anything, would only be slow.
static bool is_slow(const char *line, size_t length) {
    return length >= 3 && memmem(line, length, "run", 3) != NULL;
}

static bool ask(struct conversation *conversation, const char *line, size_t length) {
    struct text reply = {0};
    struct json_document document;
    struct failure failure;
    // A copy of exactly that size, so that the sanitizer sees a read past its end.
    char *copy = malloc(length + (length == 0));
    if (copy == NULL) abort();
    memcpy(copy, line, length);
    bool last = conversation_answer(conversation, copy, length, &reply);
    if (reply.length == 0 || reply.data[reply.length - 1] != '\n') abort();
    if (!json_read(&document, reply.data, reply.length, &failure)) abort();
    if (document.root->kind != JSON_OBJECT) abort();
    json_free(&document);
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
    while (at < end && !last) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline != NULL ? newline : end;
        if (!is_slow(at, (size_t)(stop - at)))
            last = ask(&conversation, at, (size_t)(stop - at));
        at = stop + 1;
    }
    if (conversation.proved != paired) abort();
    conversation_end(&conversation);
    return 0;
}
