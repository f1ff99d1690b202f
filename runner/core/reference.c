// A workload without an engine: see reference.h.
//
// On an AMD EPYC (Zen 3), built by GCC 12 for any x86-64, a run takes 18 ms: 15 G multiply-accumulates
// a second, of the 20 that SSE2 allows there. Clang 14 takes 19 ms. (A `run` of 30 samples on one core.)
#include "reference.h"

#include <stdlib.h>

#include "tensor.h"

// Each block has a 1x1 convolution that widens, unless the expansion is 1, and one that narrows.
struct stage {
    size_t expansion, channels, repeats, stride;  // table 2 of the paper
};
static const struct stage STAGES[] = {
    {1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2},  {6, 64, 4, 2},
    {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1},
};
#define STAGE_COUNT (sizeof STAGES / sizeof *STAGES)
#define STEM_CHANNELS 32
#define STEM_SIZE 112
#define HEAD_CHANNELS 1280

struct layer {
    size_t pixels, inputs, outputs;
};
#define MAX_LAYERS 64

static size_t list_layers(struct layer layers[MAX_LAYERS]) {
    size_t count = 0, channels = STEM_CHANNELS, size = STEM_SIZE;
    for (const struct stage *stage = STAGES; stage < STAGES + STAGE_COUNT; stage++) {
        for (size_t i = 0; i < stage->repeats; i++) {
            const size_t expanded = stage->expansion * channels;
            if (stage->expansion > 1)
                layers[count++] = (struct layer){size * size, channels, expanded};
            if (i == 0) size /= stage->stride;
            layers[count++] = (struct layer){size * size, expanded, stage->channels};
            channels = stage->channels;
        }
    }
    layers[count++] = (struct layer){size * size, channels, HEAD_CHANNELS};
    return count;
}

// Four floats as one vector, by an extension that GCC and Clang share: whatever the processor has is
// used, and without it neither keeps the sums below in registers (GCC 12 took 85 ms, not 18).
typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
#define PANEL_VECTORS (PANEL / 4)

// Multiply one panel with one block of pixels.
static void multiply_block(const float *restrict panel, const float *restrict source,
                           float *restrict target, size_t inputs, size_t outputs) {
    four sums[BLOCK][PANEL_VECTORS] = {{{0}}};
    for (size_t i = 0; i < inputs; i++) {
        const four *weights = (const four *)(panel + i * PANEL);
        for (size_t p = 0; p < BLOCK; p++)
            for (size_t o = 0; o < PANEL_VECTORS; o++)
                sums[p][o] += source[p * inputs + i] * weights[o];
    }
    for (size_t p = 0; p < BLOCK; p++)
        for (size_t o = 0; o < PANEL_VECTORS; o++)
            ((four *)(target + p * outputs))[o] = sums[p][o];
}

void reference_multiply(const float *weights, const float *source, float *target, size_t pixels,
                        size_t inputs, size_t outputs) {
    const size_t tile = 64;  // pixels whose inputs stay in a cache while all weights pass by
    for (size_t start = 0; start < pixels; start += tile) {
        const size_t end = start + tile < pixels ? start + tile : pixels;
        for (size_t o = 0; o < outputs; o += PANEL)
            for (size_t p = start; p < end; p += BLOCK)
                multiply_block(weights + o * inputs, source + p * inputs, target + p * outputs + o,
                               inputs, outputs);
    }
}

int64_t reference_macs(void) {
    struct layer layers[MAX_LAYERS];
    const size_t count = list_layers(layers);
    size_t macs = 0;
    for (size_t i = 0; i < count; i++)
        macs += layers[i].pixels * layers[i].inputs * layers[i].outputs;
    return (int64_t)macs;
}

static float *random_floats(size_t count, uint64_t seed) {
    static char name[] = "reference";
    const struct tensor tensor = {
        .name = name, .dtype = DTYPE_FLOAT32, .shape = {.rank = 1, .dims = {(int64_t)count}}};
    float *floats = malloc(count * sizeof *floats);
    if (floats != NULL) tensor_fill(&tensor, seed, floats);
    return floats;
}

bool reference_open(struct reference *reference, struct failure *failure) {
    struct layer layers[MAX_LAYERS];
    const size_t count = list_layers(layers);
    size_t weights = 0, activations = 0;
    for (size_t i = 0; i < count; i++) {
        const struct layer *layer = &layers[i];
        const size_t most = layer->inputs > layer->outputs ? layer->inputs : layer->outputs;
        const size_t pixels = (layer->pixels + BLOCK - 1) / BLOCK * BLOCK;
        weights += layer->inputs * layer->outputs;
        if (activations < most * pixels) activations = most * pixels;
    }
    reference->weights = random_floats(weights, 0);
    reference->source = random_floats(activations, 1);
    reference->target = random_floats(activations, 2);
    if (reference->weights != NULL && reference->source != NULL && reference->target != NULL)
        return true;
    reference_close(reference);
    return fail(failure, "out of memory");
}

void reference_close(struct reference *reference) {
    free(reference->weights);
    free(reference->source);
    free(reference->target);
    *reference = (struct reference){0};
}

// Every layer reads the same numbers: were it the layer before's, sums would grow or vanish.
void reference_run(const struct reference *reference) {
    struct layer layers[MAX_LAYERS];
    const size_t count = list_layers(layers);
    const float *weights = reference->weights;
    for (size_t i = 0; i < count; i++) {
        const struct layer *layer = &layers[i];
        reference_multiply(weights, reference->source, reference->target, layer->pixels,
                           layer->inputs, layer->outputs);
        weights += layer->inputs * layer->outputs;
    }
}
