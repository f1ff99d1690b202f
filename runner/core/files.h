// The small text files in /proc and /sys that describe a system with Linux or Android.
//
// They are read below a root, so that tests can provide their own system.
#ifndef LATBENCH_FILES_H
#define LATBENCH_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "failure.h"

#define FILES_MAX_PATH 4096

struct files {
    const char *root;  // "/", or the folder that stands for it
};

// The real path of the file with that absolute path. Returns false if it is too long.
bool files_path(const struct files *files, char path[FILES_MAX_PATH], const char *format, ...)
    PRINTF_LIKE(3, 4);

// The file's text, at most its first 64 KiB, without blanks around it; NULL if it cannot be read or
// is empty. The caller frees it.
char *files_read(const struct files *files, const char *format, ...) PRINTF_LIKE(2, 3);

// The names in a folder, sorted by their bytes; none if there is no such folder.
struct names {
    char **names;
    size_t count;
};
struct names files_names(const struct files *files, const char *folder);
void names_free(struct names *names);

#endif
