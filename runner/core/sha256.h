// SHA-256 (FIPS 180-4), to identify the library of an engine.
#ifndef LATBENCH_SHA256_H
#define LATBENCH_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_HEX_SIZE 65  // 64 digits and a NUL

struct sha256 {
    uint32_t state[8];
    uint64_t length;  // bytes so far
    unsigned char block[64];
};

void sha256_begin(struct sha256 *hash);
void sha256_add(struct sha256 *hash, const void *bytes, size_t count);
void sha256_end(struct sha256 *hash, char hex[SHA256_HEX_SIZE]);

// The hash of a file's content. Returns false if the file cannot be read.
bool sha256_file(const char *path, char hex[SHA256_HEX_SIZE]);

#endif
