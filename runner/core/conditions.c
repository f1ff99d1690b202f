// The state of this unit: see conditions.h.
#include "conditions.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "affinity.h"
#include "temperatures.h"
#include "throttling.h"

#define CPU "/sys/devices/system/cpu"
#define TICKS_A_SECOND 100.0  // USER_HZ, the unit of /proc/stat on every architecture (proc(5))

static void add_affinity(struct text *text) {
    static struct cores cores;
    affinity_observed(&cores);
    if (!cores.known) return;
    text_add_name(text, "affinity");
    for (size_t i = 0; i < cores.count; i++) text_add(text, "%c%d", i ? ',' : '[', cores.cores[i]);
    text_add(text, "]");
}

static bool all_digits(const char *text) {
    for (const char *at = text; *at; at++)
        if (!isdigit((unsigned char)*at)) return false;
    return *text != '\0';
}

static int ascending(const void *left, const void *right) {
    int a = *(const int *)left, b = *(const int *)right;
    return (a > b) - (a < b);
}

// The cores that have a folder, ascending; returns how many.
static size_t core_folders(const struct files *files, int cores[MAX_CORES]) {
    struct names folders = files_names(files, CPU);
    size_t count = 0;
    for (size_t i = 0; i < folders.count; i++) {
        const char *name = folders.names[i];
        if (strncmp(name, "cpu", 3) == 0 && all_digits(name + 3) && strlen(name) < 8 &&
            count < MAX_CORES)
            cores[count++] = atoi(name + 3);
    }
    names_free(&folders);
    qsort(cores, count, sizeof *cores, ascending);
    return count;
}

// Add an object with what the file `name` of each core says: numbers, or strings.
static void add_by_core(struct text *text, const struct files *files, const char *field,
                        const char *name, bool numbers) {
    static int cores[MAX_CORES];
    size_t count = core_folders(files, cores), told = 0;
    for (size_t i = 0; i < count; i++) {
        char *value = files_read(files, CPU "/cpu%d/cpufreq/%s", cores[i], name);
        if (value != NULL && (!numbers || all_digits(value))) {
            if (told++ == 0) {
                text_add_name(text, field);
                text_add(text, "{");
            }
            text_add(text, "%s\"%d\":", told > 1 ? "," : "", cores[i]);
            if (numbers)
                text_add(text, "%lld", strtoll(value, NULL, 10));
            else
                text_add_string(text, value);
        }
        free(value);
    }
    if (told > 0) text_add(text, "}");
}

// Add the number that `value`, which is freed, begins with.
static void add_first_number(struct text *text, const char *field, char *value) {
    if (value != NULL && isdigit((unsigned char)*value)) {
        value[strspn(value, "0123456789.")] = '\0';  // no sign, exponent or hexadecimal
        text_add_name(text, field);
        text_add_number(text, strtod(value, NULL));
    }
    free(value);
}

static void add_memory(struct text *text, const struct files *files) {
    char *memory = files_read(files, "/proc/meminfo");
    const char *line = memory;
    while (line != NULL && strncmp(line, "MemAvailable:", 13) != 0) {
        line = strchr(line, '\n');
        if (line != NULL) line++;
    }
    long long kib;
    if (line != NULL && sscanf(line + 13, "%lld kB", &kib) == 1) {
        text_add_name(text, "memory_available_mib");
        text_add_number(text, (double)kib / 1024);
    }
    free(memory);
}

// The time that a hypervisor gave to others: the eighth figure of /proc/stat's first line.
static void add_stolen(struct text *text, const struct files *files) {
    char *stat = files_read(files, "/proc/stat");
    long long ticks;
    if (stat != NULL && sscanf(stat, "cpu %*d %*d %*d %*d %*d %*d %*d %lld", &ticks) == 1) {
        text_add_name(text, "stolen_s");
        text_add_number(text, (double)ticks / TICKS_A_SECOND);
    }
    free(stat);
}

static bool says(const struct files *files, const char *supply, const char *file,
                 const char *expected) {
    char *text = files_read(files, "/sys/class/power_supply/%s/%s", supply, file);
    bool equal = text != NULL && strcmp(text, expected) == 0;
    free(text);
    return equal;
}

// The unit's own battery: its charge in percent, and whether it is on external power.
static void add_battery(struct text *text, const struct files *files) {
    struct names supplies = files_names(files, "/sys/class/power_supply");
    for (size_t i = 0; i < supplies.count; i++) {
        const char *supply = supplies.names[i];
        if (!says(files, supply, "type", "Battery") || says(files, supply, "scope", "Device"))
            continue;  // a mains adapter, or a mouse's battery
        add_first_number(text, "battery_percent",
                         files_read(files, "/sys/class/power_supply/%s/capacity", supply));
        char *status = files_read(files, "/sys/class/power_supply/%s/status", supply);
        if (status != NULL && strcmp(status, "Unknown") != 0) {
            bool charging = strcmp(status, "Charging") == 0 || strcmp(status, "Full") == 0 ||
                            strcmp(status, "Not charging") == 0;
            text_add_name(text, "charging");
            text_add(text, charging ? "true" : "false");
        }
        free(status);
        break;
    }
    names_free(&supplies);
}

// The distribution's name, out of /etc/os-release; the caller frees it.
static char *distribution(const struct files *files) {
    char *release = files_read(files, "/etc/os-release");
    char *line = release;
    while (line != NULL && strncmp(line, "PRETTY_NAME=", 12) != 0) {
        line = strchr(line, '\n');
        if (line != NULL) line++;
    }
    char *name = NULL;
    if (line != NULL) {
        line += 12;
        if (*line == '"') line++;
        line[strcspn(line, "\"\n")] = '\0';
        if (*line != '\0') name = strdup(line);
    }
    free(release);
    return name;
}

static void add_build(struct text *text, const struct files *files) {
    char *kernel = files_read(files, "/proc/sys/kernel/osrelease");
    char *name = distribution(files);
    if (kernel != NULL || name != NULL) {
        struct text build = {0};
        if (kernel != NULL) text_add(&build, "Linux %s", kernel);
        if (name != NULL) text_add(&build, "%s%s", kernel != NULL ? ", " : "", name);
        text_add_name(text, "build");
        text_add_string(text, build.broken ? "" : build.data);
        text_free(&build);
    }
    free(kernel);
    free(name);
}

void conditions_add(struct text *text, const struct files *files) {
    add_affinity(text);
    add_by_core(text, files, "clocks_khz", "scaling_cur_freq", true);
    add_by_core(text, files, "clock_limits_khz", "scaling_max_freq", true);
    add_by_core(text, files, "clock_peaks_khz", "cpuinfo_max_freq", true);
    add_by_core(text, files, "governors", "scaling_governor", false);
    temperatures_add(text, files);
    add_first_number(text, "load_average", files_read(files, "/proc/loadavg"));
    add_memory(text, files);
    add_stolen(text, files);
    throttling_add(text, files);
    add_battery(text, files);
    add_first_number(text, "uptime_s", files_read(files, "/proc/uptime"));
    add_build(text, files);
}
