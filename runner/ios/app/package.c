// Artifacts that are folders: see package.h. The format is that of POSIX.1-1988 (ustar).
#include "package.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BLOCK 512
#define MAX_NAME 256
#define MAX_PATH_LENGTH 2048

struct header {  // all of it text
    char name[100], mode[8], owner[8], group[8], size[12], time[12], checksum[8], type, link[100];
    char magic[6], version[2], user[32], group_name[32], major[8], minor[8], prefix[155], padding[12];
};

static bool read_octal(const char *text, size_t length, unsigned long *value) {
    char digits[16] = "", *end;
    if (length >= sizeof digits) return false;
    memcpy(digits, text, length);
    *value = strtoul(digits, &end, 8);
    return end != digits && (*end == ' ' || *end == '\0');
}

static bool is_sound(const struct header *header) {
    const unsigned char *bytes = (const unsigned char *)header;
    const size_t first = offsetof(struct header, checksum), last = first + sizeof header->checksum;
    unsigned long sum = 0, told;
    for (size_t i = 0; i < sizeof *header; i++) sum += i >= first && i < last ? ' ' : bytes[i];
    return memcmp(header->magic, "ustar", 5) == 0 &&
           read_octal(header->checksum, sizeof header->checksum, &told) && told == sum;
}

// Whether a name stays below the folder that it is put into.
static bool is_below(const char *name) {
    if (*name == '\0' || *name == '/' || strchr(name, '\\') != NULL) return false;
    for (const char *part = name; part != NULL; part = strchr(part, '/')) {
        if (*part == '/') part++;
        size_t length = strcspn(part, "/");
        if (strncmp(part, "..", length) == 0 && length > 0 && length <= 2) return false;  // . and ..
    }
    return true;
}

// Make the folders that the last part of `path` lies in, those after the first `known` characters.
static bool make_parents(char *path, size_t known) {
    for (char *slash = strchr(path + known, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        bool made = mkdir(path, S_IRWXU) == 0 || errno == EEXIST;
        *slash = '/';
        if (!made) return false;
    }
    return true;
}

static bool copy(FILE *archive, const char *path, unsigned long size) {
    char block[BLOCK];
    FILE *file = fopen(path, "wbe");
    if (file == NULL) return false;
    bool whole = true;
    while (whole && size > 0) {
        size_t part = size < BLOCK ? size : BLOCK;
        whole = fread(block, BLOCK, 1, archive) == 1 && fwrite(block, part, 1, file) == 1;
        size -= part;
    }
    return fclose(file) == 0 && whole;
}

static bool take(FILE *archive, const struct header *header, const char *folder,
                 struct failure *failure) {
    char name[MAX_NAME + 2], path[MAX_PATH_LENGTH];
    unsigned long size;
    if (header->prefix[0] != '\0')
        snprintf(name, sizeof name, "%.155s/%.100s", header->prefix, header->name);
    else
        snprintf(name, sizeof name, "%.100s", header->name);
    size_t length = strlen(name);
    if (header->type == '5' && length > 0 && name[length - 1] == '/') name[length - 1] = '\0';
    if (!is_below(name)) return fail(failure, "the package has a file of the name %.100s", name);
    int written = snprintf(path, sizeof path, "%s/%s", folder, name);
    if (written < 0 || written >= (int)sizeof path) return fail(failure, "a name is too long");
    if (!make_parents(path, strlen(folder) + 1)) return fail(failure, "cannot make a folder");
    if (header->type == '5') {
        if (mkdir(path, S_IRWXU) == 0 || errno == EEXIST) return true;
        return fail(failure, "cannot make a folder: %s", strerror(errno));
    }
    if (header->type != '0' && header->type != '\0')
        return fail(failure, "the package holds something that is no file: %.100s", name);
    if (!read_octal(header->size, sizeof header->size, &size) || !copy(archive, path, size))
        return fail(failure, "the package ends early at %.100s", name);
    return true;
}

bool package_unpack(const char *path, const char *folder, struct failure *failure) {
    static const struct header end;
    struct header header;
    FILE *archive = fopen(path, "rbe");
    if (archive == NULL) return fail(failure, "cannot read the package: %s", strerror(errno));
    bool fine = mkdir(folder, S_IRWXU) == 0 ||
                fail(failure, "cannot make %s: %s", folder, strerror(errno));
    bool ended = false;
    while (fine && !ended) {
        if (fread(&header, sizeof header, 1, archive) != 1)
            fine = fail(failure, "the package ends early");
        else if (memcmp(&header, &end, sizeof end) == 0)
            ended = true;
        else
            fine = is_sound(&header) ? take(archive, &header, folder, failure)
                                     : fail(failure, "it is no package: a POSIX tar file is");
    }
    fclose(archive);
    return fine;
}
