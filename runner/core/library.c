// Opening libraries: see library.h.
#include "library.h"

#include <dlfcn.h>
#include <string.h>

void *library_open(const char *path, struct failure *failure) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) fail(failure, "the library cannot be loaded: %s", dlerror());
    return library;
}

bool library_find(void *library, const char *name, void *function) {
    void *found = dlsym(library, name);
    // C has no conversion from a pointer to a function pointer; POSIX says they look the same.
    if (found != NULL) memcpy(function, &found, sizeof found);
    return found != NULL;
}
