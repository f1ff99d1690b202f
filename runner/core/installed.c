// Which engines are there: see installed.h.
#include "installed.h"

#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "library.h"

// Whether a file is called `name`, or `name` with a version behind it: libonnxruntime.so.1.32.0.
static bool is_called(const char *file, const char *name) {
    size_t length = strlen(name);
    return strncmp(file, name, length) == 0 && (file[length] == '\0' || file[length] == '.');
}

// Look for a library of `engine` in `folder`. Returns its path, which the caller frees, or NULL.
static char *find(const struct engine *engine, const char *folder) {
    struct files here = {.root = folder};
    struct names entries = files_names(&here, "");
    char path[FILES_MAX_PATH];
    char *found = NULL;
    for (const char *const *name = engine->library_names; *name != NULL && found == NULL; name++)
        for (size_t i = 0; i < entries.count && found == NULL; i++)
            if (is_called(entries.names[i], *name) &&
                files_path(&here, path, "/%s", entries.names[i]))
                found = strdup(path);
    names_free(&entries);
    return found == NULL && engine->other != NULL ? find(engine->other, folder) : found;
}

bool engine_is_linked(const struct engine *engine) {
    return engine->linked || (engine->other != NULL && engine->other->linked);
}

void engine_install(struct engines *engines, const struct engine *engine, const char *file,
                    const char *folder, const char *version) {
    struct installed *installed = &engines->engines[engines->count++];
    *installed = (struct installed){.engine = engine};
    if (version != NULL) installed->version = strdup(version);
    if (engine_is_linked(engine)) return;
    if (file != NULL)
        installed->path = strdup(file);
    else if (folder != NULL)
        installed->path = find(engine, folder);
}

// A runtime's library may have either of two APIs: what it exports decides.
static const struct engine *choose(const struct engine *engine, const char *path) {
    struct failure ignored;
    void *function;
    const struct engine *other = engine->other;
    if (other == NULL) return engine;
    if (path == NULL) return engine->linked ? engine : other;
    void *library = library_open(path, &ignored);
    bool is_other = library != NULL && !library_find(library, engine->marker, &function) &&
                    library_find(library, other->marker, &function);
    return is_other ? other : engine;
}

static const char *file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static bool open_library(struct installed *installed) {
    if (installed->state != UNTRIED) return installed->state == OPEN;
    installed->state = BROKEN;
    if (installed->path == NULL && !engine_is_linked(installed->engine)) {
        fail(&installed->failure, "the runtime %s is not installed", installed->engine->runtime);
        hint(&installed->failure, "put %s beside the runner, or say where it is: --engine-dir",
             installed->engine->library_names[0]);
        return false;
    }
    installed->engine = choose(installed->engine, installed->path);
    if (installed->engine->open(installed->path, &installed->failure)) installed->state = OPEN;
    return installed->state == OPEN;
}

struct installed *engine_open(struct engines *engines, const char *runtime,
                              struct failure *failure) {
    for (size_t i = 0; i < engines->count; i++) {
        struct installed *installed = &engines->engines[i];
        if (strcmp(installed->engine->runtime, runtime) != 0) continue;
        if (open_library(installed)) return installed;
        *failure = installed->failure;
        return NULL;
    }
    fail(failure, "this runner has no engine for the runtime %s", runtime);
    return NULL;
}

void engine_add(struct text *text, struct installed *installed) {
    const char *version = installed->engine->version();
    if (version == NULL) version = installed->version != NULL ? installed->version : "unknown";
    text_add(text, "{\"runtime\":");
    text_add_string(text, installed->engine->runtime);
    text_add(text, ",\"version\":");
    text_add_string(text, version);
    if (installed->path != NULL) {
        if (installed->sha256[0] == '\0') sha256_file(installed->path, installed->sha256);
        text_add(text, ",\"library\":");
        text_add_string(text, file_name(installed->path));
        if (installed->sha256[0] != '\0') text_add(text, ",\"sha256\":\"%s\"", installed->sha256);
    }
    text_add(text, "}");
}
