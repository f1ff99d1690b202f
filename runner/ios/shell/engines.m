// The engines of the app: see engines.h.
#import "engines.h"

#include <string.h>

static void add(struct companion *companion, const struct engine *engine, const char *version) {
    struct installed *installed = &companion->engines.engines[companion->engines.count++];
    *installed = (struct installed){.engine = engine, .linked = true};
    if (version != NULL) installed->version = strdup(version);
}

void engines_add(struct companion *companion) {
#ifdef LATBENCH_LINKED_LITERT
    add(companion, &litert_engine, LATBENCH_LITERT_VERSION);
#endif
#ifdef LATBENCH_LINKED_ONNXRUNTIME
    add(companion, &onnxruntime_engine, NULL);
#endif
    add(companion, &coreml_engine, NULL);
}
