// One loaded model: see loaded.h.
#include "loaded.h"

#include <stdlib.h>
#include <string.h>

static bool fill_inputs(struct model *model, uint64_t seed, struct failure *failure) {
    for (size_t i = 0; i < model->input_count; i++) {
        const struct tensor *input = &model->inputs[i];
        size_t bytes = tensor_bytes(input);
        void *data = malloc(bytes + 1);
        if (data == NULL) return fail(failure, "out of memory");
        tensor_fill(input, seed, data);
        bool filled = model->engine->set_input(model, i, data, bytes, failure);
        free(data);
        if (!filled) return false;
    }
    return true;
}

static bool contains(const struct threads *threads, int id) {
    for (size_t i = 0; i < threads->count; i++)
        if (threads->ids[i] == id) return true;
    return false;
}

struct loaded *loaded_open(struct installed *installed, const struct load_options *options,
                           uint64_t seed, double *load_ms, struct failure *failure) {
    static struct threads before, after;
    const struct engine *engine = installed->engine;
    if (!engine->start(failure)) return NULL;
    struct loaded *loaded = calloc(1, sizeof *loaded);
    if (loaded == NULL) {
        fail(failure, "out of memory");
        return NULL;
    }
    loaded->installed = installed;
    affinity_threads(&before);
    int64_t start = now_ns();
    loaded->model = engine->load(options, failure);
    if (loaded->model == NULL || !fill_inputs(loaded->model, seed, failure) ||
        !engine->prepare(loaded->model, failure)) {
        loaded_close(loaded);
        return NULL;
    }
    *load_ms = (double)(now_ns() - start) / 1e6;
    affinity_threads(&after);
    for (size_t i = 0; i < after.count; i++)
        if (!contains(&before, after.ids[i]))
            loaded->pool.ids[loaded->pool.count++] = after.ids[i];
    return loaded;
}

void loaded_close(struct loaded *loaded) {
    if (loaded->model != NULL) loaded->installed->engine->unload(loaded->model);
    free(loaded);
}

void loaded_add_observed(struct text *reply, const struct loaded *loaded) {
    static struct cores cores;
    static struct threads alive;
    affinity_observed(&cores);
    affinity_threads(&alive);
    text_add_name(reply, "cores_observed");
    if (!cores.known) text_add(reply, "null");
    for (size_t i = 0; i < cores.count; i++)
        text_add(reply, "%c%d", i ? ',' : '[', cores.cores[i]);
    if (cores.known) text_add(reply, "]");
    // The calling thread, and those of the model's pool that live.
    size_t count = 1;
    for (size_t i = 0; loaded != NULL && i < loaded->pool.count; i++)
        count += contains(&alive, loaded->pool.ids[i]);
    text_add_name(reply, "threads_observed");
    if (alive.count > 0)
        text_add(reply, "%zu", count);
    else
        text_add(reply, "null");
}

static void add_tensors(struct text *reply, const char *name, const struct tensor *tensors,
                        size_t count) {
    text_add_name(reply, name);
    text_add(reply, "[");
    for (size_t i = 0; i < count; i++) {
        if (i > 0) text_add(reply, ",");
        tensor_add(reply, &tensors[i]);
        text_add(reply, "}");
    }
    text_add(reply, "]");
}

static void add_count(struct text *reply, const char *name, int64_t count) {
    if (count < 0) return;
    text_add_name(reply, name);
    text_add(reply, "%lld", (long long)count);
}

void loaded_add_model(struct text *reply, const struct loaded *loaded) {
    const struct model *model = loaded->model;
    add_tensors(reply, "inputs", model->inputs, model->input_count);
    add_tensors(reply, "outputs", model->outputs, model->output_count);
    text_add_name(reply, "coverage");
    text_add(reply, "{");
    add_count(reply, "ops", model->coverage.ops);
    add_count(reply, "delegate_nodes", model->coverage.delegate_nodes);
    add_count(reply, "ops_outside_delegates", model->coverage.ops_outside_delegates);
    text_add(reply, "}");
}

static void add_numbers(struct text *reply, const char *name, const int64_t *numbers,
                        size_t count) {
    text_add_name(reply, name);
    if (numbers == NULL) {
        text_add(reply, "null");
        return;
    }
    for (size_t i = 0; i < count; i++)
        text_add(reply, "%c%lld", i ? ',' : '[', (long long)numbers[i]);
    text_add(reply, "]");
}

void loaded_add_samples(struct text *reply, const struct samples *samples) {
    add_numbers(reply, "samples_ns", samples->ns, samples->count);
    add_numbers(reply, "clocks_khz", samples->khz, samples->count);
}

bool loaded_add_outputs(struct text *reply, const struct loaded *loaded, struct failure *failure) {
    struct model *model = loaded != NULL ? loaded->model : NULL;
    text_add_name(reply, "outputs");
    text_add(reply, "[");
    for (size_t i = 0; model != NULL && i < model->output_count; i++) {
        size_t bytes = tensor_bytes(&model->outputs[i]);
        void *data = malloc(bytes + 1);
        if (data == NULL) return fail(failure, "out of memory");
        bool got = model->engine->get_output(model, i, data, bytes, failure);
        if (got) {
            if (i > 0) text_add(reply, ",");
            tensor_add(reply, &model->outputs[i]);
            text_add_name(reply, "values");
            text_add_base64(reply, data, bytes);
            text_add(reply, "}");
        }
        free(data);
        if (!got) return false;
    }
    text_add(reply, "]");
    return true;
}
