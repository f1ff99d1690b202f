// Whole conversations with a fake engine: what is asked, and what is answered.
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "protocol.h"

// An engine whose model copies its input, and fails or refuses when its path says so.

static int opened, loaded_models;

static bool fake_open(const char *path, struct failure *failure) {
    opened++;
    return strstr(path, "broken") == NULL || fail(failure, "it is broken");
}

static const char *fake_version(void) { return "9.9"; }
static bool fake_start(struct failure *failure) { return (void)failure, true; }

struct fake_model {
    struct model model;
    float values[4];
    bool fails;
};

static void fake_unload(struct model *model) {
    model_free_tensors(model);
    free(model);
    loaded_models--;
}

static struct model *fake_load(const struct load_options *options, struct failure *failure) {
    if (strstr(options->path, "refused") != NULL) {
        fail(failure, "this one is refused");
        return NULL;
    }
    struct fake_model *fake = calloc(1, sizeof *fake);
    struct model *model = &fake->model;
    *model = (struct model){.input_count = 1, .output_count = 1, .coverage = {3, -1, 1}};
    model->inputs = calloc(1, sizeof *model->inputs);
    model->outputs = calloc(1, sizeof *model->outputs);
    model->inputs[0] = (struct tensor){
        .name = strdup("in"), .dtype = DTYPE_FLOAT32, .shape = {.rank = 2, .dims = {1, 4}}};
    model->outputs[0] = model->inputs[0];
    model->outputs[0].name = strdup("out");
    fake->fails = strstr(options->path, "failing") != NULL;
    loaded_models++;
    extern const struct engine fake_engine;
    model->engine = &fake_engine;
    return model;
}

static bool fake_set_input(struct model *model, size_t input, const void *data, size_t bytes,
                           struct failure *failure) {
    (void)failure;
    CHECK(input == 0 && bytes == 16);
    memcpy(((struct fake_model *)model)->values, data, bytes);
    return true;
}

static bool fake_get_output(struct model *model, size_t output, void *data, size_t bytes,
                            struct failure *failure) {
    (void)failure;
    CHECK(output == 0 && bytes == 16);
    memcpy(data, ((struct fake_model *)model)->values, bytes);
    return true;
}

static bool fake_prepare(struct model *model, struct failure *failure) {
    return (void)model, (void)failure, true;
}

static bool fake_run(struct model *model, struct failure *failure) {
    return !((struct fake_model *)model)->fails || fail(failure, "it failed");
}

static const char *const NAMES[] = {"libfake.so", NULL}, *const ACCELERATORS[] = {"cpu", "x", NULL};
extern const struct engine fake_engine;
const struct engine fake_engine = {
    "onnx", NAMES, ACCELERATORS, fake_open, fake_version, fake_start, fake_load,
    fake_set_input, fake_get_output, fake_prepare, fake_run, fake_unload, false, NULL, NULL,
};

// Ask, and check that the answer begins as expected. Returns whether it was the last.
static bool answer(struct runner *runner, const char *line, const char *expected) {
    struct text reply = {0};
    bool last = protocol_answer(runner, line, strlen(line), &reply);
    size_t length = strlen(expected);
    bool same = reply.length >= length && memcmp(reply.data, expected, length) == 0;
    if (!same) printf("asked %s\n got %s expected %s\n", line, reply.data, expected);
    CHECK(same);
    CHECK(reply.length > 0 && strchr(reply.data, '\n') == reply.data + reply.length - 1);
    text_free(&reply);
    return last;
}

#define REFUSED(id, stage, message)                                              \
    "{\"id\":" id ",\"ok\":false,\"error\":{\"stage\":\"" stage                  \
    "\",\"kind\":\"refused\",\"message\":\"" message

static void bad_requests_are_refused(struct runner *runner) {
    answer(runner, "load it please", REFUSED("null", "request", "the line is not JSON: "));
    answer(runner, "[1]", REFUSED("null", "request", "the line is not a JSON object"));
    answer(runner, "{\"id\":7}", REFUSED("7", "request", "unknown op None; known: hello, load"));
    answer(runner, "{\"id\":7,\"op\":[\"load\"]}", REFUSED("7", "request", "unknown op [\\\"load\\\"]"));
    answer(runner, "{\"id\":7,\"op\":\"x\"}", REFUSED("7", "request", "unknown op 'x'; known: "));
    answer(runner, "{\"id\":7,\"op\":\"hello\\u0000\"}", REFUSED("7", "request", "unknown op 'hello'"));
    answer(runner, "{\"id\":7,\"op\":\"hello\",\"versions\":[2]}",
           REFUSED("7", "hello", "no protocol version in common"));
    answer(runner, "{\"id\":7,\"op\":\"run\",\"handle\":\"m1\"}",
           REFUSED("7", "run", "unknown handle 'm1'"));
    static const char *const loads[][2] = {
        {"\"runtime\":\"onnx\"", "field path: it is missing"},
        {"\"path\":\"a\\u0000b\",\"runtime\":\"onnx\"", "field path: "},
        {"\"path\":1,\"runtime\":\"onnx\"", "field path: "},
        {"\"path\":\"x\",\"runtime\":\"onnx\",\"threads\":0", "field threads: "},
        {"\"path\":\"x\",\"runtime\":\"onnx\",\"threads\":1.5", "field threads: "},
        {"\"path\":\"x\",\"runtime\":\"onnx\",\"cores\":1", "field cores: "},
        {"\"path\":\"x\",\"runtime\":\"onnx\",\"cores\":[0.5]", "field cores: "},
        {"\"path\":\"x\",\"runtime\":\"onnx\",\"input_shapes\":[1]", "field input_shapes: "},
        {"\"path\":\"x\",\"runtime\":\"onnx\",\"input_shapes\":[[\"1\"]]", "field input_shapes: "},
        {"\"path\":\"x\",\"runtime\":\"onnx\",\"seed\":-1", "field seed: "},
    };
    for (size_t i = 0; i < sizeof loads / sizeof *loads; i++) {
        char line[256], expected[256];
        snprintf(line, sizeof line, "{\"id\":1,\"op\":\"load\",%s}", loads[i][0]);
        snprintf(expected, sizeof expected, REFUSED("1", "load", "%s"), loads[i][1]);
        answer(runner, line, expected);
    }
    CHECK(!runner->settled);  // nothing of it was a target
}

static void ids_come_back_as_they_were(struct runner *runner) {
    answer(runner, "{\"op\":\"conditions\"}", "{\"id\":null,\"ok\":true");
    answer(runner, "{\"id\": {\"a\" : [1, 2.50]} ,\"op\":\"conditions\",\"colour\":\"blue\"}",
           "{\"id\":{\"a\" : [1, 2.50]},\"ok\":true");
    answer(runner, "{\"id\":\"\\u0041\",\"op\":\"conditions\"}", "{\"id\":\"\\u0041\",\"ok\":true");
}

static void load_line(char *line, size_t size, const char *path, const char *more) {
    snprintf(line, size, "{\"id\":1,\"op\":\"load\",\"path\":\"%s\",\"runtime\":\"onnx\"%s}", path, more);
}

static void models_are_loaded_run_and_freed(struct runner *runner, const char *path) {
    char line[512];
    load_line(line, sizeof line, path, "");
    answer(runner, line, "{\"id\":1,\"ok\":true,\"handle\":\"m1\",\"load_ms\":");
    CHECK(opened == 1 && loaded_models == 1);
    load_line(line, sizeof line, path, ",\"seed\":3");
    answer(runner, line, "{\"id\":1,\"ok\":true,\"handle\":\"m2\",\"load_ms\":");
    CHECK(opened == 1 && loaded_models == 2);
    answer(runner, "{\"id\":2,\"op\":\"run\",\"handle\":\"m1\",\"max_samples\":0}",
           REFUSED("2", "run", "field max_samples: "));
    answer(runner, "{\"id\":2,\"op\":\"run\",\"handle\":\"m1\",\"max_samples\":1e9}",
           REFUSED("2", "run", "field max_samples: "));
    answer(runner, "{\"id\":2,\"op\":\"run\",\"handle\":\"m1\",\"seconds\":NaN}",
           REFUSED("2", "run", "field seconds: "));
    answer(runner, "{\"id\":2,\"op\":\"run\",\"handle\":\"m1\",\"outputs\":1}",
           REFUSED("2", "run", "field outputs: "));
    answer(runner, "{\"id\":2,\"op\":\"run\",\"handle\":\"m1\",\"outputs\":true}",
           "{\"id\":2,\"ok\":true,\"samples_ns\":[");
    answer(runner, "{\"id\":2,\"op\":\"unload\",\"handle\":\"m1\"}", "{\"id\":2,\"ok\":true}\n");
    CHECK(loaded_models == 1);
    answer(runner, "{\"id\":2,\"op\":\"run\",\"handle\":\"m1\"}",
           REFUSED("2", "run", "unknown handle 'm1'"));
    answer(runner, "{\"id\":2,\"op\":\"run\",\"handle\":\"m2\"}", "{\"id\":2,\"ok\":true");
    runner_reset(runner);
    CHECK(loaded_models == 0 && !runner->settled);
}

static void what_an_engine_refuses_is_told(struct runner *runner, const char *path) {
    char line[512];
    load_line(line, sizeof line, path, ",\"accelerator\":\"tpu\"");
    answer(runner, line,
           REFUSED("1", "load", "unknown accelerator 'tpu'\",\"details\":[],\"hint\":\"known for onnx: cpu, x\""));
    load_line(line, sizeof line, "/nowhere", "");
    answer(runner, line, REFUSED("1", "load", "there is no file /nowhere"));
    load_line(line, sizeof line, path, ",\"threads\":2");
    answer(runner, line,
           REFUSED("1", "load",
                   "this runner is set to 1 thread on any core, not 2 on any core\","
                   "\"details\":[],\"hint\":\"open another runner for another target\""));
    CHECK(loaded_models == 0);
    char other[64];
    snprintf(other, sizeof other, "%s_refused", path);
    FILE *file = fopen(other, "w");
    if (file != NULL) fclose(file);
    load_line(line, sizeof line, other, "");
    answer(runner, line, REFUSED("1", "load", "this one is refused"));
    unlink(other);
    snprintf(other, sizeof other, "%s_failing", path);
    file = fopen(other, "w");
    if (file != NULL) fclose(file);
    load_line(line, sizeof line, other, "");
    answer(runner, line, "{\"id\":1,\"ok\":true,\"handle\":\"m3\"");
    answer(runner, "{\"id\":2,\"op\":\"run\",\"handle\":\"m3\"}", REFUSED("2", "run", "it failed"));
    unlink(other);
    answer(runner, "{\"id\":1,\"op\":\"load\",\"path\":\"x\",\"runtime\":\"torchscript\"}",
           REFUSED("1", "load", "this runner has no engine for the runtime torchscript"));
}

static void engines_that_are_not_there_are_not_told(void) {
    static struct runner runner;
    runner = (struct runner){.files = {.root = "/nowhere"}};
    runner.engines.engines[0] = (struct installed){.engine = &fake_engine};
    runner.engines.count = 1;
    struct text reply = {0};
    const char *hello = "{\"op\":\"hello\",\"versions\":[1,2]}";
    protocol_answer(&runner, hello, strlen(hello), &reply);
    CHECK(strstr(reply.data, "\"engines\":[]}") != NULL);
    text_free(&reply);
    char line[512];
    load_line(line, sizeof line, "x", "");
    answer(&runner, line, REFUSED("1", "load", "the runtime onnx is not installed"));
    static char broken[] = "broken";
    runner.engines.engines[0] = (struct installed){.engine = &fake_engine, .path = broken};
    answer(&runner, line, REFUSED("1", "load", "it is broken"));
}

static void the_reference_needs_no_load(void) {
    static struct runner runner;
    runner = (struct runner){.files = {.root = "/nowhere"}};
    struct text reply = {0};
    const char *hello = "{\"op\":\"hello\"}";
    protocol_answer(&runner, hello, strlen(hello), &reply);
    CHECK(strstr(reply.data, ",\"reference\":\"" REFERENCE_WORKLOAD "\"") != NULL);
    text_free(&reply);
    const char *run = "{\"op\":\"run\",\"handle\":\"reference\",\"warmups\":0,"
                      "\"max_samples\":2,\"outputs\":true}";
    protocol_answer(&runner, run, strlen(run), &reply);
    const char *samples = strstr(reply.data, ",\"samples_ns\":[");
    long long first = 0, second = 0;
    CHECK(samples != NULL && sscanf(samples + 15, "%lld,%lld]", &first, &second) == 2);
    CHECK(first > 0 && second > 0);
    CHECK(strstr(reply.data, "\"threads_observed\":1") != NULL ||
          strstr(reply.data, "\"threads_observed\":null") != NULL);
    CHECK(strstr(reply.data, ",\"outputs\":[]}") != NULL);
    text_free(&reply);
    CHECK(!runner.settled);
    answer(&runner, "{\"id\":1,\"op\":\"run\",\"handle\":\"reference\",\"warmups\":-1}",
           REFUSED("1", "run", "field warmups: "));
    answer(&runner, "{\"id\":1,\"op\":\"unload\",\"handle\":\"reference\"}",
           REFUSED("1", "unload", "unknown handle 'reference'"));
    answer(&runner, "{\"id\":1,\"op\":\"run\"}", REFUSED("1", "run", "field handle: it is missing"));
    runner_reset(&runner);
    CHECK(runner.reference.weights == NULL);
}

static void lines_are_told_apart(struct runner *runner) {
    int to[2], from[2];
    CHECK(pipe(to) == 0 && pipe(from) == 0);
    static struct channel channel;
    channel = (struct channel){.in = to[0], .out = from[1]};
    const char *requests = "\n  \r\n{\"id\":1,\"op\":\"nothing\"}\n{\"id\":2,\"op\":\"quit\"}\n{\"id\":3}\n";
    CHECK(write(to[1], requests, strlen(requests)) == (ssize_t)strlen(requests));
    CHECK(protocol_serve(runner, &channel));
    char replies[4096];
    ssize_t length = read(from[0], replies, sizeof replies - 1);
    CHECK(length > 0);
    replies[length > 0 ? length : 0] = '\0';
    CHECK(strncmp(replies, REFUSED("1", "request", "unknown op"), 40) == 0);
    const char *second = strchr(replies, '\n');
    CHECK_TEXT(second != NULL ? second + 1 : "", "{\"id\":2,\"ok\":true}\n");
    close(to[1]);
    close(to[0]);
    close(from[0]);
    close(from[1]);
}

int main(void) {
    static struct runner runner = {.files = {.root = "/nowhere"}};
    char path[] = "protocol_test_XXXXXX";
    int file = mkstemp(path);
    CHECK(file >= 0);
    runner.engines.engines[0] = (struct installed){.engine = &fake_engine, .path = path};
    runner.engines.count = 1;
    bad_requests_are_refused(&runner);
    ids_come_back_as_they_were(&runner);
    models_are_loaded_run_and_freed(&runner, path);
    what_an_engine_refuses_is_told(&runner, path);
    engines_that_are_not_there_are_not_told();
    the_reference_needs_no_load();
    lines_are_told_apart(&runner);
    runner_reset(&runner);
    CHECK(loaded_models == 0);
    CHECK(answer(&runner, "{\"id\":9,\"op\":\"quit\"}", "{\"id\":9,\"ok\":true}\n"));
    close(file);
    unlink(path);
    return CHECKS_STATUS;
}
