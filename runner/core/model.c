// What the models of all engines have in common: see engine.h.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

static void free_tensors(struct tensor *tensors, size_t count) {
    for (size_t i = 0; tensors != NULL && i < count; i++) free(tensors[i].name);
    free(tensors);
}

void model_free_tensors(struct model *model) {
    free_tensors(model->inputs, model->input_count);
    free_tensors(model->outputs, model->output_count);
    model->inputs = model->outputs = NULL;
    model->input_count = model->output_count = 0;
}

// Bytes 4 to 8 of every TFLite flatbuffer.
bool model_is_tflite(const char *path, struct failure *failure) {
    char start[8] = {0};
    FILE *file = fopen(path, "rb");
    size_t read = file == NULL ? 0 : fread(start, 1, sizeof start, file);
    if (file != NULL) fclose(file);
    if (read == sizeof start && memcmp(start + 4, "TFL3", 4) == 0) return true;
    return fail(failure, "%s is not a TFLite model", path);
}
