// The companion app on a computer: everything but the shell, for tests. Its times are no phone's.
//
//     latbench-companion --cache DIR [--token TEXT | --token-file FILE] [--port PORT] [--state FILE]
//         [--model TEXT] [--os-version TEXT] [--unit TEXT] [--onnxruntime FILE] [--litert FILE]
//         [--litert-version TEXT]
//
// The state file stands in for the state that iOS reports to the shell: words "active 0", "thermal 2", "low_power 1",
// "battery 80", "charging 1", read before and after each request.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "companion.h"
#include "protocol.h"

static const char *state_file;

static void read_state(struct companion *companion) {
    struct phone_state state = {.active = true, .battery_percent = 80, .charging = true};
    FILE *file = state_file == NULL ? NULL : fopen(state_file, "re");
    char word[32];
    int value;
    while (file != NULL && fscanf(file, "%31s %d", word, &value) == 2) {
        if (strcmp(word, "active") == 0) state.active = value != 0;
        if (strcmp(word, "thermal") == 0 && value >= 0 && value <= THERMAL_CRITICAL)
            state.thermal = (enum thermal)value;
        if (strcmp(word, "low_power") == 0) state.low_power = value != 0;
        if (strcmp(word, "battery") == 0) state.battery_percent = value;
        if (strcmp(word, "charging") == 0) state.charging = value != 0;
    }
    if (file != NULL) fclose(file);
    companion_set_state(companion, &state);
}

static void say_port(unsigned port) {
    printf("listening on 127.0.0.1:%u\n", port);
    fflush(stdout);
    dup2(STDERR_FILENO, STDOUT_FILENO);  // engines print what they like
}

static int refuse(const char *message) {
    fprintf(stderr, "latbench-companion: %s\n", message);
    return 1;
}

int main(int count, char **arguments) {
    static struct companion companion;
    static const char *token, *token_file, *cache, *port, *onnxruntime, *litert, *litert_version;
    struct failure failure;
    companion_init(&companion);
    companion.emulated = true;
    const struct {
        const char *name;
        const char **value;
    } options[] = {
        {"--token", &token}, {"--token-file", &token_file}, {"--cache", &cache}, {"--port", &port},
        {"--state", &state_file}, {"--model", &companion.model}, {"--unit", &companion.unit},
        {"--os-version", &companion.os_version}, {"--onnxruntime", &onnxruntime},
        {"--litert", &litert}, {"--litert-version", &litert_version},
    };
    for (int i = 1; i < count; i += 2) {
        bool known = false;
        for (size_t j = 0; i + 1 < count && j < sizeof options / sizeof *options; j++) {
            if (strcmp(arguments[i], options[j].name) != 0) continue;
            *options[j].value = arguments[i + 1];
            known = true;
        }
        if (!known) return refuse(arguments[i]);
    }
    if (cache == NULL) return refuse("--cache is missing");
    if (token != NULL ? !token_read(token, companion.token)
                      : token_file == NULL || !token_keep(token_file, companion.token))
        return refuse("there is no token");
    if (!cache_open(&companion.cache, cache, &failure)) return refuse(failure.message);
    if (port != NULL) companion.port = (unsigned)strtoul(port, NULL, 10);
    engine_install(&companion.engines, &litert_engine, litert, NULL, litert_version);
    engine_install(&companion.engines, &onnxruntime_engine, onnxruntime, NULL, NULL);
    companion.refresh = read_state;
    companion.listening = say_port;
    companion_serve(&companion, &failure);
    return refuse(failure.message);
}
