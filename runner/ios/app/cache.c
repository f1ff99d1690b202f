// Artifacts on the phone: see cache.h.
#include "cache.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pairing.h"

#define PARTIAL ".part"

static bool is_partial(const char *name) {
    size_t length = strlen(name), suffix = strlen(PARTIAL);
    return length > suffix && strcmp(name + length - suffix, PARTIAL) == 0;
}

// What the Core ML engine makes beside an artifact (../shell/coreml_engine.m): folders.
static const char *const MADE[] = {".mlmodelc", ".mlpackage"};

// Whether `name` is an artifact's, or of something that was made of one.
static bool is_of_artifact(const char *name) {
    char artifact[SHA256_HEX_SIZE];
    snprintf(artifact, sizeof artifact, "%s", name);
    if (!cache_is_name(artifact)) return false;
    const char *rest = name + strlen(artifact);
    for (size_t i = 0; i < sizeof MADE / sizeof *MADE; i++)
        if (strcmp(rest, MADE[i]) == 0) return true;
    return *rest == '\0';
}

// Whether `name` is of something that was cut off: an upload, or a package that was to be compiled.
static bool is_unfinished(const char *name) {
    const char *suffix = strrchr(name, '.');
    return is_partial(name) ||
           (suffix != NULL && strcmp(suffix, ".mlpackage") == 0 && is_of_artifact(name));
}

// Remove a file, or a folder with all that is in it; links are not followed. Returns the files' bytes.
static int64_t remove_all(const char *path) {
    struct stat status;
    if (lstat(path, &status) != 0) return 0;
    if (!S_ISDIR(status.st_mode)) return unlink(path) == 0 ? status.st_size : 0;
    DIR *entries = opendir(path);
    if (entries == NULL) return 0;
    int64_t bytes = 0;
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        char inner[CACHE_PATH_SIZE];
        int length = snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || length < 0 ||
            length >= (int)sizeof inner)
            continue;
        bytes += remove_all(inner);
    }
    closedir(entries);
    rmdir(path);
    return bytes;
}

// Remove what `wanted` says of the names in the folder; returns the bytes of its files.
static int64_t sweep(const struct cache *cache, bool (*wanted)(const char *)) {
    DIR *entries = opendir(cache->folder);
    if (entries == NULL) return 0;
    int64_t bytes = 0;
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        char path[CACHE_PATH_SIZE];
        int length = snprintf(path, sizeof path, "%s/%s", cache->folder, entry->d_name);
        if (!wanted(entry->d_name) || length < 0 || length >= (int)sizeof path) continue;
        bytes += remove_all(path);
    }
    closedir(entries);
    return bytes;
}

bool cache_open(struct cache *cache, const char *folder, struct failure *failure) {
    int length = snprintf(cache->folder, sizeof cache->folder, "%s", folder);
    if (length < 0 || length >= (int)sizeof cache->folder)
        return fail(failure, "the folder's name is too long");
    if (mkdir(folder, S_IRWXU) != 0 && errno != EEXIST)
        return fail(failure, "cannot make %s: %s", folder, strerror(errno));
    sweep(cache, is_unfinished);
    return true;
}

bool cache_is_name(const char *name) { return is_hexadecimal(name, SHA256_HEX_SIZE - 1); }

void cache_path(const struct cache *cache, const char *name, char path[CACHE_PATH_SIZE]) {
    snprintf(path, CACHE_PATH_SIZE, "%s/%s", cache->folder, name);
}

bool cache_holds(const struct cache *cache, const char *name) {
    char path[CACHE_PATH_SIZE], hash[SHA256_HEX_SIZE];
    cache_path(cache, name, path);
    if (!sha256_file(path, hash)) return false;
    if (strcmp(hash, name) == 0) return true;
    unlink(path);
    return false;
}

int64_t cache_clear(const struct cache *cache) { return sweep(cache, is_of_artifact); }

void upload_drop(struct upload *upload) {
    if (upload->file == NULL) return;
    fclose(upload->file);
    unlink(upload->path);
    *upload = (struct upload){0};
}

static bool begin(struct upload *upload, const struct cache *cache, const char *name, int64_t size,
                  struct failure *failure) {
    static unsigned uploads;  // requests are answered one at a time
    upload_drop(upload);
    snprintf(upload->path, sizeof upload->path, "%s/%u" PARTIAL, cache->folder, ++uploads);
    upload->file = fopen(upload->path, "we");
    if (upload->file == NULL)
        return fail(failure, "the phone cannot write a file: %s", strerror(errno));
    snprintf(upload->name, sizeof upload->name, "%s", name);
    upload->size = size;
    sha256_begin(&upload->hash);
    return true;
}

// All of it is there: give it its name, if it is what the name says.
static bool finish(struct upload *upload, const struct cache *cache, struct failure *failure) {
    char hash[SHA256_HEX_SIZE], path[CACHE_PATH_SIZE];
    sha256_end(&upload->hash, hash);
    cache_path(cache, upload->name, path);
    bool right = strcmp(hash, upload->name) == 0;
    bool kept = fclose(upload->file) == 0 && right && rename(upload->path, path) == 0;
    if (!kept) unlink(upload->path);
    *upload = (struct upload){0};
    if (!right) return fail(failure, "what came has the hash %s: it was removed", hash);
    return kept || fail(failure, "the phone cannot keep the file: %s", strerror(errno));
}

bool upload_take(struct upload *upload, const struct cache *cache, const char *name, int64_t size,
                 int64_t offset, const void *bytes, size_t count, struct failure *failure) {
    if (!cache_is_name(name))
        return fail(failure, "an artifact is named by 64 hexadecimal digits, its SHA-256");
    if (size < 0 || size > MAX_ARTIFACT_BYTES)
        return fail(failure, "an artifact has at most %lld bytes", (long long)MAX_ARTIFACT_BYTES);
    if (offset == 0 && !begin(upload, cache, name, size, failure)) return false;
    if (upload->file == NULL || strcmp(upload->name, name) != 0 || upload->size != size ||
        upload->received != offset) {
        upload_drop(upload);
        return fail(failure, "this piece does not follow on the one before: begin again at 0");
    }
    if ((int64_t)count > size - offset) {
        upload_drop(upload);
        return fail(failure, "more came than the %lld bytes that were announced", (long long)size);
    }
    if (fwrite(bytes, 1, count, upload->file) != count) {
        int reason = errno;
        upload_drop(upload);
        return fail(failure, "the phone cannot write it: %s", strerror(reason));
    }
    sha256_add(&upload->hash, bytes, count);
    upload->received += (int64_t)count;
    return upload->received < size || finish(upload, cache, failure);
}
