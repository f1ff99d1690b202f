// The part of TensorFlow Lite's C API (interpreters) that the runner calls, declared here since
// libraries come without headers.
//
// The functions are those of tensorflow/lite/c/c_api.h and of the delegates' headers, which have kept
// their signatures since 2.3. Of the structures of common.h only the beginnings are declared; from 2.9
// to 2.20 and after they are the same.
#ifndef LATBENCH_TFLITE_API_H
#define LATBENCH_TFLITE_API_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct TfLiteModel TfLiteModel;
typedef struct TfLiteInterpreter TfLiteInterpreter;
typedef struct TfLiteInterpreterOptions TfLiteInterpreterOptions;

struct tflite_ints {
    int size;
    int data[];
};

struct tflite_quantization {
    float scale;
    int32_t zero_point;
};

typedef struct TfLiteTensor {
    int type;
    void *data;
    struct tflite_ints *dims;
    struct tflite_quantization quantization;
    int allocation_type;
    size_t bytes;
    const void *allocation;
    const char *name;
    void *delegate;
    int buffer_handle;
    bool data_is_stale, is_variable;
    struct {
        int kind;
        void *params;
    } full_quantization;
    void *sparsity;
    const struct tflite_ints *dims_signature;  // -1: dynamic; NULL or empty: nothing is
} TfLiteTensor;

typedef struct TfLiteRegistration {
    void *(*init)(void *, const char *, size_t);
    void (*free)(void *, void *);
    int (*prepare)(void *, void *);
    int (*invoke)(void *, void *);
    const char *(*profiling_string)(const void *, const void *);
    int32_t builtin_code;
} TfLiteRegistration;

typedef struct TfLiteContext {
    size_t tensors_size;
    int (*GetExecutionPlan)(struct TfLiteContext *, struct tflite_ints **plan);
    TfLiteTensor *tensors;
    void *impl;
    int (*ResizeTensor)(struct TfLiteContext *, TfLiteTensor *, struct tflite_ints *);
    void (*ReportError)(struct TfLiteContext *, const char *, ...);
    int (*AddTensors)(struct TfLiteContext *, int, int *);
    int (*GetNodeAndRegistration)(struct TfLiteContext *, int, void **node, TfLiteRegistration **);
} TfLiteContext;

typedef struct TfLiteDelegate {
    void *data;
    int (*Prepare)(TfLiteContext *, struct TfLiteDelegate *);
    int (*CopyFromBufferHandle)(TfLiteContext *, struct TfLiteDelegate *, int, TfLiteTensor *);
    int (*CopyToBufferHandle)(TfLiteContext *, struct TfLiteDelegate *, int, TfLiteTensor *);
    void (*FreeBufferHandle)(TfLiteContext *, struct TfLiteDelegate *, int *);
    int64_t flags;
    void *later[4];  // what versions after 2.9 have added; NULL: not used
} TfLiteDelegate;

// TfLiteType
enum {
    TFLITE_FLOAT32 = 1, TFLITE_INT32 = 2, TFLITE_UINT8 = 3, TFLITE_INT64 = 4, TFLITE_BOOL = 6,
    TFLITE_INT16 = 7, TFLITE_INT8 = 9, TFLITE_FLOAT16 = 10, TFLITE_FLOAT64 = 11,
    TFLITE_UINT64 = 13, TFLITE_UINT32 = 16, TFLITE_UINT16 = 17,
};

enum { TFLITE_BUILTIN_DELEGATE = 51 };      // TfLiteBuiltinOperator
enum { TFLITE_ALLOWS_DYNAMIC_TENSORS = 1 };  // TfLiteDelegateFlags

// TfLiteXNNPackDelegateOptions: how long it is depends on the version, but the number of threads comes
// first, and zeros are the defaults of the rest (seen in 2.9 to 2.20).
struct tflite_xnnpack_options {
    int32_t threads;
    uint32_t rest[63];
};

struct tflite_coreml_options {
    int enabled_devices;  // 1: all, not only those with a Neural Engine that apps may use
    int coreml_version;   // 0: the newest there is
    int max_delegated_partitions;  // 0: no limit
    int min_nodes_per_partition;
    uint32_t rest[12];
};

#define TFLITE_MARKER "TfLiteInterpreterCreate"

// X(name, result, parameters); an int result is a TfLiteStatus, 0 if it worked, unless it is a count.
#define TFLITE_FUNCTIONS(X)                                                                        \
    X(TfLiteVersion, const char *, (void))                                                         \
    X(TfLiteModelCreateFromFile, TfLiteModel *, (const char *path))                                \
    X(TfLiteModelDelete, void, (TfLiteModel *))                                                    \
    X(TfLiteInterpreterOptionsCreate, TfLiteInterpreterOptions *, (void))                          \
    X(TfLiteInterpreterOptionsDelete, void, (TfLiteInterpreterOptions *))                          \
    X(TfLiteInterpreterOptionsSetNumThreads, void, (TfLiteInterpreterOptions *, int32_t))          \
    X(TfLiteInterpreterOptionsAddDelegate, void, (TfLiteInterpreterOptions *, TfLiteDelegate *))   \
    X(TfLiteInterpreterOptionsSetErrorReporter, void,                                              \
      (TfLiteInterpreterOptions *, void (*)(void *data, const char *format, va_list), void *data)) \
    X(TfLiteInterpreterCreate, TfLiteInterpreter *,                                                \
      (const TfLiteModel *, const TfLiteInterpreterOptions *))                                     \
    X(TfLiteInterpreterDelete, void, (TfLiteInterpreter *))                                        \
    X(TfLiteInterpreterGetInputTensorCount, int32_t, (const TfLiteInterpreter *))                  \
    X(TfLiteInterpreterGetInputTensor, TfLiteTensor *, (const TfLiteInterpreter *, int32_t))       \
    X(TfLiteInterpreterResizeInputTensor, int,                                                     \
      (TfLiteInterpreter *, int32_t input, const int *dims, int32_t rank))                         \
    X(TfLiteInterpreterAllocateTensors, int, (TfLiteInterpreter *))                                \
    X(TfLiteInterpreterInvoke, int, (TfLiteInterpreter *))                                         \
    X(TfLiteInterpreterGetOutputTensorCount, int32_t, (const TfLiteInterpreter *))                 \
    X(TfLiteInterpreterGetOutputTensor, const TfLiteTensor *, (const TfLiteInterpreter *, int32_t)) \
    X(TfLiteTensorType, int, (const TfLiteTensor *))                                               \
    X(TfLiteTensorNumDims, int32_t, (const TfLiteTensor *))                                        \
    X(TfLiteTensorDim, int32_t, (const TfLiteTensor *, int32_t))                                   \
    X(TfLiteTensorByteSize, size_t, (const TfLiteTensor *))                                        \
    X(TfLiteTensorData, void *, (const TfLiteTensor *))                                            \
    X(TfLiteTensorName, const char *, (const TfLiteTensor *))                                      \
    X(TfLiteTensorQuantizationParams, struct tflite_quantization, (const TfLiteTensor *))          \
    X(TfLiteTensorCopyFromBuffer, int, (TfLiteTensor *, const void *, size_t))                     \
    X(TfLiteTensorCopyToBuffer, int, (const TfLiteTensor *, void *, size_t))

// What not every library has.
#define TFLITE_XNNPACK_FUNCTIONS(X)                                                                \
    X(TfLiteXNNPackDelegateCreate, TfLiteDelegate *, (const struct tflite_xnnpack_options *))      \
    X(TfLiteXNNPackDelegateDelete, void, (TfLiteDelegate *))
#define TFLITE_APPLE_FUNCTIONS(X)                                                                  \
    X(TFLGpuDelegateCreate, TfLiteDelegate *, (const void *options))                               \
    X(TFLGpuDelegateDelete, void, (TfLiteDelegate *))                                              \
    X(TfLiteCoreMlDelegateCreate, TfLiteDelegate *, (const struct tflite_coreml_options *))        \
    X(TfLiteCoreMlDelegateDelete, void, (TfLiteDelegate *))

#ifdef LATBENCH_LINKED_TFLITE  // into the program, as on iOS; what has no XNNPACK there is a Mac's
#if defined(__ENVIRONMENT_IPHONE_OS_VERSION_MIN_REQUIRED__)
#define TFLITE_LINKED_FUNCTIONS(X) \
    TFLITE_FUNCTIONS(X) TFLITE_XNNPACK_FUNCTIONS(X) TFLITE_APPLE_FUNCTIONS(X)
#elif defined(__APPLE__)
#define TFLITE_LINKED_FUNCTIONS(X) TFLITE_FUNCTIONS(X)
#else
#define TFLITE_LINKED_FUNCTIONS(X) TFLITE_FUNCTIONS(X) TFLITE_XNNPACK_FUNCTIONS(X)
#endif
#define TFLITE_DECLARE(name, result, parameters) result name parameters;
TFLITE_LINKED_FUNCTIONS(TFLITE_DECLARE)
#endif

#endif
