// Tensors: see tensor.h.
#include "tensor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size;
    double low, high;  // of the integers that stand for reals
} DTYPES[] = {
    [DTYPE_NONE] = {"none", 0, 0, 0},
    [DTYPE_BOOL] = {"bool", 1, 0, 0},
    [DTYPE_INT8] = {"int8", 1, INT8_MIN, INT8_MAX},
    [DTYPE_INT16] = {"int16", 2, INT16_MIN, INT16_MAX},
    [DTYPE_INT32] = {"int32", 4, INT32_MIN, INT32_MAX},
    [DTYPE_INT64] = {"int64", 8, 0, 0},
    [DTYPE_UINT8] = {"uint8", 1, 0, UINT8_MAX},
    [DTYPE_UINT16] = {"uint16", 2, 0, UINT16_MAX},
    [DTYPE_UINT32] = {"uint32", 4, 0, UINT32_MAX},
    [DTYPE_UINT64] = {"uint64", 8, 0, 0},
    [DTYPE_FLOAT16] = {"float16", 2, 0, 0},
    [DTYPE_FLOAT32] = {"float32", 4, 0, 0},
    [DTYPE_FLOAT64] = {"float64", 8, 0, 0},
};

const char *dtype_name(enum dtype dtype) { return DTYPES[dtype].name; }
size_t dtype_size(enum dtype dtype) { return DTYPES[dtype].size; }

static size_t elements(const struct shape *shape) {
    uint64_t count = 1;
    for (size_t i = 0; i < shape->rank; i++) {
        if (shape->dims[i] < 1) return 0;
        if (count > (UINT64_C(1) << 40) / (uint64_t)shape->dims[i]) return 0;
        count *= (uint64_t)shape->dims[i];
    }
    return count > SIZE_MAX / 16 ? 0 : (size_t)count;
}

size_t tensor_bytes(const struct tensor *tensor) {
    return elements(&tensor->shape) * dtype_size(tensor->dtype);
}

void tensor_add(struct text *text, const struct tensor *tensor) {
    text_add(text, "{\"name\":");
    text_add_string(text, tensor->name);
    text_add(text, ",\"shape\":[");
    for (size_t i = 0; i < tensor->shape.rank; i++)
        text_add(text, "%s%lld", i ? "," : "", (long long)tensor->shape.dims[i]);
    text_add(text, "],\"dtype\":\"%s\"", dtype_name(tensor->dtype));
    if (!tensor->quantized) return;
    text_add(text, ",\"scale\":");
    text_add_number(text, tensor->scale);
    text_add(text, ",\"zero_point\":%lld", (long long)tensor->zero_point);
}

static uint64_t split_mix(uint64_t seed, uint64_t place) {
    uint64_t bits = seed + (place + 1) * UINT64_C(0x9e3779b97f4a7c15);
    bits = (bits ^ bits >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    bits = (bits ^ bits >> 27) * UINT64_C(0x94d049bb133111eb);
    return bits ^ bits >> 31;
}

static double standard_normal(uint64_t seed, uint64_t place) {
    const double unit = 1.0 / 9007199254740992.0, turn = 6.283185307179586;  // 2^-53, 2 pi
    double u = (double)((split_mix(seed, 2 * place) >> 11) + 1) * unit;
    double v = (double)(split_mix(seed, 2 * place + 1) >> 11) * unit;
    return sqrt(-2.0 * log(u)) * cos(turn * v);
}

// A number as IEEE 754 half precision, rounded to the nearest, ties to even. Standard normals from
// 53 bits stay below 9, so nothing overflows.
static uint16_t half(double number) {
    uint16_t sign = signbit(number) ? 0x8000 : 0;
    number = fabs(number);
    int exponent;
    frexp(number, &exponent);                       // number = f * 2^exponent, 0.5 <= f < 1
    if (number == 0 || exponent < -13) exponent = -13;  // subnormal: in steps of 2^-24
    // In steps of a half's last place a normal number is 1024 to 2048. The carry into the next
    // power of two falls out of the sum.
    double steps = nearbyint(ldexp(number, 11 - exponent));
    return (uint16_t)(sign | ((exponent + 13) * 1024 + (int)steps));
}

static void put(const struct tensor *tensor, void *data, size_t place, double real) {
    double stored = 0;
    if (tensor->quantized) {
        stored = nearbyint(real / tensor->scale) + (double)tensor->zero_point;
        stored = fmin(fmax(stored, DTYPES[tensor->dtype].low), DTYPES[tensor->dtype].high);
    }
    switch (tensor->dtype) {
        case DTYPE_BOOL: ((uint8_t *)data)[place] = 1; break;
        case DTYPE_INT8: ((int8_t *)data)[place] = (int8_t)stored; break;
        case DTYPE_INT16: ((int16_t *)data)[place] = (int16_t)stored; break;
        case DTYPE_INT32: ((int32_t *)data)[place] = (int32_t)stored; break;
        case DTYPE_INT64: ((int64_t *)data)[place] = (int64_t)stored; break;
        case DTYPE_UINT8: ((uint8_t *)data)[place] = (uint8_t)stored; break;
        case DTYPE_UINT16: ((uint16_t *)data)[place] = (uint16_t)stored; break;
        case DTYPE_UINT32: ((uint32_t *)data)[place] = (uint32_t)stored; break;
        case DTYPE_UINT64: ((uint64_t *)data)[place] = (uint64_t)stored; break;
        case DTYPE_FLOAT16: ((uint16_t *)data)[place] = half(real); break;
        case DTYPE_FLOAT32: ((float *)data)[place] = (float)real; break;
        case DTYPE_FLOAT64: ((double *)data)[place] = real; break;
        case DTYPE_NONE: break;
    }
}

void tensor_fill(const struct tensor *tensor, uint64_t seed, void *data) {
    const size_t count = elements(&tensor->shape);
    for (size_t i = 0; i < count; i++) put(tensor, data, i, standard_normal(seed, i));
}

// Write a shape like 1x3x?x?.
static void shape_say(const struct shape *shape, char *text, size_t size) {
    size_t length = 0;
    text[0] = '\0';
    for (size_t i = 0; i < shape->rank && length < size; i++) {
        const char *cross = i ? "x" : "";
        long long dim = (long long)shape->dims[i];
        int more = dim == -1 ? snprintf(text + length, size - length, "%s?", cross)
                             : snprintf(text + length, size - length, "%s%lld", cross, dim);
        length += (size_t)more;
    }
}

static bool fits(const struct shape *own, const struct shape *wanted) {
    if (own->rank != wanted->rank) return false;
    for (size_t i = 0; i < own->rank; i++) {
        if (wanted->dims[i] < 1) return false;
        if (own->dims[i] > 0 && own->dims[i] != wanted->dims[i]) return false;
    }
    return true;
}

bool refuse_shape(const struct shape *own, const struct shape *wanted, struct failure *failure) {
    char own_text[256], wanted_text[256];
    shape_say(own, own_text, sizeof own_text);
    shape_say(wanted, wanted_text, sizeof wanted_text);
    return fail(failure, "--input-shape %s does not fit the model's input %s", wanted_text,
                own_text);
}

bool settle_shapes(const struct shape *declared, size_t count, const struct shape *asked,
                   size_t asked_count, struct shape *settled, struct failure *failure) {
    if (asked != NULL && asked_count != count)
        return fail(failure, "the model takes %zu inputs, but --input-shape was given %zu times",
                    count, asked_count);
    for (size_t i = 0; i < count; i++) {
        if (asked != NULL && !fits(&declared[i], &asked[i]))
            return refuse_shape(&declared[i], &asked[i], failure);
        settled[i] = asked != NULL ? asked[i] : declared[i];
        for (size_t k = 0; k < settled[i].rank; k++) {
            if (settled[i].dims[k] > 0) continue;
            if (k > 0) {
                char own[256];
                shape_say(&declared[i], own, sizeof own);
                fail(failure, "the model leaves more than the batch of its input %s open", own);
                return hint(failure, "say its shape, like: --input-shape 1x3x224x224");
            }
            settled[i].dims[k] = 1;
        }
    }
    return true;
}
