// Artifacts on the phone: files named by the SHA-256 of their content, in one folder.
//
// A name is 64 hexadecimal digits and nothing else, so none can lead out of the folder. A file gets its
// name only when all of it is there and its hash is right; what was cut off is removed.
#ifndef LATBENCH_CACHE_H
#define LATBENCH_CACHE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "failure.h"
#include "sha256.h"

#define CACHE_PATH_SIZE 1024
#define MAX_ARTIFACT_BYTES (INT64_C(1) << 30)

struct cache {
    char folder[CACHE_PATH_SIZE - 128];
};

// Use `folder`, which is made if it is not there; what an upload, or the making of a compiled model, left
// behind is removed.
bool cache_open(struct cache *cache, const char *folder, struct failure *failure);

// Whether `name` can be an artifact's.
bool cache_is_name(const char *name);

// Where the artifact `name` lies or would lie; `name` must be one.
void cache_path(const struct cache *cache, const char *name, char path[CACHE_PATH_SIZE]);

// Whether the artifact is there, whole: it is hashed, and removed if it is not what its name says.
bool cache_holds(const struct cache *cache, const char *name);

// Remove every artifact, and what was compiled of them; returns the bytes that all that took.
int64_t cache_clear(const struct cache *cache);

// One artifact on its way, of one conversation. All zero: none.
struct upload {
    FILE *file;
    char name[SHA256_HEX_SIZE];
    char path[CACHE_PATH_SIZE];  // until it has its name
    int64_t size, received;
    struct sha256 hash;
};

// Take a piece of an artifact; a piece at 0 begins it anew, others follow on each other. When it is whole
// it is kept, or removed if its hash is wrong.
bool upload_take(struct upload *upload, const struct cache *cache, const char *name, int64_t size,
                 int64_t offset, const void *bytes, size_t count, struct failure *failure);

// Forget what has come so far.
void upload_drop(struct upload *upload);

#endif
