// The runner as a program.
//
//     latbench-runner [--listen PORT] [--max-seconds N] [--engine-dir DIR] [--onnxruntime FILE]
//                     [--litert FILE] [--litert-version TEXT] [--torchscript FILE]
//                     [--system-root DIR] [--scratch DIR]
//
// It speaks the runner protocol on its standard streams, or, with --listen, with one client after
// another on a port of the loopback interface. Engines are looked for beside the program unless
// options say where they are.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plugin.h"
#include "protocol.h"
#include "watchdog.h"

#define USAGE_STATUS 2
#define FAILED_STATUS 1

struct options {
    bool listen;
    unsigned port, max_seconds;
    const char *engine_dir, *onnxruntime, *litert, *litert_version, *torchscript,
        *system_root, *scratch;
};

static bool read_number(const char *text, unsigned long most, unsigned *number) {
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || value > most) return false;
    *number = (unsigned)value;
    return true;
}

static bool read_option(const char *name, const char *value, struct options *options) {
    const struct {
        const char *name;
        const char **value;
    } texts[] = {
        {"--engine-dir", &options->engine_dir},   {"--onnxruntime", &options->onnxruntime},
        {"--litert", &options->litert},           {"--litert-version", &options->litert_version},
        {"--torchscript", &options->torchscript}, {"--system-root", &options->system_root},
        {"--scratch", &options->scratch},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (strcmp(name, texts[i].name) != 0) continue;
        *texts[i].value = value;
        return true;
    }
    if (strcmp(name, "--max-seconds") == 0)
        return read_number(value, 1000000000, &options->max_seconds);
    if (strcmp(name, "--listen") != 0) return false;
    options->listen = true;
    return read_number(value, 65535, &options->port);
}

// The folder that this program lies in; the caller frees it. NULL where the system does not tell.
static char *program_folder(void) {
    char *path = realpath("/proc/self/exe", NULL);
    char *slash = path == NULL ? NULL : strrchr(path, '/');
    if (slash != NULL) *slash = '\0';
    return path;
}

static bool add_engines(struct engines *engines, const struct options *options,
                        struct failure *failure) {
    char *own = program_folder();
    const char *folder = options->engine_dir != NULL ? options->engine_dir : own;
    engine_install(engines, &litert_engine, options->litert, folder, options->litert_version);
    engine_install(engines, &onnxruntime_engine, options->onnxruntime, folder, NULL);
    free(own);
    return options->torchscript == NULL ||
           plugin_open(options->torchscript, &engines->engines[engines->count++], failure);
}

static int fail_to_start(const struct failure *failure) {
    fprintf(stderr, "latbench-runner: %s\n", failure->message);
    return FAILED_STATUS;
}

static int serve_streams(struct runner *runner, struct channel *channel) {
    struct failure failure;
    if (!channel_own_streams(channel, &failure)) return fail_to_start(&failure);
    watchdog_watch(channel->in);
    if (!protocol_serve(runner, channel)) runner_remove_scratch(runner);
    return 0;
}

static int serve_port(struct runner *runner, struct channel *channel, unsigned port) {
    struct failure failure;
    int listener = listen_locally(&port, &failure);
    if (listener < 0) return fail_to_start(&failure);
    printf("listening on 127.0.0.1:%u\n", port);
    fflush(stdout);
    // From here on, what engines print goes to the standard error, as with the standard streams.
    if (dup2(STDERR_FILENO, STDOUT_FILENO) < 0) return FAILED_STATUS;
    while (channel_accept(channel, listener)) {
        watchdog_watch(channel->in);
        bool last = protocol_serve(runner, channel);
        watchdog_forget();
        channel_close(channel);
        if (last) return 0;
        runner_reset(runner);
    }
    return FAILED_STATUS;
}

int main(int count, char **arguments) {
    static struct runner runner;
    static struct channel channel;
    struct options options = {.system_root = "/"};
    for (int i = 1; i < count; i += 2) {
        if (i + 1 < count && read_option(arguments[i], arguments[i + 1], &options)) continue;
        fprintf(stderr,
                "latbench-runner: what is %s?\n"
                "usage: latbench-runner [--listen PORT] [--max-seconds N] [--engine-dir DIR]\n"
                "         [--onnxruntime FILE] [--litert FILE] [--litert-version TEXT]\n"
                "         [--torchscript FILE] [--system-root DIR] [--scratch DIR]\n",
                arguments[i]);
        return USAGE_STATUS;
    }
    runner.files.root = options.system_root;
    runner.scratch = options.scratch;
    signal(SIGINT, SIG_IGN);   // the client decides what Ctrl-C means
    signal(SIGPIPE, SIG_IGN);  // writing then says that nobody reads
    watchdog_report_crashes();
    if (options.max_seconds > 0) watchdog_limit(options.max_seconds);
    affinity_remember();
    struct failure failure;
    if (!add_engines(&runner.engines, &options, &failure)) return fail_to_start(&failure);
    int status = options.listen ? serve_port(&runner, &channel, options.port)
                                : serve_streams(&runner, &channel);
    // Engines' threads are still there; nothing of theirs is worth waiting for.
    _exit(status);
}
