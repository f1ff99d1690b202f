// The part of ONNX Runtime's C API that the runner calls, declared here so that no header of it is
// needed.
//
// Its library exports one function, OrtGetApiBase. That leads to a table of functions (`OrtApi`)
// which only ever grows at its end: a function keeps its index, so a table requested with an old
// version number is valid in every later library. Each line has the function's index and the
// version of the API that added it (1.12 has version 12, and so on). The indices were checked
// with offsetof against the header of 1.29; libraries of 1.19 and 1.32 were run with them.
#ifndef LATBENCH_ONNXRUNTIME_API_H
#define LATBENCH_ONNXRUNTIME_API_H

#include <stddef.h>
#include <stdint.h>

// The oldest version that the runner needs: 1.12, of July 2022.
#define ORT_API_NEEDED 12
// The version that reports which nodes an accelerator executes.
#define ORT_API_WITH_ASSIGNMENT 24

typedef struct OrtStatus OrtStatus;  // NULL: it worked
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtAllocator OrtAllocator;
typedef struct OrtValue OrtValue;
typedef struct OrtTypeInfo OrtTypeInfo;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;
typedef struct OrtIoBinding OrtIoBinding;
typedef struct OrtEpAssignedSubgraph OrtEpAssignedSubgraph;
typedef struct OrtEpAssignedNode OrtEpAssignedNode;

struct ort_api_base {
    void *const *(*get_api)(uint32_t version);  // NULL: the library is older
    const char *(*get_version)(void);
};

enum { ORT_LOGGING_LEVEL_ERROR = 3 };
enum { ORT_DISABLE_ALL = 0 };  // GraphOptimizationLevel

// ONNXTensorElementDataType
enum {
    ORT_FLOAT = 1, ORT_UINT8 = 2, ORT_INT8 = 3, ORT_UINT16 = 4, ORT_INT16 = 5, ORT_INT32 = 6,
    ORT_INT64 = 7, ORT_BOOL = 9, ORT_FLOAT16 = 10, ORT_DOUBLE = 11, ORT_UINT32 = 12,
    ORT_UINT64 = 13,
};

// X(place, since version, name, result, parameters)
#define ORT_FUNCTIONS(X)                                                                           \
    X(2, 1, GetErrorMessage, const char *, (const OrtStatus *))                                    \
    X(3, 1, CreateEnv, OrtStatus *, (int level, const char *name, OrtEnv **))                      \
    X(7, 1, CreateSession, OrtStatus *,                                                            \
      (const OrtEnv *, const char *path, const OrtSessionOptions *, OrtSession **))                \
    X(9, 1, Run, OrtStatus *,                                                                      \
      (OrtSession *, const OrtRunOptions *, const char *const *input_names,                        \
       const OrtValue *const *inputs, size_t input_count, const char *const *output_names,         \
       size_t output_count, OrtValue **outputs))                                                   \
    X(10, 1, CreateSessionOptions, OrtStatus *, (OrtSessionOptions **))                            \
    X(11, 1, SetOptimizedModelFilePath, OrtStatus *, (OrtSessionOptions *, const char *path))      \
    X(22, 1, SetSessionLogSeverityLevel, OrtStatus *, (OrtSessionOptions *, int level))            \
    X(23, 1, SetSessionGraphOptimizationLevel, OrtStatus *, (OrtSessionOptions *, int level))      \
    X(24, 1, SetIntraOpNumThreads, OrtStatus *, (OrtSessionOptions *, int threads))                \
    X(25, 1, SetInterOpNumThreads, OrtStatus *, (OrtSessionOptions *, int threads))                \
    X(30, 1, SessionGetInputCount, OrtStatus *, (const OrtSession *, size_t *))                    \
    X(31, 1, SessionGetOutputCount, OrtStatus *, (const OrtSession *, size_t *))                   \
    X(33, 1, SessionGetInputTypeInfo, OrtStatus *, (const OrtSession *, size_t, OrtTypeInfo **))   \
    X(34, 1, SessionGetOutputTypeInfo, OrtStatus *, (const OrtSession *, size_t, OrtTypeInfo **))  \
    X(36, 1, SessionGetInputName, OrtStatus *,                                                     \
      (const OrtSession *, size_t, OrtAllocator *, char **))                                       \
    X(37, 1, SessionGetOutputName, OrtStatus *,                                                    \
      (const OrtSession *, size_t, OrtAllocator *, char **))                                       \
    X(48, 1, CreateTensorAsOrtValue, OrtStatus *,                                                  \
      (OrtAllocator *, const int64_t *dims, size_t rank, int type, OrtValue **))                   \
    X(51, 1, GetTensorMutableData, OrtStatus *, (OrtValue *, void **))                             \
    X(55, 1, CastTypeInfoToTensorInfo, OrtStatus *,                                                \
      (const OrtTypeInfo *, const OrtTensorTypeAndShapeInfo **))                                   \
    X(60, 1, GetTensorElementType, OrtStatus *, (const OrtTensorTypeAndShapeInfo *, int *))        \
    X(61, 1, GetDimensionsCount, OrtStatus *, (const OrtTensorTypeAndShapeInfo *, size_t *))       \
    X(62, 1, GetDimensions, OrtStatus *, (const OrtTensorTypeAndShapeInfo *, int64_t *, size_t))   \
    X(63, 1, GetSymbolicDimensions, OrtStatus *,                                                   \
      (const OrtTensorTypeAndShapeInfo *, const char **, size_t))                                  \
    X(65, 1, GetTensorTypeAndShape, OrtStatus *,                                                   \
      (const OrtValue *, OrtTensorTypeAndShapeInfo **))                                            \
    X(76, 1, AllocatorFree, OrtStatus *, (OrtAllocator *, void *))                                 \
    X(78, 1, GetAllocatorWithDefaultOptions, OrtStatus *, (OrtAllocator **))                       \
    X(93, 1, ReleaseStatus, void, (OrtStatus *))                                                   \
    X(95, 1, ReleaseSession, void, (OrtSession *))                                                 \
    X(96, 1, ReleaseValue, void, (OrtValue *))                                                     \
    X(98, 1, ReleaseTypeInfo, void, (OrtTypeInfo *))                                               \
    X(99, 1, ReleaseTensorTypeAndShapeInfo, void, (OrtTensorTypeAndShapeInfo *))                   \
    X(100, 1, ReleaseSessionOptions, void, (OrtSessionOptions *))                                  \
    X(124, 3, AddFreeDimensionOverrideByName, OrtStatus *,                                         \
      (OrtSessionOptions *, const char *name, int64_t value))                                      \
    X(130, 5, AddSessionConfigEntry, OrtStatus *,                                                  \
      (OrtSessionOptions *, const char *key, const char *value))                                   \
    X(133, 5, RunWithBinding, OrtStatus *,                                                         \
      (OrtSession *, const OrtRunOptions *, const OrtIoBinding *))                                 \
    X(134, 5, CreateIoBinding, OrtStatus *, (OrtSession *, OrtIoBinding **))                       \
    X(135, 5, ReleaseIoBinding, void, (OrtIoBinding *))                                            \
    X(136, 5, BindInput, OrtStatus *, (OrtIoBinding *, const char *name, const OrtValue *))        \
    X(137, 5, BindOutput, OrtStatus *, (OrtIoBinding *, const char *name, const OrtValue *))       \
    X(216, 12, SessionOptionsAppendExecutionProvider, OrtStatus *,                                 \
      (OrtSessionOptions *, const char *provider, const char *const *keys,                         \
       const char *const *values, size_t count))

// Those of version 24 that report which execution provider executes which nodes.
#define ORT_ASSIGNMENT_FUNCTIONS(X)                                                                \
    X(407, 24, Session_GetEpGraphAssignmentInfo, OrtStatus *,                     \
      (const OrtSession *, const OrtEpAssignedSubgraph *const **, size_t *))                       \
    X(408, 24, EpAssignedSubgraph_GetEpName, OrtStatus *,                     \
      (const OrtEpAssignedSubgraph *, const char **))                                              \
    X(409, 24, EpAssignedSubgraph_GetNodes, OrtStatus *,                      \
      (const OrtEpAssignedSubgraph *, const OrtEpAssignedNode *const **, size_t *))

// Linked into the program only where LATBENCH_LINKED_ONNXRUNTIME is defined, as on iOS. NNAPI's
// function is looked up by name; only libraries for Android have it.
const struct ort_api_base *OrtGetApiBase(void);

#endif
