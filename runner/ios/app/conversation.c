// What a request passes before it reaches the runner: see companion.h.
#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "companion.h"
#include "protocol.h"
#include "request.h"

void companion_init(struct companion *companion) {
    *companion = (struct companion){.files = {.root = "/"},
                                    .model = "unknown",
                                    .os_version = "unknown",
                                    .unit = "unknown",
                                    .port = COMPANION_PORT,
                                    .doing = "waiting",
                                    .state = {.battery_percent = -1}};
    pthread_mutex_init(&companion->requests, NULL);
    pthread_mutex_init(&companion->changed, NULL);
}

struct phone_state companion_state(struct companion *companion) {
    if (companion->refresh != NULL) companion->refresh(companion);
    pthread_mutex_lock(&companion->changed);
    struct phone_state state = companion->state;
    pthread_mutex_unlock(&companion->changed);
    return state;
}

void companion_set_state(struct companion *companion, const struct phone_state *state) {
    pthread_mutex_lock(&companion->changed);
    bool active = state->active;
    unsigned left = companion->state.left;
    bool was_active = companion->state.active;
    companion->state = *state;
    companion->state.left = left;
    companion->state.active = was_active;
    phone_state_set_active(&companion->state, active);
    pthread_mutex_unlock(&companion->changed);
}

static void show(struct companion *companion, const char *doing) {
    pthread_mutex_lock(&companion->changed);
    companion->doing = doing;
    pthread_mutex_unlock(&companion->changed);
}

void conversation_begin(struct conversation *conversation, struct companion *companion) {
    *conversation = (struct conversation){.companion = companion};
    conversation->runner.files = companion->files;
}

void conversation_end(struct conversation *conversation) {
    struct companion *companion = conversation->companion;
    pthread_mutex_lock(&companion->requests);
    runner_reset(&conversation->runner);
    upload_drop(&conversation->upload);
    pthread_mutex_unlock(&companion->requests);
    if (!conversation->proved) return;
    pthread_mutex_lock(&companion->changed);
    if (--companion->conversations == 0) companion->session[0] = '\0';
    pthread_mutex_unlock(&companion->changed);
}

// Pairing

static bool pair(struct conversation *conversation, const struct json *request, struct text *reply,
                 struct failure *failure) {
    const char *session = NULL, *nonce = NULL;
    if (!request_string(request, "session", &session, failure) ||
        !request_string(request, "nonce", &nonce, failure))
        return false;
    if (!is_hexadecimal(session, NONCE_DIGITS) || !is_hexadecimal(nonce, NONCE_DIGITS))
        return fail(failure, "session and nonce should be %d hexadecimal digits", NONCE_DIGITS);
    if (conversation->proved) return fail(failure, "this connection is paired already");
    if (!pairing_nonce(conversation->phone_nonce)) return fail(failure, "there is no randomness");
    memcpy(conversation->session, session, NONCE_SIZE);
    memcpy(conversation->host_nonce, nonce, NONCE_SIZE);
    conversation->asked = true;
    text_add(reply, ",\"nonce\":\"%s\"", conversation->phone_nonce);
    return true;
}

// Let the host in, unless another one measures.
static bool admit(struct conversation *conversation, struct failure *failure) {
    struct companion *companion = conversation->companion;
    pthread_mutex_lock(&companion->changed);
    bool free = companion->conversations == 0;
    bool own = strcmp(companion->session, conversation->session) == 0;
    if (free || own) {
        memcpy(companion->session, conversation->session, NONCE_SIZE);
        companion->conversations++;
        conversation->proved = true;
    }
    pthread_mutex_unlock(&companion->changed);
    if (conversation->proved) return true;
    fail(failure, "another host is measuring on this phone");
    return hint(failure, "wait for it to end, or stop it, then run the same command again");
}

static bool prove(struct conversation *conversation, const struct json *request, struct text *reply,
                  struct failure *failure) {
    struct companion *companion = conversation->companion;
    const char *proof = NULL;
    char expected[SHA256_HEX_SIZE];
    if (!request_string(request, "proof", &proof, failure)) return false;
    if (!conversation->asked) return fail(failure, "a proof comes after pair, and once");
    conversation->asked = false;
    pairing_proof(companion->token, "host", conversation->session, conversation->host_nonce,
                  conversation->phone_nonce, expected);
    if (!pairing_equal(expected, proof)) {
        pthread_mutex_lock(&companion->changed);
        companion->refused_hosts++;
        pthread_mutex_unlock(&companion->changed);
        fail(failure, "the token is not the one that this phone shows");
        return hint(failure, "type the token that the companion app shows now");
    }
    if (!admit(conversation, failure)) return false;
    pairing_proof(companion->token, "phone", conversation->session, conversation->host_nonce,
                  conversation->phone_nonce, expected);
    text_add(reply, ",\"proof\":\"%s\",\"model\":", expected);
    text_add_string(reply, companion->model);
    text_add(reply, ",\"os_version\":");
    text_add_string(reply, companion->os_version);
    text_add(reply, ",\"unit\":");
    text_add_string(reply, companion->unit);
    text_add(reply, ",\"emulated\":%s", companion->emulated ? "true" : "false");
    text_add(reply, ",\"low_power_mode\":%s",
             companion_state(companion).low_power ? "true" : "false");
    return true;
}

// Artifacts

static bool missing(struct conversation *conversation, const struct json *request,
                    struct text *reply, struct failure *failure) {
    const struct json *names = json_member(request, "sha256");
    if (names == NULL || names->kind != JSON_ARRAY || names->length > MAX_LIST)
        return fail(failure, "field sha256: it should be an array of at most %d names", MAX_LIST);
    size_t told = 0;
    text_add(reply, ",\"missing\":[");
    for (const struct json *name = names->first; name != NULL; name = name->next) {
        if (name->kind != JSON_STRING || strlen(name->string) != name->length ||
            !cache_is_name(name->string))
            return fail(failure, "field sha256: a name is 64 hexadecimal digits");
        if (cache_holds(&conversation->companion->cache, name->string)) continue;
        text_add(reply, "%s\"%s\"", told++ > 0 ? "," : "", name->string);
    }
    text_add(reply, "]");
    return true;
}

static bool upload(struct conversation *conversation, const struct json *request, struct text *reply,
                   struct failure *failure) {
    static unsigned char bytes[MAX_REQUEST_BYTES];  // requests are answered one at a time
    const char *name = NULL;
    int64_t size = -1, offset = 0;
    size_t count;
    const struct json *data = json_member(request, "data");
    if (!request_string(request, "sha256", &name, failure) ||
        !request_integer(request, "size", 0, MAX_ARTIFACT_BYTES, &size, failure) ||
        !request_integer(request, "offset", 0, MAX_ARTIFACT_BYTES, &offset, failure))
        return false;
    if (data == NULL || data->kind != JSON_STRING || data->length > sizeof bytes ||
        !base64_read(data->string, data->length, bytes, &count))
        return fail(failure, "field data: it should be base64");
    if (!upload_take(&conversation->upload, &conversation->companion->cache, name, size, offset,
                     bytes, count, failure))
        return false;
    text_add(reply, ",\"received\":%lld", (long long)offset + (long long)count);
    return true;
}

static bool clear(struct conversation *conversation, const struct json *request, struct text *reply,
                  struct failure *failure) {
    (void)request, (void)failure;
    text_add(reply, ",\"freed_bytes\":%lld",
             (long long)cache_clear(&conversation->companion->cache));
    return true;
}

static const struct {
    const char *op;
    bool before_proof;
    bool (*handle)(struct conversation *, const struct json *request, struct text *reply,
                   struct failure *);
} OWN[] = {
    {"pair", true, pair},       {"prove", true, prove},   {"missing", false, missing},
    {"upload", false, upload}, {"clear", false, clear},
};
#define OWN_COUNT (sizeof OWN / sizeof *OWN)

// The runner's own ops

// The line with the artifact's name, in `path`, replaced by where it lies.
static bool locate(const struct conversation *conversation, const struct json *request,
                   const char *line, size_t length, struct text *located,
                   struct failure *failure) {
    const char *name = NULL;
    char path[CACHE_PATH_SIZE];
    if (!request_string(request, "path", &name, failure)) return false;
    if (!cache_is_name(name))
        return fail(failure, "field path: on this phone it is an artifact's SHA-256");
    const struct json *field = json_member(request, "path");
    size_t before = (size_t)(field->raw - line), after = before + field->raw_length;
    cache_path(&conversation->companion->cache, name, path);
    text_add_bytes(located, line, before);
    text_add_string(located, path);
    text_add_bytes(located, line + after, length - after);
    return !located->broken || fail(failure, "out of memory");
}

static bool is_fulfilled(const struct text *reply) {
    return reply->length > 2 && strstr(reply->data, ",\"ok\":true") != NULL &&
           memcmp(reply->data + reply->length - 2, "}\n", 2) == 0;
}

static bool pass_on(struct conversation *conversation, const char *op, const struct json *request,
                    const char *line, size_t length, struct text *reply) {
    struct companion *companion = conversation->companion;
    struct failure failure = {0};
    struct text located = {0};
    const bool loads = strcmp(op, "load") == 0, runs = strcmp(op, "run") == 0;
    const struct phone_state before = companion_state(companion);
    bool last = false, possible = true;
    if (loads || runs) possible = phone_state_may_measure(&before, &failure);
    if (loads && possible)
        possible = locate(conversation, request, line, length, &located, &failure);
    if (possible)
        last = protocol_answer(&conversation->runner, loads ? located.data : line,
                               loads ? located.length : length, reply);
    if (possible && runs) {
        const struct phone_state after = companion_state(companion);
        possible = phone_state_was_undisturbed(&before, &after, &failure);
    }
    if (!possible) protocol_refuse(reply, json_member(request, "id"), op, &failure);
    if (possible && strcmp(op, "conditions") == 0 && is_fulfilled(reply)) {
        reply->length -= 2;
        phone_state_add(reply, &before);
        text_add(reply, "}\n");
    }
    text_free(&located);
    return last;
}

static void answer_own(struct conversation *conversation, size_t place, const struct json *request,
                       struct text *reply) {
    struct failure failure = {0};
    const struct json *id = json_member(request, "id");
    protocol_begin(reply, id);
    text_add(reply, ",\"ok\":true");
    bool done = OWN[place].handle(conversation, request, reply, &failure);
    text_add(reply, "}\n");
    if (!done) protocol_refuse(reply, id, OWN[place].op, &failure);
}

static bool is_op(const struct json *op, const char *name) {
    return op != NULL && op->kind == JSON_STRING && strlen(op->string) == op->length &&
           strcmp(op->string, name) == 0;
}

// The name of an op of the runner's, as a string that lasts.
static const char *runner_op(const struct json *op) {
    static const char *const OPS[] = {"hello", "load", "run", "conditions", "unload", "quit"};
    for (size_t i = 0; i < sizeof OPS / sizeof *OPS; i++)
        if (is_op(op, OPS[i])) return OPS[i];
    return "request";
}

bool conversation_answer(struct conversation *conversation, const char *line, size_t length,
                         struct text *reply) {
    struct json_document document;
    struct failure failure;
    size_t place = OWN_COUNT;
    struct failure reason;
    if (!json_read(&document, line, length, &reason)) {
        fail(&failure, "the line is not JSON: %.200s", reason.message);
        protocol_refuse(reply, NULL, "request", &failure);
        return !conversation->proved;
    }
    const struct json *op = json_member(document.root, "op");
    for (size_t i = 0; i < OWN_COUNT; i++)
        if (is_op(op, OWN[i].op)) place = i;
    bool last = false;
    if (!conversation->proved && (place == OWN_COUNT || !OWN[place].before_proof)) {
        fail(&failure, "this host has not proved yet that it knows the token");
        hint(&failure, "pair first");
        protocol_refuse(reply, json_member(document.root, "id"), "request", &failure);
        last = true;
    } else if (conversation->proved) {
        pthread_mutex_lock(&conversation->companion->requests);
        show(conversation->companion, place < OWN_COUNT ? OWN[place].op : runner_op(op));
        // Engines are shared: a library is opened once, whichever conversation asks first.
        conversation->runner.engines = conversation->companion->engines;
        if (place < OWN_COUNT)
            answer_own(conversation, place, document.root, reply);
        else
            last = pass_on(conversation, runner_op(op), document.root, line, length, reply);
        conversation->companion->engines = conversation->runner.engines;
        show(conversation->companion, "waiting");
        pthread_mutex_unlock(&conversation->companion->requests);
    } else {
        const bool asked = conversation->asked;
        answer_own(conversation, place, document.root, reply);
        last = asked && !conversation->proved && !conversation->asked;  // a proof that failed
    }
    json_free(&document);
    return last;
}
