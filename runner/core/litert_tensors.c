// LiteRT: what a model takes and gives.
#include <stdlib.h>
#include <string.h>

#include "litert_internal.h"

static const enum dtype DTYPE_OF[] = {
    [LITERT_FLOAT32] = DTYPE_FLOAT32, [LITERT_INT32] = DTYPE_INT32, [LITERT_UINT8] = DTYPE_UINT8,
    [LITERT_INT64] = DTYPE_INT64, [LITERT_BOOL] = DTYPE_BOOL, [LITERT_INT16] = DTYPE_INT16,
    [LITERT_INT8] = DTYPE_INT8, [LITERT_FLOAT16] = DTYPE_FLOAT16,
    [LITERT_FLOAT64] = DTYPE_FLOAT64, [LITERT_UINT64] = DTYPE_UINT64,
    [LITERT_UINT32] = DTYPE_UINT32, [LITERT_UINT16] = DTYPE_UINT16,
};
#define ELEMENTS ((int)(sizeof DTYPE_OF / sizeof *DTYPE_OF))

static bool is_integer(enum dtype dtype) {
    return dtype == DTYPE_INT8 || dtype == DTYPE_UINT8 || dtype == DTYPE_INT16 ||
           dtype == DTYPE_UINT16 || dtype == DTYPE_INT32 || dtype == DTYPE_UINT32;
}

static bool read_quantization(LiteRtTensor *from, struct tensor *tensor, struct failure *failure) {
    int kind;
    struct litert_quantization quantization;
    LITERT_CHECK(litert.GetQuantizationTypeId(from, &kind), tensor->name);
    if (kind != LITERT_PER_TENSOR || !is_integer(tensor->dtype)) return true;
    LITERT_CHECK(litert.GetPerTensorQuantization(from, &quantization), tensor->name);
    tensor->quantized = quantization.scale > 0;
    tensor->scale = (double)quantization.scale;
    tensor->zero_point = quantization.zero_point;
    return true;
}

static void take_layout(struct shape *shape, const struct litert_layout *layout) {
    shape->rank = layout->rank <= LITERT_MAX_RANK ? layout->rank : LITERT_MAX_RANK;
    for (size_t k = 0; k < shape->rank; k++) shape->dims[k] = layout->dims[k];
}

static bool read_tensor(LiteRtTensor *from, struct tensor *tensor, struct litert_type *type,
                        struct failure *failure) {
    const char *name;
    LITERT_CHECK(litert.GetTensorName(from, &name), "LiteRT failed");
    tensor->name = strdup(name);
    if (tensor->name == NULL) return fail(failure, "out of memory");
    LITERT_CHECK(litert.GetRankedTensorType(from, type), tensor->name);
    if (type->element > 0 && type->element < ELEMENTS) tensor->dtype = DTYPE_OF[type->element];
    if (tensor->dtype == DTYPE_NONE)
        return fail(failure, "%s holds elements of LiteRT's type %d, which the runner cannot fill",
                    tensor->name, type->element);
    take_layout(&tensor->shape, &type->layout);
    return read_quantization(from, tensor, failure);
}

typedef int (*count_function)(LiteRtSignature *, size_t *);
typedef int (*tensor_function)(LiteRtSignature *, size_t, LiteRtTensor **);

static bool read_tensors(LiteRtSignature *signature, count_function get_count,
                         tensor_function get_tensor, struct tensor **tensors,
                         struct litert_type **types, size_t *count, struct failure *failure) {
    const char *what = "LiteRT failed";
    LITERT_CHECK(get_count(signature, count), what);
    *tensors = calloc(*count + 1, sizeof **tensors);
    *types = calloc(*count + 1, sizeof **types);
    if (*tensors == NULL || *types == NULL) return fail(failure, "out of memory");
    for (size_t i = 0; i < *count; i++) {
        LiteRtTensor *tensor;
        LITERT_CHECK(get_tensor(signature, i, &tensor), what);
        if (!read_tensor(tensor, &(*tensors)[i], &(*types)[i], failure)) return false;
    }
    return true;
}

bool litert_read_tensors(struct litert_model *lite, LiteRtSignature *signature,
                         struct failure *failure) {
    struct model *model = &lite->model;
    return read_tensors(signature, litert.GetNumSignatureInputs,
                        litert.GetSignatureInputTensorByIndex, &model->inputs, &lite->input_types,
                        &model->input_count, failure) &&
           read_tensors(signature, litert.GetNumSignatureOutputs,
                        litert.GetSignatureOutputTensorByIndex, &model->outputs,
                        &lite->output_types, &model->output_count, failure);
}

static bool resize(struct litert_model *lite, size_t input, const struct shape *wanted,
                   struct failure *failure) {
    int dims[LITERT_MAX_RANK];
    for (size_t k = 0; k < wanted->rank; k++) {
        dims[k] = (int)wanted->dims[k];
        lite->input_types[input].layout.dims[k] = (int32_t)wanted->dims[k];
    }
    int status =
        litert.CompiledModelResizeInputTensor(lite->compiled, 0, input, dims, wanted->rank);
    if (status == 0) return true;
    return refuse_shape(&lite->model.inputs[input].shape, wanted, failure);
}

bool litert_resize_inputs(struct litert_model *lite, const struct shape *settled,
                          struct failure *failure) {
    const struct model *model = &lite->model;
    bool resized = false;
    for (size_t i = 0; i < model->input_count; i++) {
        struct shape *own = &model->inputs[i].shape;
        if (memcmp(own->dims, settled[i].dims, own->rank * sizeof *own->dims) == 0) continue;
        if (!resize(lite, i, &settled[i], failure)) return false;
        *own = settled[i];
        resized = true;
    }
    if (!resized) return true;
    struct litert_layout *layouts = calloc(model->output_count + 1, sizeof *layouts);
    if (layouts == NULL) return fail(failure, "out of memory");
    int status = litert.GetCompiledModelOutputTensorLayouts(lite->compiled, 0, model->output_count,
                                                            layouts, true);
    for (size_t i = 0; status == 0 && i < model->output_count; i++) {
        lite->output_types[i].layout = layouts[i];
        take_layout(&model->outputs[i].shape, &layouts[i]);
    }
    free(layouts);
    LITERT_CHECK(status, "LiteRT does not tell the outputs' shapes");
    return true;
}

static bool create_buffer(const struct tensor *tensor, const struct litert_type *type,
                          LiteRtTensorBufferRequirements *requirements,
                          LiteRtTensorBuffer **buffer, struct failure *failure) {
    size_t size;
    LITERT_CHECK(litert.CreateManagedTensorBufferFromRequirements(litert_environment, type,
                                                                  requirements, buffer),
                 tensor->name);
    LITERT_CHECK(litert.GetTensorBufferSize(*buffer, &size), tensor->name);
    if (tensor_bytes(tensor) == 0 || size < tensor_bytes(tensor))
        return fail(failure, "%s takes %zu bytes, but LiteRT's buffer for it holds %zu",
                    tensor->name, tensor_bytes(tensor), size);
    return true;
}

bool litert_create_buffers(struct litert_model *lite, struct failure *failure) {
    const struct model *model = &lite->model;
    LiteRtTensorBufferRequirements *needs;
    lite->inputs = calloc(model->input_count + 1, sizeof(LiteRtTensorBuffer *));
    lite->outputs = calloc(model->output_count + 1, sizeof(LiteRtTensorBuffer *));
    if (lite->inputs == NULL || lite->outputs == NULL) return fail(failure, "out of memory");
    for (size_t i = 0; i < model->input_count; i++) {
        LITERT_CHECK(
            litert.GetCompiledModelInputBufferRequirements(lite->compiled, 0, i, &needs),
            model->inputs[i].name);
        if (!create_buffer(&model->inputs[i], &lite->input_types[i], needs, &lite->inputs[i],
                           failure))
            return false;
    }
    for (size_t i = 0; i < model->output_count; i++) {
        LITERT_CHECK(
            litert.GetCompiledModelOutputBufferRequirements(lite->compiled, 0, i, &needs),
            model->outputs[i].name);
        if (!create_buffer(&model->outputs[i], &lite->output_types[i], needs, &lite->outputs[i],
                           failure))
            return false;
    }
    return true;
}
