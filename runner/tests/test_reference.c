// The workload without an engine is the one it says it is, and computes what it must.
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "reference.h"

static void products_are_those_of_matrices(size_t pixels, size_t inputs, size_t outputs) {
    const size_t room = (pixels + BLOCK - 1) / BLOCK * BLOCK;
    float *weights = malloc(inputs * outputs * sizeof *weights);
    float *source = malloc(room * inputs * sizeof *source);
    float *target = malloc(room * outputs * sizeof *target);
    CHECK(weights != NULL && source != NULL && target != NULL);
    // Whole numbers, so that every sum is exact.
    for (size_t i = 0; i < inputs * outputs; i++) weights[i] = (float)(i % 13) - 6;
    for (size_t i = 0; i < room * inputs; i++) source[i] = (float)(i % 7) - 3;
    reference_multiply(weights, source, target, pixels, inputs, outputs);
    size_t wrong = 0;
    for (size_t p = 0; p < pixels; p++) {
        for (size_t o = 0; o < outputs; o++) {
            float sum = 0;
            for (size_t i = 0; i < inputs; i++)
                sum += source[p * inputs + i] *
                       weights[((o / PANEL) * inputs + i) * PANEL + o % PANEL];
            wrong += target[p * outputs + o] != sum;
        }
    }
    CHECK(wrong == 0);
    free(weights);
    free(source);
    free(target);
}

static void a_run_is_the_whole_chain(void) {
    // As latbench/device/host/reference.py counts them; the paper has 300 million with the rest.
    CHECK(reference_macs() == 267939840);
    struct reference reference;
    struct failure failure;
    CHECK(reference_open(&reference, &failure));
    reference_run(&reference);
    // The last layer's first output is that of the head: 320 channels at 7x7 become 1280.
    const size_t weights = 2124672;  // of all layers, likewise
    const float *head = reference.weights + weights - 320 * 1280;
    double sum = 0;
    for (size_t i = 0; i < 320; i++) sum += (double)reference.source[i] * (double)head[i * PANEL];
    CHECK(fabs(sum - (double)reference.target[0]) < 1e-3);  // sums of 320 products of order one
    CHECK(fabs(sum) > 1e-3);
    const float first = reference.target[0];
    reference_run(&reference);
    CHECK(first - reference.target[0] == 0);  // every run does the same
    reference_close(&reference);
    CHECK(reference.weights == NULL);
}

int main(void) {
    products_are_those_of_matrices(1, 1, PANEL);
    products_are_those_of_matrices(49, 20, 3 * PANEL);
    products_are_those_of_matrices(130, 3, 2 * PANEL);
    a_run_is_the_whole_chain();
    return CHECKS_STATUS;
}
