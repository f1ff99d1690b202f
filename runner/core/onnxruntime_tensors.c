// ONNX Runtime: what a model takes and gives.
#include <stdlib.h>
#include <string.h>

#include "onnxruntime_internal.h"

static const enum dtype DTYPE_OF[] = {
    [ORT_FLOAT] = DTYPE_FLOAT32, [ORT_UINT8] = DTYPE_UINT8, [ORT_INT8] = DTYPE_INT8,
    [ORT_UINT16] = DTYPE_UINT16, [ORT_INT16] = DTYPE_INT16, [ORT_INT32] = DTYPE_INT32,
    [ORT_INT64] = DTYPE_INT64, [ORT_BOOL] = DTYPE_BOOL, [ORT_FLOAT16] = DTYPE_FLOAT16,
    [ORT_DOUBLE] = DTYPE_FLOAT64, [ORT_UINT32] = DTYPE_UINT32, [ORT_UINT64] = DTYPE_UINT64,
};
#define TYPES ((int)(sizeof DTYPE_OF / sizeof *DTYPE_OF))

static int type_of(enum dtype dtype) {
    int type = TYPES - 1;
    while (type > 0 && DTYPE_OF[type] != dtype) type--;
    return type;
}

static bool read_dimensions(const OrtTensorTypeAndShapeInfo *info, const char *name,
                            struct shape *shape, struct failure *failure) {
    ORT_CHECK(ort.GetDimensionsCount(info, &shape->rank), name);
    if (shape->rank > MAX_RANK)
        return fail(failure, "%s has %zu dimensions, more than %d", name, shape->rank, MAX_RANK);
    ORT_CHECK(ort.GetDimensions(info, shape->dims, shape->rank), name);
    return true;
}

static bool read_info(const OrtTypeInfo *type, struct tensor *tensor, struct failure *failure) {
    const OrtTensorTypeAndShapeInfo *info = NULL;
    int element = 0;
    ORT_CHECK(ort.CastTypeInfoToTensorInfo(type, &info), tensor->name);
    if (info != NULL) ORT_CHECK(ort.GetTensorElementType(info, &element), tensor->name);
    tensor->dtype = element > 0 && element < TYPES ? DTYPE_OF[element] : DTYPE_NONE;
    if (tensor->dtype == DTYPE_NONE)
        return fail(failure, "%s is no tensor of numbers, which the runner cannot fill",
                    tensor->name);
    return read_dimensions(info, tensor->name, &tensor->shape, failure);
}

typedef OrtStatus *(*count_function)(const OrtSession *, size_t *);
typedef OrtStatus *(*name_function)(const OrtSession *, size_t, OrtAllocator *, char **);
typedef OrtStatus *(*type_function)(const OrtSession *, size_t, OrtTypeInfo **);

static bool read_tensor(const OrtSession *session, size_t place, name_function get_name,
                        type_function get_type, struct tensor *tensor, struct failure *failure) {
    const char *what = "ONNX Runtime failed";
    char *name;
    ORT_CHECK(get_name(session, place, ort_allocator, &name), what);
    tensor->name = strdup(name);
    ORT_CHECK(ort.AllocatorFree(ort_allocator, name), what);
    if (tensor->name == NULL) return fail(failure, "out of memory");
    OrtTypeInfo *type;
    ORT_CHECK(get_type(session, place, &type), what);
    bool read = read_info(type, tensor, failure);
    ort.ReleaseTypeInfo(type);
    return read;
}

static bool read_tensors(const OrtSession *session, count_function get_count,
                         name_function get_name, type_function get_type, struct tensor **tensors,
                         size_t *count, struct failure *failure) {
    ORT_CHECK(get_count(session, count), "ONNX Runtime failed");
    *tensors = calloc(*count + 1, sizeof **tensors);
    if (*tensors == NULL) return fail(failure, "out of memory");
    for (size_t i = 0; i < *count; i++)
        if (!read_tensor(session, i, get_name, get_type, &(*tensors)[i], failure)) return false;
    return true;
}

bool onnx_read_inputs(const OrtSession *session, struct model *model, struct failure *failure) {
    return read_tensors(session, ort.SessionGetInputCount, ort.SessionGetInputName,
                        ort.SessionGetInputTypeInfo, &model->inputs, &model->input_count, failure);
}

bool onnx_read_outputs(const OrtSession *session, struct model *model, struct failure *failure) {
    return read_tensors(session, ort.SessionGetOutputCount, ort.SessionGetOutputName,
                        ort.SessionGetOutputTypeInfo, &model->outputs, &model->output_count,
                        failure);
}

bool onnx_read_shape(const OrtValue *value, const char *name, struct shape *shape,
                     struct failure *failure) {
    OrtTensorTypeAndShapeInfo *info;
    ORT_CHECK(ort.GetTensorTypeAndShape(value, &info), name);
    bool read = read_dimensions(info, name, shape, failure);
    ort.ReleaseTensorTypeAndShapeInfo(info);
    return read;
}

static bool override(const OrtTypeInfo *type, const struct shape *wanted,
                     OrtSessionOptions *options, bool *any, struct failure *failure) {
    const char *what = "ONNX Runtime refuses a shape";
    const char *symbols[MAX_RANK] = {0};
    const OrtTensorTypeAndShapeInfo *info;
    struct shape declared;
    ORT_CHECK(ort.CastTypeInfoToTensorInfo(type, &info), what);
    if (!read_dimensions(info, what, &declared, failure)) return false;
    ORT_CHECK(ort.GetSymbolicDimensions(info, symbols, declared.rank), what);
    for (size_t k = 0; k < declared.rank; k++) {
        if (declared.dims[k] > 0 || symbols[k] == NULL || symbols[k][0] == '\0') continue;
        ORT_CHECK(ort.AddFreeDimensionOverrideByName(options, symbols[k], wanted->dims[k]), what);
        *any = true;
    }
    return true;
}

bool onnx_override_dimensions(const OrtSession *session, size_t input, const struct shape *wanted,
                              OrtSessionOptions *options, bool *any, struct failure *failure) {
    OrtTypeInfo *type;
    ORT_CHECK(ort.SessionGetInputTypeInfo(session, input, &type), "ONNX Runtime failed");
    bool fine = override(type, wanted, options, any, failure);
    ort.ReleaseTypeInfo(type);  // the symbols' names lie in it
    return fine;
}

bool onnx_create_value(const struct tensor *tensor, OrtValue **value, struct failure *failure) {
    if (tensor_bytes(tensor) == 0)
        return fail(failure, "%s has no size that fits in memory", tensor->name);
    ORT_CHECK(ort.CreateTensorAsOrtValue(ort_allocator, tensor->shape.dims, tensor->shape.rank,
                                         type_of(tensor->dtype), value),
              tensor->name);
    return true;
}
