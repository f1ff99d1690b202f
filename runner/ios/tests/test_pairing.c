// Tokens, nonces and proofs.
#include <stdlib.h>
#include <unistd.h>

#include "base64.h"
#include "check.h"
#include "pairing.h"

// RFC 4231, test cases 1, 2 and 6.
static void hmac_is_that_of_the_rfc(void) {
    char hex[SHA256_HEX_SIZE], key[131];
    memset(key, 0x0b, 20);
    hmac_sha256(key, 20, "Hi There", 8, hex);
    CHECK_TEXT(hex, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, hex);
    CHECK_TEXT(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof key);
    hmac_sha256(key, sizeof key, "Test Using Larger Than Block-Size Key - Hash Key First", 54, hex);
    CHECK_TEXT(hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static void tokens_are_read_as_people_type_them(void) {
    char shown[TOKEN_TEXT_SIZE], made[TOKEN_TEXT_SIZE];
    CHECK(token_read(" abcd efgh-jkmn\npqrs ", shown));
    CHECK_TEXT(shown, "ABCD-EFGH-JKMN-PQRS");
    CHECK(!token_read("ABCD-EFGH-JKMN-PQR", shown));
    CHECK(!token_read("ABCD-EFGH-JKMN-PQRST", shown));
    CHECK(!token_read("ABCD-EFGH-JKMN-PQR0", shown));
    CHECK(!token_read("", shown));
    CHECK(token_make(made) && token_read(made, shown));
    CHECK_TEXT(shown, made);
}

static void a_token_is_kept(void) {
    char path[] = "token_test_XXXXXX", first[TOKEN_TEXT_SIZE], second[TOKEN_TEXT_SIZE];
    close(mkstemp(path));  // empty: no token yet
    CHECK(token_keep(path, first));
    CHECK(token_keep(path, second));
    CHECK_TEXT(second, first);
    unlink(path);
    CHECK(!token_keep("/nowhere/token", first));
}

static void proofs_differ_by_all_that_goes_into_them(void) {
    char proof[SHA256_HEX_SIZE], other[SHA256_HEX_SIZE];
    pairing_proof("T", "host", "s", "h", "p", proof);
    CHECK(pairing_equal(proof, proof));
    static const char *const others[][5] = {{"U", "host", "s", "h", "p"}, {"T", "phone", "s", "h", "p"},
                                            {"T", "host", "t", "h", "p"}, {"T", "host", "s", "i", "p"},
                                            {"T", "host", "s", "h", "q"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const char *const *o = others[i];
        pairing_proof(o[0], o[1], o[2], o[3], o[4], other);
        CHECK(!pairing_equal(proof, other));
    }
    CHECK(!pairing_equal(proof, "") && !pairing_equal(proof, "short"));
    char nonce[NONCE_SIZE], next[NONCE_SIZE];
    CHECK(pairing_nonce(nonce) && pairing_nonce(next) && strcmp(nonce, next) != 0);
    CHECK(is_hexadecimal(nonce, NONCE_DIGITS));
    CHECK(!is_hexadecimal("ABCDEF", 6) && !is_hexadecimal("abc", 4) && !is_hexadecimal("abcg", 4));
}

// RFC 4648, section 10.
static void base64_is_that_of_the_rfc(void) {
    static const char *const pairs[][2] = {{"", ""},         {"f", "Zg=="},         {"fo", "Zm8="},
                                           {"foo", "Zm9v"},  {"foobar", "Zm9vYmFy"}};
    unsigned char bytes[16];
    size_t count;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        CHECK(base64_read(pairs[i][1], strlen(pairs[i][1]), bytes, &count));
        CHECK(count == strlen(pairs[i][0]) && memcmp(bytes, pairs[i][0], count) == 0);
    }
    static const char *const wrong[] = {"Zg", "Zg=", "Z===", "Zg==Zg==", "Zm9v=", "Zm 9", "Zm9\n", "===="};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(!base64_read(wrong[i], strlen(wrong[i]), bytes, &count));
}

int main(void) {
    hmac_is_that_of_the_rfc();
    tokens_are_read_as_people_type_them();
    a_token_is_kept();
    proofs_differ_by_all_that_goes_into_them();
    base64_is_that_of_the_rfc();
    return CHECKS_STATUS;
}
