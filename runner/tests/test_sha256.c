// SHA-256 against the examples of FIPS 180-4, and a file in pieces.
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "sha256.h"

static void check_hash(const void *bytes, size_t count, size_t piece, const char *expected) {
    struct sha256 hash;
    char hex[SHA256_HEX_SIZE];
    sha256_begin(&hash);
    for (size_t at = 0; at < count; at += piece)
        sha256_add(&hash, (const char *)bytes + at, count - at < piece ? count - at : piece);
    sha256_end(&hash, hex);
    CHECK_TEXT(hex, expected);
}

int main(void) {
    check_hash("", 0, 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check_hash("abc", 3, 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const char *two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    const char *expected = "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1";
    for (size_t piece = 1; piece <= 56; piece += 11) check_hash(two_blocks, 56, piece, expected);
    static char million[1000000];
    memset(million, 'a', sizeof million);
    expected = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    check_hash(million, sizeof million, 999, expected);

    char path[] = "sha256_test_XXXXXX", hex[SHA256_HEX_SIZE];
    FILE *file = fdopen(mkstemp(path), "wb");
    CHECK(file != NULL && fwrite(million, 1, sizeof million, file) == sizeof million);
    if (file != NULL) fclose(file);
    CHECK(sha256_file(path, hex));
    CHECK_TEXT(hex, expected);
    unlink(path);
    CHECK(!sha256_file(path, hex));
    return CHECKS_STATUS;
}
