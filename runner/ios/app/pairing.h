// Pairing: a host may use this phone if it knows the token on its screen. The token is never sent.
//
// A host sends a nonce and its session, the phone a nonce of its own. The host proves that it knows the
// token by HMAC-SHA-256 (RFC 2104) over both, then the phone does. A nonce is used once, so a proof that
// somebody recorded is of no use.
#ifndef LATBENCH_PAIRING_H
#define LATBENCH_PAIRING_H

#include <stdbool.h>
#include <stddef.h>

#include "sha256.h"

#define TOKEN_DIGITS 16                        // of 32 each: 80 bits, beyond guessing
#define TOKEN_TEXT_SIZE (TOKEN_DIGITS + 3 + 1)  // as shown, in groups of four, and a NUL
#define NONCE_DIGITS 32                        // hexadecimal
#define NONCE_SIZE (NONCE_DIGITS + 1)

// Put random hexadecimal digits and a NUL into `text`. Returns false where the system gives none.
bool pairing_nonce(char text[NONCE_SIZE]);

// Make a new token, as it is shown: without 0, 1, I and O, which people mistake.
bool token_make(char text[TOKEN_TEXT_SIZE]);

// Whether `text` is a token, however a person typed it; puts it in the form in which it is shown.
bool token_read(const char *text, char shown[TOKEN_TEXT_SIZE]);

// Read the token that `path` keeps, else make one and keep it there.
bool token_keep(const char *path, char shown[TOKEN_TEXT_SIZE]);

// What the side called `role` ("host" or "phone") proves its knowledge of the token by.
void pairing_proof(const char *token, const char *role, const char *session, const char *host_nonce,
                   const char *phone_nonce, char proof[SHA256_HEX_SIZE]);

// Whether two proofs are equal, in a time that does not tell where they differ.
bool pairing_equal(const char left[SHA256_HEX_SIZE], const char *right);

// Whether `text` is `digits` digits of lower-case hexadecimal, and nothing else.
bool is_hexadecimal(const char *text, size_t digits);

// HMAC-SHA-256 as hexadecimal digits.
void hmac_sha256(const void *key, size_t key_length, const void *message, size_t length,
                 char hex[SHA256_HEX_SIZE]);

#endif
