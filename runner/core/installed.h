// Which engines are there, and which library each one is.
#ifndef LATBENCH_INSTALLED_H
#define LATBENCH_INSTALLED_H

#include "engine.h"
#include "text.h"

#define MAX_ENGINES 4

struct installed {
    const struct engine *engine;
    char *path;  // of its library; NULL: none was found, or the engine is linked in
    bool linked;
    char *version;  // what the caller says of a library that does not tell; may be NULL
    enum { UNTRIED, OPEN, BROKEN } state;
    struct failure failure;     // why it is BROKEN
    char sha256[SHA256_HEX_SIZE];  // empty: not yet computed, or linked in
};

struct engines {
    struct installed engines[MAX_ENGINES];
    size_t count;
};

// Look for the library of `engine` in `folder`. Returns its path, which the caller frees, or NULL.
char *engine_find(const struct engine *engine, const char *folder);

// The engine of that runtime, opened; NULL with the reason if it is not there.
struct installed *engine_open(struct engines *engines, const char *runtime,
                              struct failure *failure);

// Add an open engine as a JSON object: `runtime`, `version`, `library`, `sha256`.
void engine_add(struct text *text, struct installed *installed);

#endif
