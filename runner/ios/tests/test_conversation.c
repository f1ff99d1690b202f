// What a host may ask before and after it has proved itself, and what the phone's state forbids.
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "companion.h"
#include "protocol.h"

#define SESSION "0123456789abcdef0123456789abcdef"
#define OTHER "fedcba9876543210fedcba9876543210"
#define HELLO "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  // of "hello"

static struct companion companion;

// Ask; returns whether it was the last, with the reply in `said`.
static char said[8192];
static bool ask(struct conversation *conversation, const char *line) {
    struct text reply = {0};
    bool last = conversation_answer(conversation, line, strlen(line), &reply);
    CHECK(reply.length > 0 && strchr(reply.data, '\n') == reply.data + reply.length - 1);
    snprintf(said, sizeof said, "%s", reply.data == NULL ? "" : reply.data);
    text_free(&reply);
    return last;
}
#define SAID(text)                                        \
    do {                                                  \
        if (strstr(said, text) == NULL) printf("%s", said); \
        CHECK(strstr(said, text) != NULL);                \
    } while (0)

static void prove(struct conversation *conversation, const char *session, const char *token,
                  char line[256]) {
    char request[256], nonce[NONCE_SIZE] = "", proof[SHA256_HEX_SIZE];
    snprintf(request, sizeof request, "{\"id\":1,\"op\":\"pair\",\"session\":\"%s\",\"nonce\":\"" OTHER "\"}",
             session);
    CHECK(!ask(conversation, request));
    const char *at = strstr(said, "\"nonce\":\"");
    CHECK(at != NULL);
    if (at != NULL) snprintf(nonce, sizeof nonce, "%s", at + 9);
    pairing_proof(token, "host", session, OTHER, nonce, proof);
    snprintf(line, 256, "{\"id\":2,\"op\":\"prove\",\"proof\":\"%s\"}", proof);
}

static void nothing_is_done_before_the_proof(void) {
    static const char *const asked[] = {
        "{\"op\":\"hello\"}", "{\"op\":\"conditions\"}", "{\"op\":\"clear\"}", "{\"op\":\"quit\"}",
        "{\"op\":\"upload\",\"sha256\":\"" HELLO "\",\"size\":5,\"data\":\"aGVsbG8=\"}", "[]", "{}"};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        struct conversation conversation;
        conversation_begin(&conversation, &companion);
        CHECK(ask(&conversation, asked[i]));
        SAID("has not proved yet");
        conversation_end(&conversation);
    }
    CHECK(!cache_holds(&companion.cache, HELLO));
}

static void wrong_and_replayed_proofs_are_refused(void) {
    struct conversation conversation;
    char line[256], again[256];
    conversation_begin(&conversation, &companion);
    prove(&conversation, SESSION, "AAAA-AAAA-AAAA-AAAA", line);
    CHECK(ask(&conversation, line));
    SAID("not the one that this phone shows");
    CHECK(companion.refused_hosts == 1 && companion.conversations == 0);
    conversation_end(&conversation);
    conversation_begin(&conversation, &companion);
    prove(&conversation, SESSION, companion.token, line);
    CHECK(!ask(&conversation, line));
    SAID("\"model\":\"iPhone10,3\"");
    conversation_end(&conversation);
    conversation_begin(&conversation, &companion);
    ask(&conversation, line);  // without pair
    SAID("once");
    prove(&conversation, SESSION, companion.token, again);
    CHECK(ask(&conversation, line));  // what was recorded the last time
    SAID("not the one");
    conversation_end(&conversation);
    CHECK(companion.conversations == 0);
}

static void one_host_holds_the_phone(void) {
    struct conversation first, second, other;
    char line[256];
    conversation_begin(&first, &companion);
    conversation_begin(&second, &companion);
    conversation_begin(&other, &companion);
    prove(&first, SESSION, companion.token, line);
    CHECK(!ask(&first, line));
    prove(&second, SESSION, companion.token, line);
    CHECK(!ask(&second, line));
    prove(&other, OTHER, companion.token, line);
    CHECK(ask(&other, line));
    SAID("another host is measuring");
    conversation_end(&other);
    conversation_end(&first);
    conversation_begin(&other, &companion);
    prove(&other, OTHER, companion.token, line);
    CHECK(ask(&other, line));
    conversation_end(&other);
    conversation_end(&second);
    conversation_begin(&other, &companion);
    prove(&other, OTHER, companion.token, line);
    CHECK(!ask(&other, line));
    conversation_end(&other);
}

static void the_state_decides(void) {
    struct conversation conversation;
    char line[256];
    conversation_begin(&conversation, &companion);
    prove(&conversation, SESSION, companion.token, line);
    ask(&conversation, line);
    ask(&conversation, "{\"op\":\"missing\",\"sha256\":[\"" HELLO "\"]}");
    SAID("\"missing\":[\"" HELLO "\"]");
    ask(&conversation, "{\"op\":\"missing\",\"sha256\":[\"../x\"]}");
    SAID("64 hexadecimal digits");
    ask(&conversation, "{\"op\":\"upload\",\"sha256\":\"" HELLO "\",\"size\":5,\"data\":\"aGVsbG8=\"}");
    SAID("\"received\":5");
    ask(&conversation, "{\"op\":\"missing\",\"sha256\":[\"" HELLO "\"]}");
    SAID("\"missing\":[]");
    ask(&conversation, "{\"op\":\"load\",\"path\":\"/etc/passwd\",\"runtime\":\"onnx\"}");
    SAID("field path");
    ask(&conversation, "{\"op\":\"load\",\"path\":\"" HELLO "\",\"runtime\":\"onnx\"}");
    SAID("no engine for the runtime onnx");
    ask(&conversation, "{\"op\":\"run\",\"handle\":\"reference\",\"warmups\":0,\"max_samples\":1}");
    SAID("\"samples_ns\":[");
    companion_set_state(&companion, &(struct phone_state){
        .thermal = THERMAL_SERIOUS, .battery_percent = 42, .active = false});
    ask(&conversation, "{\"op\":\"run\",\"handle\":\"reference\",\"warmups\":0,\"max_samples\":1}");
    SAID("in the background");
    ask(&conversation, "{\"op\":\"load\",\"path\":\"" HELLO "\",\"runtime\":\"onnx\"}");
    SAID("in the background");
    ask(&conversation, "{\"id\":5,\"op\":\"conditions\"}");
    SAID("\"thermal_status\":3");
    SAID("\"screen_on\":false,\"battery_percent\":42");
    companion_set_state(&companion, &(struct phone_state){
        .low_power = true, .battery_percent = -1, .active = true});
    ask(&conversation, "{\"id\":5,\"op\":\"conditions\"}");
    SAID("\"thermal_status\":1");
    CHECK(strstr(said, "battery_percent\":-1") == NULL);
    ask(&conversation, "{\"id\":5,\"op\":\"clear\"}");
    SAID("\"freed_bytes\":5");
    CHECK(!ask(&conversation, "{\"id\":6,\"op\":\"nothing\"}"));
    SAID("unknown op");
    CHECK(!ask(&conversation, "nonsense"));
    SAID("not JSON");
    CHECK(ask(&conversation, "{\"id\":6,\"op\":\"quit\"}"));
    conversation_end(&conversation);
}

static void leaving_the_front_meanwhile_is_noticed(void) {
    struct failure failure;
    struct phone_state before = {.active = true}, after = before;
    CHECK(phone_state_was_undisturbed(&before, &after, &failure));
    phone_state_set_active(&after, false);
    phone_state_set_active(&after, false);
    phone_state_set_active(&after, true);
    CHECK(after.left == 1 && phone_state_may_measure(&after, &failure));
    CHECK(!phone_state_was_undisturbed(&before, &after, &failure));
}

int main(void) {
    char folder[] = "conversation_test_XXXXXX";
    struct failure failure = {0};
    companion_init(&companion);
    companion.model = "iPhone10,3";
    companion.files.root = "/nowhere";
    companion.state.active = true;
    CHECK(token_make(companion.token));
    CHECK(mkdtemp(folder) != NULL && cache_open(&companion.cache, folder, &failure));
    nothing_is_done_before_the_proof();
    wrong_and_replayed_proofs_are_refused();
    one_host_holds_the_phone();
    the_state_decides();
    leaving_the_front_meanwhile_is_noticed();
    CHECK(rmdir(folder) == 0);
    return CHECKS_STATUS;
}
