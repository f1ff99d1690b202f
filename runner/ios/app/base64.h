// Base64 (RFC 4648, with padding), read.
#ifndef LATBENCH_BASE64_H
#define LATBENCH_BASE64_H

#include <stdbool.h>
#include <stddef.h>

// Put what `text` stands for into `bytes`, which has room for 3 bytes for every 4 characters. Returns false if it
// is no base64.
bool base64_read(const char *text, size_t length, unsigned char *bytes, size_t *count);

#endif
