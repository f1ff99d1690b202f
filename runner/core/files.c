// Small text files below a root: see files.h.
#include "files.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TEXT (64 * 1024)

static bool rooted(const struct files *files, char path[FILES_MAX_PATH], const char *format,
                   va_list arguments) {
    int root = snprintf(path, FILES_MAX_PATH, "%s", files->root);
    if (root < 0 || root >= FILES_MAX_PATH) return false;
    while (root > 0 && path[root - 1] == '/') root--;
    int rest = vsnprintf(path + root, (size_t)(FILES_MAX_PATH - root), format, arguments);
    return rest >= 0 && rest < FILES_MAX_PATH - root;
}

bool files_path(const struct files *files, char path[FILES_MAX_PATH], const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    bool fits = rooted(files, path, format, arguments);
    va_end(arguments);
    return fits;
}

static bool is_blank(char character) {
    return character == '\0' || strchr(" \t\n\v\f\r", character) != NULL;
}

static char *read_text(const char *path) {
    FILE *file = fopen(path, "re");
    if (file == NULL) return NULL;
    char *text = malloc(MAX_TEXT + 1);
    size_t length = text == NULL ? 0 : fread(text, 1, MAX_TEXT, file);
    fclose(file);
    while (length > 0 && is_blank(text[length - 1])) length--;
    if (length == 0) {
        free(text);
        return NULL;
    }
    text[length] = '\0';
    size_t blanks = 0;
    while (blanks < length && is_blank(text[blanks])) blanks++;
    memmove(text, text + blanks, length - blanks + 1);
    return text;
}

char *files_read(const struct files *files, const char *format, ...) {
    char path[FILES_MAX_PATH];
    va_list arguments;
    va_start(arguments, format);
    bool fits = rooted(files, path, format, arguments);
    va_end(arguments);
    return fits ? read_text(path) : NULL;
}

static int by_bytes(const void *left, const void *right) {
    return strcmp(*(char *const *)left, *(char *const *)right);
}

struct names files_names(const struct files *files, const char *folder) {
    struct names names = {0};
    char path[FILES_MAX_PATH];
    DIR *entries = files_path(files, path, "%s", folder) ? opendir(path) : NULL;
    if (entries == NULL) return names;
    size_t capacity = 0;
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (names.count == capacity) {
            capacity = capacity == 0 ? 16 : 2 * capacity;
            char **more = realloc(names.names, capacity * sizeof *more);
            if (more == NULL) break;
            names.names = more;
        }
        char *name = strdup(entry->d_name);
        if (name == NULL) break;
        names.names[names.count++] = name;
    }
    closedir(entries);
    if (names.count > 0) qsort(names.names, names.count, sizeof *names.names, by_bytes);
    return names;
}

void names_free(struct names *names) {
    for (size_t i = 0; i < names->count; i++) free(names->names[i]);
    free(names->names);
    *names = (struct names){0};
}
