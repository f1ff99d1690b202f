// Temperatures: see temperatures.h.
#include "temperatures.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TEMPERATURES 512
#define ZONES "/sys/class/thermal"
#define MONITORS "/sys/class/hwmon"

struct list {
    struct text *text;
    char *seen[MAX_TEMPERATURES];  // the names, each as often as it came
    size_t count;
};

// Add one temperature, in thousandths of a degree (kernel: sysfs-api), under `name`.
static void add(struct list *list, const char *name, const char *reading) {
    char *end = NULL;
    long long thousandths = reading == NULL ? 0 : strtoll(reading, &end, 10);
    if (end == NULL || end == reading || *end != '\0' || list->count == MAX_TEMPERATURES) return;
    size_t times = 1;
    for (size_t i = 0; i < list->count; i++) times += strcmp(list->seen[i], name) == 0;
    char *kept = strdup(name);
    if (kept == NULL) return;
    list->seen[list->count++] = kept;
    char shown[512];
    if (times == 1)
        snprintf(shown, sizeof shown, "%s", name);
    else
        snprintf(shown, sizeof shown, "%s #%zu", name, times);
    if (list->count == 1) {
        text_add_name(list->text, "temperatures_c");
        text_add(list->text, "{");
    }
    text_add_name(list->text, shown);
    text_add_number(list->text, (double)thousandths / 1000);
}

static void add_zones(struct list *list, const struct files *files) {
    struct names zones = files_names(files, ZONES);
    for (size_t i = 0; i < zones.count; i++) {
        const char *zone = zones.names[i];
        if (strncmp(zone, "thermal_zone", 12) != 0) continue;
        char *reading = files_read(files, ZONES "/%s/temp", zone);
        char *type = files_read(files, ZONES "/%s/type", zone);
        add(list, type != NULL ? type : zone, reading);
        free(reading);
        free(type);
    }
    names_free(&zones);
}

// Whether `file` is called "temp<number>_input"; puts "temp<number>" into `sensor`.
static bool is_sensor(const char *file, char sensor[32]) {
    int number, end = 0;
    if (sscanf(file, "temp%9d_input%n", &number, &end) != 1 || end == 0 || file[end] != '\0')
        return false;
    snprintf(sensor, 32, "temp%d", number);
    return true;
}

static void add_monitor(struct list *list, const struct files *files, const char *monitor) {
    char folder[512];
    snprintf(folder, sizeof folder, MONITORS "/%s", monitor);
    struct names entries = files_names(files, folder);
    char *chip = files_read(files, "%s/name", folder);
    for (size_t i = 0; i < entries.count; i++) {
        char sensor[32], name[512];
        if (!is_sensor(entries.names[i], sensor)) continue;
        char *label = files_read(files, "%s/%s_label", folder, sensor);
        char *reading = files_read(files, "%s/%s", folder, entries.names[i]);
        snprintf(name, sizeof name, "%s %s", chip != NULL ? chip : monitor,
                 label != NULL ? label : sensor);
        add(list, name, reading);
        free(label);
        free(reading);
    }
    free(chip);
    names_free(&entries);
}

void temperatures_add(struct text *text, const struct files *files) {
    struct list *list = calloc(1, sizeof *list);
    if (list == NULL) return;
    list->text = text;
    add_zones(list, files);
    struct names monitors = files_names(files, MONITORS);
    for (size_t i = 0; i < monitors.count; i++) add_monitor(list, files, monitors.names[i]);
    names_free(&monitors);
    if (list->count > 0) text_add(text, "}");
    for (size_t i = 0; i < list->count; i++) free(list->seen[i]);
    free(list);
}
