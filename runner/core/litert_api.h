// The part of LiteRT's C API (compiled models) that the runner calls, declared here since its
// wheels contain no headers.
//
// These are the signatures of libLiteRt.so 2.3.0; with 2.1.6 and 2.2.0 they were run too. They are
// not frozen: LiteRtCreateModelFromFile had no environment before. A library without LITERT_MARKER,
// as 2.1.0, is refused.
#ifndef LATBENCH_LITERT_API_H
#define LATBENCH_LITERT_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct LiteRtEnvironmentT LiteRtEnvironment;
typedef struct LiteRtModelT LiteRtModel;
typedef struct LiteRtOptionsT LiteRtOptions;
typedef struct LiteRtOpaqueOptionsT LiteRtOpaqueOptions;
typedef struct LiteRtCompiledModelT LiteRtCompiledModel;
typedef struct LiteRtSignatureT LiteRtSignature;
typedef struct LiteRtSubgraphT LiteRtSubgraph;
typedef struct LiteRtTensorT LiteRtTensor;
typedef struct LiteRtTensorBufferT LiteRtTensorBuffer;
typedef struct LiteRtTensorBufferRequirementsT LiteRtTensorBufferRequirements;

#define LITERT_MAX_RANK 8

struct litert_layout {
    uint32_t rank : 7;
    uint32_t has_strides : 1;
    int32_t dims[LITERT_MAX_RANK];  // below 0: dynamic
    uint32_t strides[LITERT_MAX_RANK];
};

struct litert_type {
    int32_t element;
    struct litert_layout layout;
};
_Static_assert(sizeof(struct litert_type) == 72, "as LiteRT asserts of LiteRtRankedTensorType");

struct litert_quantization {
    float scale;
    int64_t zero_point;
};

// LiteRtEnvOption, with a LiteRtAny that is a whole number
struct litert_option {
    int tag;
    struct {
        int kind;
        int64_t number;
    } value;
};
_Static_assert(sizeof(void *) != 8 || sizeof(struct litert_option) == 24, "as LiteRT asserts");

enum { LITERT_MIN_LOGGER_SEVERITY = 25 };  // LiteRtEnvOptionTag
enum { LITERT_INTEGER = 2 };               // LiteRtAnyType
enum { LITERT_ERROR = 3 };                 // LiteRtLogSeverity

// LiteRtElementType
enum {
    LITERT_FLOAT32 = 1, LITERT_INT32 = 2, LITERT_UINT8 = 3, LITERT_INT64 = 4, LITERT_BOOL = 6,
    LITERT_INT16 = 7, LITERT_INT8 = 9, LITERT_FLOAT16 = 10, LITERT_FLOAT64 = 11,
    LITERT_UINT64 = 13, LITERT_UINT32 = 16, LITERT_UINT16 = 17,
};

enum { LITERT_PER_TENSOR = 1 };                                // LiteRtQuantizationTypeId
enum { LITERT_CPU = 1, LITERT_GPU = 2, LITERT_NPU = 4 };       // LiteRtHwAccelerators
enum { LITERT_LOCK_FOR_READING = 0, LITERT_LOCK_FOR_WRITING = 1 };  // LiteRtTensorBufferLockMode

#define LITERT_MARKER "LiteRtCreateModelFromFd"

// X(name, result, parameters); an int result is a LiteRtStatus, 0 if it worked.
#define LITERT_FUNCTIONS(X)                                                                        \
    X(CreateEnvironment, int, (int count, const struct litert_option *, LiteRtEnvironment **))      \
    X(CreateModelFromFile, int, (LiteRtEnvironment *, const char *path, LiteRtModel **))           \
    X(DestroyModel, void, (LiteRtModel *))                                                         \
    X(CreateOptions, int, (LiteRtOptions **))                                                      \
    X(DestroyOptions, void, (LiteRtOptions *))                                                     \
    X(SetOptionsHardwareAccelerators, int, (LiteRtOptions *, int accelerators))                    \
    X(CreateOpaqueOptions, int,                                                                    \
      (const char *name, void *payload, void (*release)(void *), LiteRtOpaqueOptions **))          \
    X(AddOpaqueOptions, int, (LiteRtOptions *, LiteRtOpaqueOptions *))                             \
    X(CreateCompiledModel, int,                                                                    \
      (LiteRtEnvironment *, LiteRtModel *, LiteRtOptions *, LiteRtCompiledModel **))               \
    X(DestroyCompiledModel, void, (LiteRtCompiledModel *))                                         \
    X(CompiledModelIsFullyAccelerated, int, (LiteRtCompiledModel *, bool *))                       \
    X(CompiledModelResizeInputTensor, int,                                                         \
      (LiteRtCompiledModel *, size_t signature, size_t input, const int *dims, size_t rank))       \
    X(GetCompiledModelOutputTensorLayouts, int,                                                    \
      (LiteRtCompiledModel *, size_t signature, size_t count, struct litert_layout *,              \
       bool update_allocation))                                                                    \
    X(GetCompiledModelInputBufferRequirements, int,                                                \
      (LiteRtCompiledModel *, size_t signature, size_t input,                                      \
       LiteRtTensorBufferRequirements **))                                                         \
    X(GetCompiledModelOutputBufferRequirements, int,                                               \
      (LiteRtCompiledModel *, size_t signature, size_t output,                                     \
       LiteRtTensorBufferRequirements **))                                                         \
    X(RunCompiledModel, int,                                                                       \
      (LiteRtCompiledModel *, size_t signature, size_t input_count, LiteRtTensorBuffer **inputs,   \
       size_t output_count, LiteRtTensorBuffer **outputs))                                         \
    X(GetNumModelSignatures, int, (LiteRtModel *, size_t *))                                       \
    X(GetModelSignature, int, (LiteRtModel *, size_t, LiteRtSignature **))                         \
    X(GetSignatureSubgraph, int, (LiteRtSignature *, LiteRtSubgraph **))                           \
    X(GetNumSubgraphOps, int, (LiteRtSubgraph *, size_t *))                                        \
    X(GetNumSignatureInputs, int, (LiteRtSignature *, size_t *))                                   \
    X(GetNumSignatureOutputs, int, (LiteRtSignature *, size_t *))                                  \
    X(GetSignatureInputTensorByIndex, int, (LiteRtSignature *, size_t, LiteRtTensor **))           \
    X(GetSignatureOutputTensorByIndex, int, (LiteRtSignature *, size_t, LiteRtTensor **))          \
    X(GetTensorName, int, (LiteRtTensor *, const char **))                                         \
    X(GetRankedTensorType, int, (LiteRtTensor *, struct litert_type *))                            \
    X(GetQuantizationTypeId, int, (LiteRtTensor *, int *))                                         \
    X(GetPerTensorQuantization, int, (LiteRtTensor *, struct litert_quantization *))               \
    X(CreateManagedTensorBufferFromRequirements, int,                                              \
      (LiteRtEnvironment *, const struct litert_type *, LiteRtTensorBufferRequirements *,          \
       LiteRtTensorBuffer **))                                                                     \
    X(DestroyTensorBuffer, void, (LiteRtTensorBuffer *))                                           \
    X(GetTensorBufferSize, int, (LiteRtTensorBuffer *, size_t *))                                  \
    X(LockTensorBuffer, int, (LiteRtTensorBuffer *, void **, int mode))                            \
    X(UnlockTensorBuffer, int, (LiteRtTensorBuffer *))

#ifdef LATBENCH_LINKED_LITERT  // into the program, as on iOS
#define LITERT_DECLARE(name, result, parameters) result LiteRt##name parameters;
LITERT_FUNCTIONS(LITERT_DECLARE)
#endif

#endif
