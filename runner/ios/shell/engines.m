// The engines of the app: see engines.h.
#import "engines.h"

#ifndef LATBENCH_LITERT_VERSION  // to be defined with LATBENCH_LINKED_LITERT
#define LATBENCH_LITERT_VERSION NULL
#endif

static void add(struct companion *companion, const struct engine *engine, const char *version) {
    if (engine_is_linked(engine))
        engine_install(&companion->engines, engine, NULL, NULL, version);
}

void engines_add(struct companion *companion) {
    add(companion, &litert_engine, LATBENCH_LITERT_VERSION);  // or TensorFlow Lite
    add(companion, &onnxruntime_engine, NULL);
    add(companion, &coreml_engine, NULL);
}
