// The installed engines, and the library of each.
#ifndef LATBENCH_INSTALLED_H
#define LATBENCH_INSTALLED_H

#include "engine.h"
#include "text.h"

#define MAX_ENGINES 4

struct installed {
    const struct engine *engine;
    char *path;  // of its library; NULL: none was found, or the engine is linked in
    char *version;  // what the caller says of a library that does not tell; may be NULL
    enum { UNTRIED, OPEN, BROKEN } state;
    struct failure failure;     // why it is BROKEN
    char sha256[SHA256_HEX_SIZE];  // empty: not yet computed, or linked in
};

struct engines {
    struct installed engines[MAX_ENGINES];
    size_t count;
};

// Whether `engine`, or the other one of its runtime, is linked into this program.
bool engine_is_linked(const struct engine *engine);

// Add an engine: the one that is linked in, else the library `file`, else the one in `folder`, if there is
// one. `file`, `folder` and `version` may be NULL.
void engine_install(struct engines *engines, const struct engine *engine, const char *file,
                    const char *folder, const char *version);

// The engine of that runtime, opened; NULL with the reason if it is not there.
struct installed *engine_open(struct engines *engines, const char *runtime,
                              struct failure *failure);

// Add an open engine as a JSON object: `runtime`, `version`, `library`, `sha256`.
void engine_add(struct text *text, struct installed *installed);

#endif
