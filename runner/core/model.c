// What the models of all engines have in common: see engine.h.
#include <stdlib.h>

#include "engine.h"

static void free_tensors(struct tensor *tensors, size_t count) {
    for (size_t i = 0; tensors != NULL && i < count; i++) free(tensors[i].name);
    free(tensors);
}

void model_free_tensors(struct model *model) {
    free_tensors(model->inputs, model->input_count);
    free_tensors(model->outputs, model->output_count);
}
