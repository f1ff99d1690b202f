// Input data and shapes.
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "tensor.h"

#define COUNT 10000

static struct tensor tensor_of(enum dtype dtype) {
    static char name[] = "x";
    return (struct tensor){.name = name, .dtype = dtype, .shape = {.rank = 2, .dims = {COUNT / 10, 10}}};
}

static void floats_are_standard_normal_and_reproducible(void) {
    static float first[COUNT], again[COUNT], other[COUNT];
    struct tensor tensor = tensor_of(DTYPE_FLOAT32);
    CHECK(tensor_bytes(&tensor) == sizeof first);
    tensor_fill(&tensor, 0, first);
    tensor_fill(&tensor, 0, again);
    tensor_fill(&tensor, 1, other);
    CHECK(memcmp(first, again, sizeof first) == 0);
    CHECK(memcmp(first, other, sizeof first) != 0);
    double sum = 0, squares = 0;
    for (int i = 0; i < COUNT; i++) {
        sum += (double)first[i];
        squares += (double)first[i] * (double)first[i];
    }
    CHECK(fabs(sum / COUNT) < 0.04);          // four standard errors
    CHECK(fabs(squares / COUNT - 1) < 0.06);  // likewise
}

static void half_precision_is_rounded_to_nearest(void) {
    static uint16_t halves[COUNT];
    static float floats[COUNT];
    struct tensor tensor = tensor_of(DTYPE_FLOAT16);
    tensor_fill(&tensor, 0, halves);
    tensor.dtype = DTYPE_FLOAT32;
    tensor_fill(&tensor, 0, floats);
    for (int i = 0; i < COUNT; i++) {
        int exponent = halves[i] >> 10 & 31, mantissa = halves[i] & 1023;
        double value = exponent > 0 ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
        if (halves[i] & 0x8000) value = -value;
        double step = ldexp(1, (exponent > 0 ? exponent : 1) - 25);
        CHECK(fabs(value - (double)floats[i]) <= 0.5001 * step);
    }
}

static void quantized_values_stay_in_range(void) {
    static int8_t stored[COUNT];
    static float real[COUNT];
    struct tensor tensor = tensor_of(DTYPE_INT8);
    tensor.quantized = true;
    tensor.scale = 0.01;
    tensor.zero_point = 100;
    tensor_fill(&tensor, 0, stored);
    tensor.dtype = DTYPE_FLOAT32;
    tensor_fill(&tensor, 0, real);
    int clipped = 0;
    for (int i = 0; i < COUNT; i++) {
        double meant = ((double)stored[i] - 100) * 0.01;
        if (stored[i] == 127 || stored[i] == -128)
            clipped++;
        else
            CHECK(fabs(meant - (double)real[i]) <= 0.00501);
    }
    CHECK(clipped > 3000 && clipped < 5000);  // 39.4 % of a standard normal are past 0.27
}

static void other_integers_are_zero_and_flags_true(void) {
    static int64_t integers[COUNT];
    static uint8_t flags[COUNT];
    memset(integers, 1, sizeof integers);
    struct tensor tensor = tensor_of(DTYPE_INT64);
    tensor_fill(&tensor, 0, integers);
    tensor.dtype = DTYPE_BOOL;
    tensor_fill(&tensor, 0, flags);
    for (int i = 0; i < COUNT; i++) CHECK(integers[i] == 0 && flags[i] == 1);
}

static void sizes_do_not_overflow(void) {
    struct tensor tensor = tensor_of(DTYPE_FLOAT64);
    tensor.shape = (struct shape){.rank = 0};
    CHECK(tensor_bytes(&tensor) == 8);
    tensor.shape = (struct shape){.rank = 4, .dims = {1 << 20, 1 << 20, 1 << 20, 1 << 20}};
    CHECK(tensor_bytes(&tensor) == 0);
    tensor.shape = (struct shape){.rank = 2, .dims = {-1, 3}};
    CHECK(tensor_bytes(&tensor) == 0);
}

static void shapes_are_settled(void) {
    struct shape settled;
    struct failure failure = {0};
    const struct shape batch = {4, {-1, 3, 8, 8}}, open = {4, {-1, 3, -1, -1}};
    const struct shape asked = {4, {2, 3, 8, 8}}, other = {4, {2, 3, 9, 8}}, flat = {1, {8}};
    CHECK(settle_shapes(&batch, 1, NULL, 0, &settled, &failure) && settled.dims[0] == 1);
    CHECK(settle_shapes(&batch, 1, &asked, 1, &settled, &failure) && settled.dims[0] == 2);
    CHECK(settle_shapes(&open, 1, &other, 1, &settled, &failure) && settled.dims[2] == 9);
    CHECK(!settle_shapes(&open, 1, NULL, 0, &settled, &failure));
    CHECK_TEXT(failure.message, "the model leaves more than the batch of its input ?x3x?x? open");
    CHECK_TEXT(failure.hint, "say its shape, like: --input-shape 1x3x224x224");
    CHECK(!settle_shapes(&batch, 1, &other, 1, &settled, &failure));
    CHECK_TEXT(failure.message, "--input-shape 2x3x9x8 does not fit the model's input ?x3x8x8");
    CHECK(!settle_shapes(&batch, 1, &flat, 1, &settled, &failure));
    CHECK(!settle_shapes(&batch, 1, &batch, 1, &settled, &failure));
    CHECK(!settle_shapes(&batch, 1, &asked, 2, &settled, &failure));
    CHECK_TEXT(failure.message, "the model takes 1 inputs, but --input-shape was given 2 times");
}

int main(void) {
    floats_are_standard_normal_and_reproducible();
    half_precision_is_rounded_to_nearest();
    quantized_values_stay_in_range();
    other_integers_are_zero_and_flags_true();
    sizes_do_not_overflow();
    shapes_are_settled();
    return CHECKS_STATUS;
}
