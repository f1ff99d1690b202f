// Who may use this phone: see pairing.h.
#include "pairing.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 64  // bytes of a block of SHA-256
#define DIGEST 32

static const char DIGITS[] = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ";  // 32

static bool random_bytes(unsigned char *bytes, size_t count) {
    int file = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    ssize_t got = read(file, bytes, count);
    close(file);
    return got == (ssize_t)count;
}

bool is_hexadecimal(const char *text, size_t digits) {
    return strlen(text) == digits && strspn(text, "0123456789abcdef") == digits;
}

bool pairing_nonce(char text[NONCE_SIZE]) {
    unsigned char bytes[NONCE_DIGITS / 2];
    if (!random_bytes(bytes, sizeof bytes)) return false;
    for (size_t i = 0; i < sizeof bytes; i++) snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return true;
}

// Write the digits in groups of four.
static void show(const char digits[TOKEN_DIGITS], char shown[TOKEN_TEXT_SIZE]) {
    size_t at = 0;
    for (size_t i = 0; i < TOKEN_DIGITS; i++) {
        if (i > 0 && i % 4 == 0) shown[at++] = '-';
        shown[at++] = digits[i];
    }
    shown[at] = '\0';
}

bool token_make(char text[TOKEN_TEXT_SIZE]) {
    unsigned char bytes[TOKEN_DIGITS];
    char digits[TOKEN_DIGITS];
    if (!random_bytes(bytes, sizeof bytes)) return false;
    for (size_t i = 0; i < TOKEN_DIGITS; i++) digits[i] = DIGITS[bytes[i] % 32];
    show(digits, text);
    return true;
}

bool token_read(const char *text, char shown[TOKEN_TEXT_SIZE]) {
    char digits[TOKEN_DIGITS];
    size_t count = 0;
    for (; *text != '\0'; text++) {
        if (*text == '-' || isspace((unsigned char)*text)) continue;
        int digit = toupper((unsigned char)*text);
        if (count == TOKEN_DIGITS || strchr(DIGITS, digit) == NULL) return false;
        digits[count++] = (char)digit;
    }
    if (count != TOKEN_DIGITS) return false;
    show(digits, shown);
    return true;
}

bool token_keep(const char *path, char shown[TOKEN_TEXT_SIZE]) {
    char kept[64] = "";
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        kept[fread(kept, 1, sizeof kept - 1, file)] = '\0';
        fclose(file);
    }
    if (token_read(kept, shown)) return true;
    if (!token_make(shown)) return false;
    int written = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (written < 0) return false;
    bool whole = write(written, shown, strlen(shown)) == (ssize_t)strlen(shown);
    return close(written) == 0 && whole;
}

static void unhex(const char hex[SHA256_HEX_SIZE], unsigned char bytes[DIGEST]) {
    for (size_t i = 0; i < DIGEST; i++) {
        unsigned value = 0;
        sscanf(hex + 2 * i, "%2x", &value);
        bytes[i] = (unsigned char)value;
    }
}

static void hash_padded(const unsigned char key[BLOCK], unsigned char padding, const void *message,
                        size_t length, char hex[SHA256_HEX_SIZE]) {
    unsigned char block[BLOCK];
    struct sha256 hash;
    for (size_t i = 0; i < BLOCK; i++) block[i] = key[i] ^ padding;
    sha256_begin(&hash);
    sha256_add(&hash, block, sizeof block);
    sha256_add(&hash, message, length);
    sha256_end(&hash, hex);
}

void hmac_sha256(const void *key, size_t key_length, const void *message, size_t length,
                 char hex[SHA256_HEX_SIZE]) {
    unsigned char block[BLOCK] = {0}, inner[DIGEST];
    if (key_length <= BLOCK) {
        memcpy(block, key, key_length);
    } else {
        struct sha256 hash;
        sha256_begin(&hash);
        sha256_add(&hash, key, key_length);
        sha256_end(&hash, hex);
        unhex(hex, block);
    }
    hash_padded(block, 0x36, message, length, hex);
    unhex(hex, inner);
    hash_padded(block, 0x5c, inner, sizeof inner, hex);
}

void pairing_proof(const char *token, const char *role, const char *session, const char *host_nonce,
                   const char *phone_nonce, char proof[SHA256_HEX_SIZE]) {
    char message[256];
    int length = snprintf(message, sizeof message, "latbench %s:%s:%s:%s", role, session,
                          host_nonce, phone_nonce);
    hmac_sha256(token, strlen(token), message, (size_t)length, proof);
}

bool pairing_equal(const char left[SHA256_HEX_SIZE], const char *right) {
    if (strlen(right) != SHA256_HEX_SIZE - 1) return false;
    unsigned char different = 0;
    for (size_t i = 0; i < SHA256_HEX_SIZE - 1; i++)
        different |= (unsigned char)(left[i] ^ right[i]);
    return different == 0;
}
