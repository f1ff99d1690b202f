// The runner protocol: see protocol.h.
#include "protocol.h"

#include <string.h>

#include "watchdog.h"

typedef bool (*handler)(struct runner *, const struct json *request, struct text *reply,
                        struct failure *);

static bool quit(struct runner *runner, const struct json *request, struct text *reply,
                 struct failure *failure) {
    (void)runner, (void)request, (void)reply, (void)failure;
    return true;
}

static const struct {
    const char *op;
    handler handle;
} OPS[] = {
    {"hello", runner_hello}, {"load", runner_load},
    {"run", runner_run},     {"conditions", runner_conditions},
    {"unload", runner_unload}, {"quit", quit},
};
#define OP_COUNT (sizeof OPS / sizeof *OPS)

void protocol_begin(struct text *reply, const struct json *id) {
    reply->length = 0;
    text_add(reply, "{\"id\":");
    if (id == NULL)
        text_add(reply, "null");
    else
        text_add_bytes(reply, id->raw, id->raw_length);
}

void protocol_refuse(struct text *reply, const struct json *id, const char *stage,
                     const struct failure *failure) {
    protocol_begin(reply, id);
    text_add(reply, ",\"ok\":false,\"error\":{\"stage\":\"%s\",\"kind\":\"refused\"", stage);
    text_add(reply, ",\"message\":");
    text_add_string(reply, failure->message);
    text_add(reply, ",\"details\":[],\"hint\":");
    if (failure->hint[0] != '\0')
        text_add_string(reply, failure->hint);
    else
        text_add(reply, "null");
    text_add(reply, "}}\n");
}

// Fulfil the request and put the whole reply into `reply`.
static void fulfil(struct runner *runner, size_t place, const struct json *request,
                   struct text *reply) {
    struct failure failure = {0};
    const struct json *id = json_member(request, "id");
    watchdog_stage(OPS[place].op);
    protocol_begin(reply, id);
    text_add(reply, ",\"ok\":true");
    bool done = OPS[place].handle(runner, request, reply, &failure);
    text_add(reply, "}\n");
    watchdog_stage("request");
    if (done && !reply->broken && reply->length <= MAX_REPLY_BYTES) return;
    if (done && reply->broken) fail(&failure, "out of memory");
    if (done && !reply->broken)
        fail(&failure, "the reply would take more than %d bytes", MAX_REPLY_BYTES);
    if (reply->broken) text_free(reply);
    protocol_refuse(reply, id, OPS[place].op, &failure);
}

// Answer a request whose op is not known; a missing one is shown as None, as the host worker does.
static void refuse_op(const struct json *request, struct text *reply) {
    const struct json *op = json_member(request, "op");
    struct failure failure;
    const char *quote = op != NULL && op->kind == JSON_STRING ? "'" : "";
    const char *shown = op == NULL ? "None" : op->kind == JSON_STRING ? op->string : op->raw;
    size_t length = op == NULL || op->kind == JSON_STRING ? strlen(shown) : op->raw_length;
    fail(&failure, "unknown op %s%.*s%s; known: hello, load, run, conditions, unload, quit", quote,
         (int)(length < 60 ? length : 60), shown, quote);
    protocol_refuse(reply, json_member(request, "id"), "request", &failure);
}

bool protocol_answer(struct runner *runner, const char *line, size_t length, struct text *reply) {
    struct json_document document;
    struct failure failure, reason;
    if (!json_read(&document, line, length, &reason)) {
        fail(&failure, "the line is not JSON: %.200s", reason.message);
        protocol_refuse(reply, NULL, "request", &failure);
        return false;
    }
    bool last = false;
    const struct json *op = json_member(document.root, "op");
    size_t place = OP_COUNT;
    for (size_t i = 0; op != NULL && op->kind == JSON_STRING && i < OP_COUNT; i++)
        if (strcmp(op->string, OPS[i].op) == 0 && strlen(op->string) == op->length) place = i;
    if (document.root->kind != JSON_OBJECT) {
        fail(&failure, "the line is not a JSON object");
        protocol_refuse(reply, NULL, "request", &failure);
    } else if (place == OP_COUNT) {
        refuse_op(document.root, reply);
    } else {
        fulfil(runner, place, document.root, reply);
        last = OPS[place].handle == quit;
    }
    json_free(&document);
    return last;
}

void protocol_refuse_long_line(struct text *reply) {
    struct failure failure;
    fail(&failure, "the line is longer than %d bytes", MAX_REQUEST_BYTES);
    protocol_refuse(reply, NULL, "request", &failure);
}

bool protocol_serve(struct runner *runner, struct channel *channel) {
    struct text reply = {0};
    bool last = false, heard = true;
    while (!last && heard) {
        char *line;
        size_t length;
        enum line kind = channel_read(channel, &line, &length);
        if (kind == LINE_END) break;
        if (kind == LINE)
            last = protocol_answer(runner, line, length, &reply);
        else
            protocol_refuse_long_line(&reply);
        heard = !reply.broken && channel_write(channel, reply.data, reply.length);
        text_free(&reply);
    }
    text_free(&reply);
    return last;
}
