// Artifacts: whole and right, or not there.
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache.h"
#include "check.h"

#define HELLO "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  // of "hello"

static bool is_there(const char *path) {
    struct stat status;
    return stat(path, &status) == 0;
}

static void pieces_become_a_file(struct cache *cache) {
    struct upload upload = {0};
    struct failure failure = {0};
    char path[CACHE_PATH_SIZE];
    cache_path(cache, HELLO, path);
    CHECK(!cache_holds(cache, HELLO));
    CHECK(upload_take(&upload, cache, HELLO, 5, 0, "hel", 3, &failure));
    CHECK(!is_there(path));
    CHECK(upload_take(&upload, cache, HELLO, 5, 3, "lo", 2, &failure));
    CHECK(upload.file == NULL && cache_holds(cache, HELLO));
    // Somebody changed it: it is not used, and not kept.
    FILE *file = fopen(path, "a");
    CHECK(file != NULL && fputs("!", file) >= 0 && fclose(file) == 0);
    CHECK(!cache_holds(cache, HELLO) && !is_there(path));
}

static void what_is_wrong_leaves_nothing(struct cache *cache) {
    struct upload upload = {0};
    struct failure failure = {0};
    CHECK(!upload_take(&upload, cache, HELLO, 5, 0, "jello", 5, &failure));
    CHECK(strstr(failure.message, "has the hash") != NULL);
    CHECK(!upload_take(&upload, cache, HELLO, 5, 3, "lo", 2, &failure));
    CHECK(upload_take(&upload, cache, HELLO, 5, 0, "hel", 3, &failure));
    CHECK(!upload_take(&upload, cache, HELLO, 5, 4, "o", 1, &failure));
    CHECK(upload_take(&upload, cache, HELLO, 5, 0, "hel", 3, &failure));
    CHECK(!upload_take(&upload, cache, HELLO, 5, 3, "lots", 4, &failure));
    CHECK(!upload_take(&upload, cache, HELLO, MAX_ARTIFACT_BYTES + 1, 0, "", 0, &failure));
    CHECK(upload.file == NULL);
    static const char *const names[] = {"", "..", "../../etc/passwd", "/etc/passwd", HELLO "/..",
                                        "2CF24DBA5FB0A30E26E83B2AC5B9E29E1B161E5C1FA7425E73043362938B9824"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        CHECK(!cache_is_name(names[i]));
        CHECK(!upload_take(&upload, cache, names[i], 5, 0, "hello", 5, &failure));
    }
    CHECK(upload_take(&upload, cache, HELLO, 5, 0, "he", 2, &failure));
    CHECK(is_there(upload.path));
    char partial[CACHE_PATH_SIZE];
    snprintf(partial, sizeof partial, "%s", upload.path);
    upload_drop(&upload);
    CHECK(!is_there(partial));
}

static void a_new_start_removes_what_was_cut_off(struct cache *cache, const char *folder) {
    struct failure failure = {0};
    struct upload upload = {0};
    CHECK(upload_take(&upload, cache, HELLO, 5, 0, "hello", 5, &failure));
    CHECK(upload_take(&upload, cache, HELLO, 5, 0, "he", 2, &failure));
    CHECK(cache_open(cache, folder, &failure));
    CHECK(!is_there(upload.path) && cache_holds(cache, HELLO));
    fclose(upload.file);
    CHECK(cache_clear(cache) == 5 && !cache_holds(cache, HELLO) && cache_clear(cache) == 0);
}

static void make(const char *folder, const char *name, const char *text) {
    char path[CACHE_PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (text == NULL) {
        CHECK(mkdir(path, S_IRWXU) == 0);
        return;
    }
    FILE *file = fopen(path, "w");
    CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static bool has(const char *folder, const char *name) {
    char path[CACHE_PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return is_there(path);
}

static void compiled_models_go_with_their_artifacts(struct cache *cache, const char *folder) {
    struct failure failure = {0};
    make(folder, HELLO, "hello");
    make(folder, HELLO ".mlmodelc", NULL);
    make(folder, HELLO ".mlmodelc/weights", NULL);
    make(folder, HELLO ".mlmodelc/weights/w.bin", "1234567");
    make(folder, HELLO ".mlpackage", NULL);  // of a compilation that was cut off
    make(folder, HELLO ".mlpackage/Manifest.json", "{}");
    make(folder, HELLO ".other", "somebody else's");
    make(folder, "outside", NULL);
    make(folder, "outside/kept", "!");
    char link[CACHE_PATH_SIZE];
    snprintf(link, sizeof link, "%s/" HELLO ".mlmodelc/link", folder);
    CHECK(symlink("../outside", link) == 0);
    CHECK(cache_open(cache, folder, &failure));
    CHECK(!has(folder, HELLO ".mlpackage") && has(folder, HELLO ".mlmodelc/weights/w.bin"));
    CHECK(cache_clear(cache) == 5 + 7 + 10);  // the link's own ten
    CHECK(!has(folder, HELLO ".mlmodelc") && !has(folder, HELLO));
    CHECK(has(folder, "outside/kept") && has(folder, HELLO ".other"));
    char command[CACHE_PATH_SIZE];
    snprintf(command, sizeof command, "rm -r %s/outside %s/" HELLO ".other", folder, folder);
    CHECK(system(command) == 0);
}

int main(void) {
    char folder[] = "cache_test_XXXXXX";
    struct cache cache;
    struct failure failure = {0};
    CHECK(mkdtemp(folder) != NULL);
    CHECK(cache_open(&cache, folder, &failure));
    CHECK(!cache_open(&cache, "/nowhere/at/all", &failure));
    CHECK(cache_open(&cache, folder, &failure));
    pieces_become_a_file(&cache);
    what_is_wrong_leaves_nothing(&cache);
    a_new_start_removes_what_was_cut_off(&cache, folder);
    compiled_models_go_with_their_artifacts(&cache, folder);
    CHECK(rmdir(folder) == 0);
    return CHECKS_STATUS;
}
