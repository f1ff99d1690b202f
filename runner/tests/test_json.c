// Reading and writing JSON.
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "json.h"
#include "text.h"

static bool reads(const char *text) {
    struct json_document document;
    struct failure failure;
    bool fine = json_read(&document, text, strlen(text), &failure);
    if (fine) json_free(&document);
    return fine;
}

static void what_is_json_is_read(void) {
    static const char *const texts[] = {
        "null", " true ", "false", "0", "-0", "10", "-1.5e+10", "1E-2", "\"\"", "[]", "{}",
        "[[],[{}],1,\"a\"]", "{\"a\":{\"b\":[1,2]},\"c\":null}", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
        "NaN", "-Infinity", "Infinity", "\t[ 1 ,\r\n2 ]",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (!reads(texts[i])) printf("%s\n", texts[i]);
        CHECK(reads(texts[i]));
    }
}

static void what_is_not_json_is_refused(void) {
    static const char *const texts[] = {
        "", " ", "nul", "01", "1.", ".5", "+1", "1e", "--1", "[1,]", "[1 2]", "[,1]", "{\"a\"}",
        "{\"a\":1,}", "{a:1}", "{1:2}", "\"", "\"\\\"", "\"\\x\"", "\"\\u12g4\"", "\"\\ud800\"",
        "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"a\nb\"", "\"\xff\"", "\"\xc0\x80\"",
        "\"\xed\xa0\x80\"", "\"\xf5\x80\x80\x80\"", "\"\xe2\x82\"", "1 2", "[1]]", "{\"a\":1}x",
        "tru", "Inf", "-NaN",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (reads(texts[i])) printf("%s\n", texts[i]);
        CHECK(!reads(texts[i]));
    }
}

static void nesting_has_an_end(void) {
    char text[4 * JSON_MAX_DEPTH + 1];
    for (int depth = JSON_MAX_DEPTH; depth <= JSON_MAX_DEPTH + 1; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        text[2 * depth] = '\0';
        CHECK(reads(text) == (depth == JSON_MAX_DEPTH));
    }
    memset(text, '[', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    CHECK(!reads(text));
}

static void values_are_what_was_written(void) {
    const char *text = "{\"n\": -12.5, \"s\": \"a\\u0000\\n\\u20ac\\ud83d\\ude00\", \"t\": true, "
                       "\"l\": [1, 2, 3], \"n\": 7, \"x\": 1.5, \"big\": 1e300}";
    struct json_document document;
    struct failure failure;
    int64_t number = 0;
    CHECK(json_read(&document, text, strlen(text), &failure));
    const struct json *object = document.root;
    CHECK(object->kind == JSON_OBJECT && object->length == 7);
    CHECK(json_integer(json_member(object, "n"), &number) && number == 7);  // the last one counts
    CHECK(!json_integer(json_member(object, "x"), &number));
    CHECK(!json_integer(json_member(object, "big"), &number));
    const struct json *string = json_member(object, "s");
    CHECK(string->length == 10 && memcmp(string->string, "a\0\n\xe2\x82\xac\xf0\x9f\x98\x80", 10) == 0);
    const struct json *list = json_member(object, "l");
    CHECK(list->length == 3 && list->first->next->next->number == 3);
    CHECK(list->raw_length == 9 && memcmp(list->raw, "[1, 2, 3]", 9) == 0);
    CHECK(json_member(object, "absent") == NULL);
    CHECK(json_member(list, "n") == NULL);
    json_free(&document);
}

static void text_is_written_as_json(void) {
    struct text text = {0};
    text_add_string(&text, "a\"\\\n\x7f\xc3\xa9\xff");
    CHECK_TEXT(text.data, "\"a\\\"\\\\\\u000a\\u007f\xc3\xa9\\ufffd\"");
    text_free(&text);
    text_add(&text, "{");
    text_add_name(&text, "a");
    text_add_number(&text, 0.1);
    text_add_name(&text, "b");
    text_add_number(&text, NAN);
    CHECK_TEXT(text.data, "{\"a\":0.10000000000000001,\"b\":null");
    text_free(&text);
}

static void bytes_are_written_as_base64(void) {
    static const char *const expected[] = {  // RFC 4648, section 10
        "\"\"", "\"Zg==\"", "\"Zm8=\"", "\"Zm9v\"", "\"Zm9vYg==\"", "\"Zm9vYmE=\"", "\"Zm9vYmFy\"",
    };
    for (size_t count = 0; count <= 6; count++) {
        struct text text = {0};
        text_add_base64(&text, "foobar", count);
        CHECK_TEXT(text.data, expected[count]);
        text_free(&text);
    }
    struct text text = {0};
    text_add_base64(&text, "\xff\xfe\xfb", 3);
    CHECK_TEXT(text.data, "\"//77\"");
    text_free(&text);
}

int main(void) {
    what_is_json_is_read();
    what_is_not_json_is_refused();
    nesting_has_an_end();
    values_are_what_was_written();
    text_is_written_as_json();
    bytes_are_written_as_base64();
    return CHECKS_STATUS;
}
