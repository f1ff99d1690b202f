// Base64: see base64.h.
#include "base64.h"

#include <stdint.h>
#include <string.h>

static int value_of(char digit) {
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = digit == '\0' ? NULL : strchr(DIGITS, digit);
    return at == NULL ? -1 : (int)(at - DIGITS);
}

bool base64_read(const char *text, size_t length, unsigned char *bytes, size_t *count) {
    *count = 0;
    if (length % 4 != 0) return false;
    size_t padding = 0;
    while (padding < 2 && padding < length && text[length - 1 - padding] == '=') padding++;
    for (size_t i = 0; i < length; i += 4) {
        uint32_t group = 0;
        for (size_t j = 0; j < 4; j++) {
            int value = i + j < length - padding ? value_of(text[i + j]) : 0;
            if (value < 0) return false;
            group = group << 6 | (uint32_t)value;
        }
        size_t whole = i + 4 < length ? 3 : 3 - padding;
        for (size_t j = 0; j < whole; j++) bytes[(*count)++] = (unsigned char)(group >> (16 - 8 * j));
    }
    return true;
}
