// TorchScript on LibTorch, behind the table of functions that every engine has (engine.h).
//
// LibTorch has no C interface, so this is a library of its own, in C++, which the runner opens:
//
//     latbench-runner --torchscript liblatbench-torchscript.so
//
// What a file's inputs are says its extra file latbench.json, as latbench.runtime.torchscript.model has it.
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <dlfcn.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/script.h>
#include <torch/version.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <cstring>
#include <string>
#include <unordered_map>
#include <vector>

extern "C" {
#include "engine.h"
#include "failure.h"
#include "json.h"
#include "request.h"
#include "tensor.h"
}

namespace {

const char *const DESCRIPTION = "latbench.json";

struct torch_model {
    struct model model;  // first, as engine.h asks
    torch::jit::Module module;
    std::vector<c10::IValue> arguments;
    std::vector<at::Tensor> results;
};

torch_model *own(struct model *model) { return reinterpret_cast<torch_model *>(model); }

// The line that says something: the JIT puts a traceback in front of it.
std::string gist(const std::string &text) {
    size_t told = text.rfind("\nRuntimeError");
    size_t start = told == std::string::npos ? 0 : told + 1;
    return text.substr(start, text.find('\n', start) - start);
}

// Everything of LibTorch's may throw, and nothing may throw through C.
template <typename Action>
bool guarded(const char *what, struct failure *failure, Action action) {
    try {
        return action();
    } catch (const c10::Error &error) {
        return fail(failure, "%s: %.300s", what, gist(error.what_without_backtrace()).c_str());
    } catch (const std::exception &error) {
        return fail(failure, "%s: %.300s", what, gist(error.what()).c_str());
    }
}

const struct {
    at::ScalarType type;
    enum dtype dtype;
} TYPES[] = {
    {at::kBool, DTYPE_BOOL},     {at::kChar, DTYPE_INT8},   {at::kShort, DTYPE_INT16},
    {at::kInt, DTYPE_INT32},     {at::kLong, DTYPE_INT64},  {at::kByte, DTYPE_UINT8},
    {at::kHalf, DTYPE_FLOAT16},  {at::kFloat, DTYPE_FLOAT32}, {at::kDouble, DTYPE_FLOAT64},
};

bool type_of(enum dtype dtype, at::ScalarType *type) {
    for (const auto &known : TYPES)
        if (known.dtype == dtype) {
            *type = known.type;
            return true;
        }
    return false;
}

enum dtype dtype_of(at::ScalarType type) {
    for (const auto &known : TYPES)
        if (known.type == type) return known.dtype;
    return DTYPE_NONE;
}

enum dtype dtype_named(const std::string &name) {
    for (const auto &known : TYPES)
        if (name == dtype_name(known.dtype)) return known.dtype;
    return DTYPE_NONE;
}

bool torch_open(const char *, struct failure *) { return true; }  // it came with this library

const char *torch_version() { return TORCH_VERSION; }

bool torch_start(struct failure *failure) {
    static bool started = false;
    if (started) return true;
    started = true;
#ifdef __GLIBC__
    // LibTorch allocates every intermediate result; fetching it anew by mmap makes timings jump.
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 0x7fffffff);
#endif
    return guarded("LibTorch cannot start", failure, [] {
        at::set_num_interop_threads(1);
        return true;
    });
}

// One input as latbench.json describes it.
bool describe_input(const struct json *said, struct tensor *input, struct failure *failure) {
    const char *name = "", *dtype = "float32";
    static struct integers shape;
    if (!request_string(said, "name", &name, failure) ||
        !request_string(said, "dtype", &dtype, failure) ||
        !request_integers(said, "shape", &shape, failure))
        return false;
    input->name = strdup(name);
    input->dtype = dtype_named(dtype);
    if (input->dtype == DTYPE_NONE || shape.count > MAX_RANK)
        return fail(failure, "%s has inputs that the runner cannot fill", DESCRIPTION);
    input->shape.rank = shape.count;
    for (size_t i = 0; i < shape.count; i++) input->shape.dims[i] = shape.values[i];
    return true;
}

bool describe_inputs(const std::string &text, struct model *model, struct failure *failure) {
    struct json_document document;
    if (text.empty()) return true;
    if (!json_read(&document, text.data(), text.size(), failure)) return false;
    const struct json *inputs = json_member(document.root, "inputs");
    bool fine = true;
    if (inputs != nullptr && inputs->kind == JSON_ARRAY) {
        model->inputs =
            static_cast<struct tensor *>(calloc(inputs->length + 1, sizeof(struct tensor)));
        const struct json *said = inputs->first;
        for (; fine && said != nullptr; said = said->next)
            fine = describe_input(said, &model->inputs[model->input_count++], failure);
    }
    json_free(&document);
    return fine;
}

// The shapes that the client asks for, where the file says nothing.
bool take_shapes(const struct load_options *options, struct model *model,
                 struct failure *failure) {
    if (options->input_shapes == nullptr && model->input_count == 0) {
        fail(failure, "%s does not say what its inputs are", options->path);
        return hint(failure, "say it, once an input: --input-shape 1x3x224x224");
    }
    if (options->input_shapes == nullptr) return true;
    if (model->input_count == 0) {
        model->input_count = options->input_shape_count;
        model->inputs =
            static_cast<struct tensor *>(calloc(model->input_count + 1, sizeof(struct tensor)));
        for (size_t i = 0; i < model->input_count; i++) {
            model->inputs[i].name = strdup(("input" + std::to_string(i)).c_str());
            model->inputs[i].dtype = DTYPE_FLOAT32;
        }
    }
    if (model->input_count != options->input_shape_count)
        return fail(failure, "the model takes %zu inputs, but --input-shape was given %zu times",
                    model->input_count, options->input_shape_count);
    for (size_t i = 0; i < model->input_count; i++)
        model->inputs[i].shape = options->input_shapes[i];
    return true;
}

bool read_model(torch_model *loaded, const struct load_options *options,
                struct failure *failure) {
    std::unordered_map<std::string, std::string> extra = {{DESCRIPTION, ""}};
    loaded->module = torch::jit::load(options->path, at::kCPU, extra);
    loaded->module.eval();
    struct model *model = &loaded->model;
    if (!describe_inputs(extra[DESCRIPTION], model, failure) ||
        !take_shapes(options, model, failure))
        return false;
    for (size_t i = 0; i < model->input_count; i++) {
        const struct tensor *input = &model->inputs[i];
        at::ScalarType type = at::kFloat;
        if (!type_of(input->dtype, &type) || tensor_bytes(input) == 0)
            return fail(failure, "%s has no size that fits in memory", input->name);
        std::vector<int64_t> dims(input->shape.dims, input->shape.dims + input->shape.rank);
        loaded->arguments.emplace_back(at::empty(dims, at::TensorOptions(type)));
    }
    return true;
}

void torch_unload(struct model *model) {
    model_free_tensors(model);
    delete own(model);
}

extern const struct engine torchscript_engine;

struct model *torch_load(const struct load_options *options, struct failure *failure) {
    auto *loaded = new torch_model{};
    loaded->model.engine = &torchscript_engine;
    loaded->model.coverage = {-1, -1, -1};
    std::string what = std::string(options->path) + " is not a TorchScript model";
    bool fine = guarded(what.c_str(), failure, [&] {
        c10::InferenceMode guard;
        at::set_num_threads(options->threads);
        if (!read_model(loaded, options, failure)) return false;
        // LibTorch's threads start with the first parallel work; here they are seen.
        at::ones({1 << 18}).sin_();
        return true;
    });
    if (fine) return &loaded->model;
    torch_unload(&loaded->model);
    return nullptr;
}

bool torch_set_input(struct model *model, size_t input, const void *data, size_t bytes,
                     struct failure *failure) {
    (void)failure;
    memcpy(own(model)->arguments[input].toTensor().data_ptr(), data, bytes);
    return true;
}

void gather(const c10::IValue &value, std::vector<at::Tensor> *tensors) {
    if (value.isTensor()) {
        tensors->push_back(value.toTensor());
    } else if (value.isTuple()) {
        for (const auto &part : value.toTuple()->elements()) gather(part, tensors);
    } else if (value.isList()) {
        for (const auto &part : value.toList()) gather(part, tensors);
    } else if (value.isGenericDict()) {
        for (const auto &part : value.toGenericDict()) gather(part.value(), tensors);
    }
}

bool torch_run(struct model *model, struct failure *failure) {
    torch_model *loaded = own(model);
    return guarded("TorchScript failed", failure, [loaded] {
        c10::InferenceMode guard;
        c10::IValue result = loaded->module.forward(loaded->arguments);
        loaded->results.clear();
        gather(result, &loaded->results);
        return true;
    });
}

bool torch_prepare(struct model *model, struct failure *failure) {
    torch_model *loaded = own(model);
    if (!torch_run(model, failure)) return false;
    model->output_count = loaded->results.size();
    model->outputs =
        static_cast<struct tensor *>(calloc(model->output_count + 1, sizeof(struct tensor)));
    for (size_t i = 0; i < model->output_count; i++) {
        const at::Tensor &result = loaded->results[i];
        struct tensor *output = &model->outputs[i];
        output->name = strdup(("output" + std::to_string(i)).c_str());
        output->dtype = dtype_of(result.scalar_type());
        output->shape.rank = static_cast<size_t>(result.dim());
        if (output->dtype == DTYPE_NONE || output->shape.rank > MAX_RANK)
            return fail(failure, "%s is no tensor of numbers", output->name);
        for (size_t k = 0; k < output->shape.rank; k++)
            output->shape.dims[k] = result.size(static_cast<int64_t>(k));
    }
    return true;
}

bool torch_get_output(struct model *model, size_t output, void *data, size_t bytes,
                      struct failure *failure) {
    torch_model *loaded = own(model);
    return guarded("TorchScript failed", failure, [=] {
        if (output >= loaded->results.size()) return fail(failure, "there is no such output");
        at::Tensor whole = loaded->results[output].contiguous();
        if (whole.nbytes() != bytes) return fail(failure, "an output changed its shape");
        memcpy(data, whole.data_ptr(), bytes);
        return true;
    });
}

const char *const LIBRARY_NAMES[] = {"liblatbench-torchscript.so", nullptr};
const char *const ACCELERATORS[] = {"cpu", nullptr};

const struct engine torchscript_engine = {
    "torchscript",   LIBRARY_NAMES, ACCELERATORS,    torch_open,    torch_version, torch_start,
    torch_load,      torch_set_input, torch_get_output, torch_prepare, torch_run,     torch_unload,
    false,           nullptr,       nullptr,
};

}  // namespace

extern "C" {

// What plugin.h looks for.
__attribute__((visibility("default"))) const struct engine *latbench_engine(void) {
    return &torchscript_engine;
}

__attribute__((visibility("default"))) size_t latbench_engine_bytes(void) {
    return sizeof(struct engine);
}

// The library that computes: its hash tells one LibTorch from another.
__attribute__((visibility("default"))) const char *latbench_engine_library(void) {
    static Dl_info info;
    return dladdr(reinterpret_cast<void *>(&at::get_num_threads), &info) != 0 ? info.dli_fname
                                                                              : nullptr;
}
}
