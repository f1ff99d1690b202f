// CPU quotas: see throttling.h.
#include "throttling.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FOLDERS 64

struct folders {
    char *names[MAX_FOLDERS];
    size_t count;
};

static void visit(struct folders *folders, const char *folder) {
    for (size_t i = 0; i < folders->count; i++)
        if (strcmp(folders->names[i], folder) == 0) return;
    char *kept = folders->count < MAX_FOLDERS ? strdup(folder) : NULL;
    if (kept != NULL) folders->names[folders->count++] = kept;
}

// Whether "cpu" is one of the controllers in a list like "cpu,cpuacct".
static bool has_cpu(const char *controllers) {
    for (const char *at = controllers; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, "cpu", 3) == 0 && (at[3] == ',' || at[3] == '\0')) return true;
    }
    return false;
}

// Visit the cgroup at `path` below the first of two roots that has statistics, and those above it.
static void visit_upwards(struct folders *folders, const struct files *files, const char *root,
                          const char *other, const char *path) {
    char *first = files_read(files, "%s/cpu.stat", root);
    char *second = first == NULL ? files_read(files, "%s/cpu.stat", other) : NULL;
    char folder[FILES_MAX_PATH];
    int length = snprintf(folder, sizeof folder, "%s", second != NULL ? other : root);
    free(first);
    free(second);
    const size_t root_length = (size_t)length;
    while (*path != '\0') {
        size_t part = strcspn(path, "/");
        bool named = part > 0 && !(part == 2 && strncmp(path, "..", 2) == 0);
        if (named && (size_t)length + part + 2 < sizeof folder)
            length += snprintf(folder + length, sizeof folder - (size_t)length, "/%.*s", (int)part,
                               path);
        path += part + (path[part] == '/');
    }
    for (;;) {
        visit(folders, folder);
        if (strlen(folder) <= root_length) return;
        *strrchr(folder, '/') = '\0';
    }
}

// Read one line of /proc/self/cgroup: "number:controllers:path".
static void visit_line(struct folders *folders, const struct files *files, char *line) {
    char *controllers = strchr(line, ':');
    char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
    if (path == NULL) return;
    *controllers++ = '\0';
    *path++ = '\0';
    if (strcmp(line, "0") == 0) {
        visit_upwards(folders, files, "/sys/fs/cgroup", "/sys/fs/cgroup/unified", path);
    } else if (has_cpu(controllers)) {
        char root[256];
        snprintf(root, sizeof root, "/sys/fs/cgroup/%s", controllers);
        visit_upwards(folders, files, root, "/sys/fs/cgroup/cpu", path);
    }
}

// What one cgroup's cpu.stat says, in seconds. Returns false if it says nothing.
static bool throttled_in(const char *statistics, double *seconds) {
    for (const char *line = statistics; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        unsigned long long figure;
        if (sscanf(line, "throttled_usec %llu", &figure) == 1) {  // cgroup v2
            *seconds = (double)figure / 1e6;
            return true;
        }
        if (sscanf(line, "throttled_time %llu", &figure) == 1) {  // cgroup v1
            *seconds = (double)figure / 1e9;
            return true;
        }
    }
    return false;
}

void throttling_add(struct text *text, const struct files *files) {
    struct folders folders = {0};
    char *groups = files_read(files, "/proc/self/cgroup");
    for (char *line = groups; line != NULL;) {
        char *next = strchr(line, '\n');
        if (next != NULL) *next++ = '\0';
        visit_line(&folders, files, line);
        line = next;
    }
    free(groups);
    bool told = false;
    double total = 0;
    for (size_t i = 0; i < folders.count; i++) {
        char *statistics = files_read(files, "%s/cpu.stat", folders.names[i]);
        double seconds;
        if (statistics != NULL && throttled_in(statistics, &seconds)) {
            told = true;
            total += seconds;
        }
        free(statistics);
        free(folders.names[i]);
    }
    if (!told) return;
    text_add_name(text, "throttled_s");
    text_add_number(text, total);
}
