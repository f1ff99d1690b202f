// TensorFlow Lite: what a model takes and gives.
#include <stdlib.h>
#include <string.h>

#include "tflite_internal.h"

static const enum dtype DTYPE_OF[] = {
    [TFLITE_FLOAT32] = DTYPE_FLOAT32, [TFLITE_INT32] = DTYPE_INT32, [TFLITE_UINT8] = DTYPE_UINT8,
    [TFLITE_INT64] = DTYPE_INT64, [TFLITE_BOOL] = DTYPE_BOOL, [TFLITE_INT16] = DTYPE_INT16,
    [TFLITE_INT8] = DTYPE_INT8, [TFLITE_FLOAT16] = DTYPE_FLOAT16,
    [TFLITE_FLOAT64] = DTYPE_FLOAT64, [TFLITE_UINT64] = DTYPE_UINT64,
    [TFLITE_UINT32] = DTYPE_UINT32, [TFLITE_UINT16] = DTYPE_UINT16,
};
#define TYPES ((int)(sizeof DTYPE_OF / sizeof *DTYPE_OF))

static bool is_integer(enum dtype dtype) {
    return dtype == DTYPE_INT8 || dtype == DTYPE_UINT8 || dtype == DTYPE_INT16 ||
           dtype == DTYPE_UINT16 || dtype == DTYPE_INT32 || dtype == DTYPE_UINT32;
}

static bool read_shape(const TfLiteTensor *from, struct shape *shape) {
    int32_t rank = tflite.TfLiteTensorNumDims(from);
    if (rank < 0 || rank > MAX_RANK) return false;
    shape->rank = (size_t)rank;
    for (int32_t k = 0; k < rank; k++) shape->dims[k] = tflite.TfLiteTensorDim(from, k);
    return true;
}

// No function reports which dimensions are dynamic; so look into the tensor, if its layout is known.
static void read_dynamic(const TfLiteTensor *from, struct shape *shape) {
    if (from->name != tflite.TfLiteTensorName(from)) return;
    const struct tflite_ints *signature = from->dims_signature;
    if (signature == NULL || (size_t)signature->size != shape->rank) return;
    for (size_t k = 0; k < shape->rank; k++) shape->dims[k] = signature->data[k];
}

static bool read_tensor(const TfLiteTensor *from, struct tensor *tensor, struct failure *failure) {
    const char *name = tflite.TfLiteTensorName(from);
    tensor->name = strdup(name != NULL ? name : "");
    if (tensor->name == NULL) return fail(failure, "out of memory");
    int type = tflite.TfLiteTensorType(from);
    if (type > 0 && type < TYPES) tensor->dtype = DTYPE_OF[type];
    if (tensor->dtype == DTYPE_NONE)
        return fail(failure, "%s holds elements of TensorFlow Lite's type %d, which the runner "
                    "cannot fill", tensor->name, type);
    if (!read_shape(from, &tensor->shape))
        return fail(failure, "%s has more than %d dimensions", tensor->name, MAX_RANK);
    struct tflite_quantization quantization = tflite.TfLiteTensorQuantizationParams(from);
    tensor->quantized = is_integer(tensor->dtype) && quantization.scale > 0;
    if (!tensor->quantized) return true;
    tensor->scale = (double)quantization.scale;
    tensor->zero_point = quantization.zero_point;
    return true;
}

bool tflite_read_inputs(struct tflite_model *lite, struct failure *failure) {
    struct model *model = &lite->model;
    int32_t count = tflite.TfLiteInterpreterGetInputTensorCount(lite->interpreter);
    model->input_count = count > 0 ? (size_t)count : 0;
    model->inputs = calloc(model->input_count + 1, sizeof *model->inputs);
    if (model->inputs == NULL) return fail(failure, "out of memory");
    for (int32_t i = 0; i < count; i++) {
        const TfLiteTensor *from = tflite.TfLiteInterpreterGetInputTensor(lite->interpreter, i);
        if (!read_tensor(from, &model->inputs[i], failure)) return false;
        read_dynamic(from, &model->inputs[i].shape);
    }
    return true;
}

bool tflite_read_outputs(struct tflite_model *lite, struct failure *failure) {
    struct model *model = &lite->model;
    int32_t count = tflite.TfLiteInterpreterGetOutputTensorCount(lite->interpreter);
    model->output_count = count > 0 ? (size_t)count : 0;
    model->outputs = calloc(model->output_count + 1, sizeof *model->outputs);
    if (model->outputs == NULL) return fail(failure, "out of memory");
    for (int32_t i = 0; i < count; i++)
        if (!read_tensor(tflite.TfLiteInterpreterGetOutputTensor(lite->interpreter, i),
                         &model->outputs[i], failure))
            return false;
    return true;
}

bool tflite_read_output_shapes(struct tflite_model *lite) {
    struct model *model = &lite->model;
    bool known = true;
    for (size_t i = 0; i < model->output_count; i++) {
        const TfLiteTensor *from =
            tflite.TfLiteInterpreterGetOutputTensor(lite->interpreter, (int32_t)i);
        known = read_shape(from, &model->outputs[i].shape) &&
                tflite.TfLiteTensorData(from) != NULL &&
                tflite.TfLiteTensorByteSize(from) == tensor_bytes(&model->outputs[i]) && known;
    }
    return known;
}

static bool resize(struct tflite_model *lite, const struct shape *settled,
                   struct failure *failure) {
    for (size_t i = 0; i < lite->model.input_count; i++) {
        struct shape *own = &lite->model.inputs[i].shape;
        int dims[MAX_RANK];
        for (size_t k = 0; k < own->rank; k++) dims[k] = (int)settled[i].dims[k];
        bool same = memcmp(own->dims, settled[i].dims, own->rank * sizeof *own->dims) == 0;
        if (!same && tflite.TfLiteInterpreterResizeInputTensor(lite->interpreter, (int32_t)i, dims,
                                                               (int32_t)own->rank) != 0)
            return refuse_shape(own, &settled[i], failure);
        *own = settled[i];
    }
    return true;
}

bool tflite_settle_inputs(struct tflite_model *lite, const struct load_options *load,
                          struct failure *failure) {
    const size_t count = lite->model.input_count;
    struct shape *declared = calloc(2 * (count + 1), sizeof *declared);
    if (declared == NULL) return fail(failure, "out of memory");
    struct shape *settled = declared + count + 1;
    for (size_t i = 0; i < count; i++) declared[i] = lite->model.inputs[i].shape;
    bool fine = settle_shapes(declared, count, load->input_shapes, load->input_shape_count, settled,
                              failure) &&
                resize(lite, settled, failure);
    free(declared);
    if (!fine) return false;
    lite->said[0] = '\0';
    if (tflite.TfLiteInterpreterAllocateTensors(lite->interpreter) != 0)
        return tflite_failed(lite, failure, "TensorFlow Lite cannot allocate the model's tensors");
    return true;
}
