// Affinity: see affinity.h.
#include "affinity.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void cores_say(const int *cores, size_t count, char *text, size_t size) {
    int length = snprintf(text, size, "%s", count == 0 ? "any core" : count > 1 ? "cores" : "core");
    for (size_t i = 0; i < count && length >= 0 && (size_t)length < size; i++) {
        int more = snprintf(text + length, size - (size_t)length, "%c%d", i ? ',' : ' ', cores[i]);
        length += more;
    }
}

#ifdef __linux__

#include <dirent.h>
#include <sched.h>
#include <stdlib.h>

_Static_assert(MAX_CORES == CPU_SETSIZE, "a cpu_set_t holds as many cores");

static cpu_set_t remembered;
static bool has_remembered;

void affinity_threads(struct threads *threads) {
    threads->count = 0;
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL) return;
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        int id = atoi(task->d_name);
        if (id > 0 && threads->count < MAX_THREADS) threads->ids[threads->count++] = id;
    }
    closedir(tasks);
}

// Returns 0, or the error of the first thread that could not be set.
static int set_all(const cpu_set_t *set) {
    static struct threads threads;
    affinity_threads(&threads);
    for (size_t i = 0; i < threads.count; i++)
        if (sched_setaffinity(threads.ids[i], sizeof *set, set) != 0 && errno != ESRCH)
            return errno;
    return 0;
}

static void say_allowed(char *text, size_t size) {
    static struct cores allowed;
    affinity_observed(&allowed);
    char cores[256];
    cores_say(allowed.cores, allowed.count, cores, sizeof cores);
    snprintf(text, size, "; it may use %s", cores);
}

bool affinity_pin(const int *cores, size_t count, struct failure *failure) {
    cpu_set_t set;
    CPU_ZERO(&set);
    int error = 0;
    for (size_t i = 0; i < count; i++) {
        if (cores[i] < 0 || cores[i] >= MAX_CORES)
            error = EINVAL;
        else
            CPU_SET((size_t)cores[i], &set);
    }
    if (error == 0) error = set_all(&set);
    if (error == 0) return true;
    char asked[256], allowed[300];
    cores_say(cores, count, asked, sizeof asked);
    say_allowed(allowed, sizeof allowed);
    return fail(failure, "cannot run on %s: %s%s", asked, strerror(error), allowed);
}

void affinity_remember(void) {
    has_remembered = sched_getaffinity(0, sizeof remembered, &remembered) == 0;
}

void affinity_restore(void) {
    if (has_remembered) set_all(&remembered);
}

void affinity_observed(struct cores *cores) {
    static struct threads threads;
    affinity_threads(&threads);
    cpu_set_t all;
    CPU_ZERO(&all);
    for (size_t i = 0; i < threads.count; i++) {
        cpu_set_t set;
        if (sched_getaffinity(threads.ids[i], sizeof set, &set) != 0) continue;  // it has ended
        CPU_OR(&all, &all, &set);
    }
    cores->count = 0;
    for (size_t core = 0; core < MAX_CORES; core++)
        if (CPU_ISSET(core, &all)) cores->cores[cores->count++] = (int)core;
    cores->known = cores->count > 0;
}

bool affinity_waited_ns(int64_t *nanoseconds) {
    static struct threads threads;
    affinity_threads(&threads);
    bool told = false;
    *nanoseconds = 0;
    for (size_t i = 0; i < threads.count; i++) {
        char path[64];
        long long waited;
        snprintf(path, sizeof path, "/proc/self/task/%d/schedstat", threads.ids[i]);
        FILE *file = fopen(path, "re");
        if (file == NULL) continue;  // it has ended, or this kernel keeps no statistics
        if (fscanf(file, "%*s %lld %*s", &waited) == 1) {
            *nanoseconds += waited;
            told = true;
        }
        fclose(file);
    }
    return told;
}

#else  // no system call says

bool affinity_pin(const int *cores, size_t count, struct failure *failure) {
    char asked[256];
    cores_say(cores, count, asked, sizeof asked);
    return fail(failure,
                "cannot run on %s: this operating system does not let a process choose its cores",
                asked);
}

void affinity_remember(void) {}
void affinity_restore(void) {}
void affinity_observed(struct cores *cores) { *cores = (struct cores){.known = false}; }
void affinity_threads(struct threads *threads) { threads->count = 0; }
bool affinity_waited_ns(int64_t *nanoseconds) { return *nanoseconds = 0, false; }

#endif
