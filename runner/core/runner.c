// What the ops do: see runner.h.
#include "runner.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conditions.h"
#include "loaded.h"
#include "platform.h"
#include "request.h"

#define PROTOCOL_VERSION 1
#define MAX_THREAD_COUNT 1024

bool runner_hello(struct runner *runner, const struct json *request, struct text *reply,
                  struct failure *failure) {
    static struct integers versions;
    versions = (struct integers){.count = 1, .values = {PROTOCOL_VERSION}};
    if (!request_integers(request, "versions", &versions, failure)) return false;
    bool common = false;
    for (size_t i = 0; i < versions.count; i++)
        common = common || versions.values[i] == PROTOCOL_VERSION;
    if (!common)
        return fail(failure, "no protocol version in common: this runner speaks %d",
                    PROTOCOL_VERSION);
    text_add(reply, ",\"version\":%d", PROTOCOL_VERSION);
    text_add(reply, ",\"runner\":\"latbench-native " LATBENCH_RUNNER_VERSION "\"");
    text_add(reply, ",\"pid\":%ld", (long)getpid());
    text_add(reply, ",\"os\":\"" PLATFORM_OS "\",\"abi\":\"" PLATFORM_ABI "\"");
    text_add(reply, ",\"reference\":\"" REFERENCE_WORKLOAD "\",\"engines\":[");
    size_t told = 0;
    for (size_t i = 0; i < runner->engines.count; i++) {
        struct failure absent;
        const char *runtime = runner->engines.engines[i].engine->runtime;
        struct installed *installed = engine_open(&runner->engines, runtime, &absent);
        if (installed == NULL) continue;
        if (told++ > 0) text_add(reply, ",");
        engine_add(reply, installed);
    }
    text_add(reply, "]");
    return true;
}

// Loading

struct load_request {
    struct load_options options;
    const char *runtime;
    uint64_t seed;
    bool again;
    struct integers cores;
    struct shape *shapes;  // to be freed
};

static int ascending(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static bool read_load(const struct json *request, struct load_request *load,
                      struct failure *failure) {
    int64_t threads = 1, seed = 0;
    *load = (struct load_request){.options.accelerator = "cpu"};
    if (!request_string(request, "path", &load->options.path, failure) ||
        !request_string(request, "runtime", &load->runtime, failure) ||
        !request_integer(request, "threads", 1, MAX_THREAD_COUNT, &threads, failure) ||
        !request_integers(request, "cores", &load->cores, failure) ||
        !request_string(request, "accelerator", &load->options.accelerator, failure) ||
        !request_integer(request, "seed", 0, INT64_C(1) << 53, &seed, failure) ||
        !request_bool(request, "again", &load->again, failure) ||
        !request_shapes(request, "input_shapes", &load->shapes, &load->options.input_shape_count,
                        failure))
        return false;
    load->options.threads = (int)threads;
    load->options.input_shapes = load->shapes;
    load->seed = (uint64_t)seed;
    // Ascending, each once.
    size_t count = 0;
    qsort(load->cores.values, load->cores.count, sizeof *load->cores.values, ascending);
    for (size_t i = 0; i < load->cores.count; i++)
        if (count == 0 || load->cores.values[count - 1] != load->cores.values[i])
            load->cores.values[count++] = load->cores.values[i];
    load->cores.count = count;
    return true;
}

static bool same_cores(const int *left, size_t left_count, const int *right, size_t right_count) {
    return left_count == right_count && memcmp(left, right, left_count * sizeof *left) == 0;
}

// Set the threads and cores of the first load; refuse others afterwards.
static bool settle(struct runner *runner, int threads, const int *cores, size_t count,
                   struct failure *failure) {
    if (runner->settled && runner->threads == threads &&
        same_cores(runner->cores, runner->core_count, cores, count))
        return true;
    if (runner->settled) {
        char now[256], asked[256];
        cores_say(runner->cores, runner->core_count, now, sizeof now);
        cores_say(cores, count, asked, sizeof asked);
        fail(failure, "this runner is set to %d thread%s on %s, not %d on %s", runner->threads,
             runner->threads == 1 ? "" : "s", now, threads, asked);
        return hint(failure, "open another runner for another target");
    }
    if (count > 0 && !affinity_pin(cores, count, failure)) return false;
    runner->settled = true;
    runner->threads = threads;
    runner->core_count = count;
    memcpy(runner->cores, cores, count * sizeof *cores);
    return true;
}

// Whether every thread may use the requested cores, and no others.
static bool check_cores(const struct runner *runner, struct failure *failure) {
    static struct cores observed;
    char asked[256], got[256];
    if (runner->core_count == 0) return true;
    affinity_observed(&observed);
    if (same_cores(runner->cores, runner->core_count, observed.cores, observed.count)) return true;
    cores_say(runner->cores, runner->core_count, asked, sizeof asked);
    cores_say(observed.cores, observed.count, got, sizeof got);
    return fail(failure, "asked for %s, but got %s", asked, got);
}

static bool check_accelerator(const struct engine *engine, const char *name,
                              struct failure *failure) {
    char known[200] = "";
    size_t length = 0;
    for (const char *const *at = engine->accelerators; *at != NULL; at++) {
        if (strcmp(*at, name) == 0) return true;
        if (length < sizeof known)
            length += (size_t)snprintf(known + length, sizeof known - length, "%s%s",
                                       length > 0 ? ", " : "", *at);
    }
    fail(failure, "unknown accelerator '%.60s'", name);
    return hint(failure, "known for %s: %s", engine->runtime, known);
}

static bool check_file(const char *path, struct failure *failure) {
    struct stat status;
    if (stat(path, &status) == 0 && S_ISREG(status.st_mode)) return true;
    return fail(failure, "there is no file %s", path);
}

// Where the engine keeps what it computes: a path of its own for each file and each way to load it. Returns
// false if there is none.
static bool name_prepared(const struct runner *runner, const struct load_request *request,
                          struct installed *installed, char path[FILES_MAX_PATH]) {
    struct stat status;
    struct sha256 hash;
    struct text way = {0};
    char hex[SHA256_HEX_SIZE];
    const struct load_options *options = &request->options;
    if (runner->scratch == NULL || !request->again || stat(options->path, &status) != 0)
        return false;
    text_add(&way, "%s %lld %lld %lld %d %s", options->path, (long long)status.st_ino,
             (long long)status.st_mtime, (long long)status.st_size, options->threads,
             options->accelerator);
    for (size_t i = 0; i < options->input_shape_count; i++)
        for (size_t j = 0; j < options->input_shapes[i].rank; j++)
            text_add(&way, "%c%lld", j == 0 ? ' ' : 'x', (long long)options->input_shapes[i].dims[j]);
    engine_add(&way, installed);
    bool whole = !way.broken;
    if (whole) {
        sha256_begin(&hash);
        sha256_add(&hash, way.data, way.length);
        sha256_end(&hash, hex);
    }
    text_free(&way);
    int length = whole ? snprintf(path, FILES_MAX_PATH, "%s/%s", runner->scratch, hex) : -1;
    return length >= 0 && length < FILES_MAX_PATH;
}

static struct loaded *load(struct runner *runner, struct load_request *request, double *load_ms,
                           struct failure *failure) {
    char prepared[FILES_MAX_PATH];
    static int cores[MAX_LIST];
    for (size_t i = 0; i < request->cores.count; i++) cores[i] = (int)request->cores.values[i];
    if (!settle(runner, request->options.threads, cores, request->cores.count, failure) ||
        !check_cores(runner, failure))
        return NULL;
    struct installed *installed = engine_open(&runner->engines, request->runtime, failure);
    if (installed == NULL ||
        !check_accelerator(installed->engine, request->options.accelerator, failure) ||
        !check_file(request->options.path, failure))
        return NULL;
    if (name_prepared(runner, request, installed, prepared)) request->options.prepared = prepared;
    struct loaded *loaded =
        loaded_open(installed, &request->options, request->seed, load_ms, failure);
    if (loaded != NULL && !check_cores(runner, failure)) {
        loaded_close(loaded);
        return NULL;
    }
    return loaded;
}

bool runner_load(struct runner *runner, const struct json *request, struct text *reply,
                 struct failure *failure) {
    static struct load_request wanted;
    double load_ms = 0;
    if (!read_load(request, &wanted, failure)) return false;
    struct loaded *loaded = load(runner, &wanted, &load_ms, failure);
    free(wanted.shapes);
    if (loaded == NULL) return false;
    snprintf(loaded->handle, sizeof loaded->handle, "m%lld", ++runner->loads);
    loaded->next = runner->models;
    runner->models = loaded;
    text_add(reply, ",\"handle\":\"%s\",\"load_ms\":", loaded->handle);
    text_add_number(reply, load_ms);
    loaded_add_observed(reply, loaded);
    loaded_add_model(reply, loaded);
    text_add_name(reply, "engine");
    engine_add(reply, loaded->installed);
    return true;
}

// Running and the rest

static struct loaded **find(struct runner *runner, const struct json *request,
                            struct failure *failure) {
    const char *handle = NULL;
    if (!request_string(request, "handle", &handle, failure)) return NULL;
    for (struct loaded **at = &runner->models; *at != NULL; at = &(*at)->next)
        if (strcmp((*at)->handle, handle) == 0) return at;
    fail(failure, "unknown handle '%.60s'", handle);
    hint(failure, "%s", runner->models == NULL ? "nothing is loaded" : "it comes from a load");
    return NULL;
}

// What a `run` times: a loaded model, or the reference, which needs no loading.
struct work {
    struct loaded *loaded;  // NULL: the reference
    bool (*run)(void *context, struct failure *failure);
    void *context;
};

static bool run_model(void *model, struct failure *failure) {
    return ((struct model *)model)->engine->run(model, failure);
}

static bool run_reference(void *reference, struct failure *failure) {
    (void)failure;
    reference_run(reference);
    return true;
}

static bool find_work(struct runner *runner, const struct json *request, struct work *work,
                      struct failure *failure) {
    const char *handle = "";
    if (request_string(request, "handle", &handle, failure) &&
        strcmp(handle, REFERENCE_HANDLE) == 0) {
        *work = (struct work){.run = run_reference, .context = &runner->reference};
        return runner->reference.weights != NULL || reference_open(&runner->reference, failure);
    }
    struct loaded **found = find(runner, request, failure);
    if (found == NULL) return false;
    *work = (struct work){*found, run_model, (*found)->model};
    return true;
}

static bool read_run(const struct json *request, struct sampling *sampling, bool *outputs,
                     struct failure *failure) {
    *sampling = (struct sampling){.warmups = 2, .min_samples = 8, .max_samples = 1000};
    *outputs = false;
    return request_integer(request, "warmups", 0, MAX_SAMPLES, &sampling->warmups, failure) &&
           request_number(request, "warmup_seconds", &sampling->warmup_seconds, failure) &&
           request_integer(request, "min_samples", 1, MAX_SAMPLES, &sampling->min_samples,
                           failure) &&
           request_integer(request, "max_samples", 1, MAX_SAMPLES, &sampling->max_samples,
                           failure) &&
           request_number(request, "seconds", &sampling->seconds, failure) &&
           request_number(request, "idle_ms", &sampling->idle_ms, failure) &&
           request_bool(request, "outputs", outputs, failure);
}

bool runner_run(struct runner *runner, const struct json *request, struct text *reply,
                struct failure *failure) {
    struct work work;
    struct sampling sampling;
    bool outputs;
    if (!read_run(request, &sampling, &outputs, failure) ||
        !find_work(runner, request, &work, failure))
        return false;
    static struct cores cores;
    affinity_observed(&cores);
    struct clock_reader clock;
    bool told = cores.count > 0 && clock_open(&clock, &runner->files, cores.cores[0]);
    struct samples samples;
    int64_t waited, now_waited;
    bool waiting_told = affinity_waited_ns(&waited);
    bool taken = take_samples(work.run, work.context, &sampling, told ? &clock : NULL, &samples,
                              failure);
    waiting_told = affinity_waited_ns(&now_waited) && waiting_told;
    if (told) clock_close(&clock);
    if (!taken) return false;
    loaded_add_samples(reply, &samples);
    samples_free(&samples);
    loaded_add_observed(reply, work.loaded);
    text_add_name(reply, "waited_ms");
    // A thread that has ended meanwhile takes its figure along.
    text_add_number(reply, waiting_told ? fmax(0, (double)(now_waited - waited) / 1e6) : NAN);
    return !outputs || loaded_add_outputs(reply, work.loaded, failure);
}

bool runner_conditions(struct runner *runner, const struct json *request, struct text *reply,
                       struct failure *failure) {
    (void)request;
    (void)failure;
    conditions_add(reply, &runner->files);
    return true;
}

bool runner_unload(struct runner *runner, const struct json *request, struct text *reply,
                   struct failure *failure) {
    (void)reply;
    struct loaded **found = find(runner, request, failure);
    if (found == NULL) return false;
    struct loaded *loaded = *found;
    *found = loaded->next;
    loaded_close(loaded);
    return true;
}

void runner_reset(struct runner *runner) {
    while (runner->models != NULL) {
        struct loaded *loaded = runner->models;
        runner->models = loaded->next;
        loaded_close(loaded);
    }
    reference_close(&runner->reference);
    if (runner->core_count > 0) affinity_restore();
    runner->settled = false;
    runner->core_count = 0;
}

void runner_remove_scratch(const struct runner *runner) {
    DIR *folder = runner->scratch == NULL ? NULL : opendir(runner->scratch);
    if (folder == NULL) return;
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder))
        if (entry->d_name[0] != '.') unlinkat(dirfd(folder), entry->d_name, 0);
    closedir(folder);
    rmdir(runner->scratch);
}
