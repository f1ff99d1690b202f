// Engines in libraries of their own: see plugin.h.
#include "plugin.h"

#include <string.h>

#include "library.h"

bool plugin_open(const char *path, struct installed *installed, struct failure *failure) {
    const struct engine *(*get_engine)(void) = NULL;
    size_t (*get_bytes)(void) = NULL;
    const char *(*get_library)(void) = NULL;
    void *library = library_open(path, failure);
    if (library == NULL) return false;
    if (!library_find(library, "latbench_engine", &get_engine))
        return fail(failure, "%s is no engine of the runner: it has no latbench_engine", path);
    if (!library_find(library, "latbench_engine_bytes", &get_bytes) ||
        get_bytes() != sizeof(struct engine))
        return fail(failure, "%s was built for another version of the runner; build it again: "
                    "latbench runner build --torchscript", path);
    library_find(library, "latbench_engine_library", &get_library);
    const char *computes = get_library != NULL ? get_library() : NULL;
    *installed = (struct installed){.engine = get_engine()};
    installed->path = strdup(computes != NULL ? computes : path);
    return installed->path != NULL || fail(failure, "out of memory");
}
