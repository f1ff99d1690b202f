// Core ML as an engine: see engine.h of the core.
//
// A model comes as a package (package.h), is unpacked and compiled on the phone, and kept compiled beside
// its artifact. Inputs and outputs are multi-arrays of floats, as latbench.runtime.coreml.writer writes them.
#import <CoreML/CoreML.h>
#import <Foundation/Foundation.h>

#include <stdlib.h>
#include <string.h>

#include "engines.h"
#include "package.h"

static const char *const LIBRARIES[] = {"CoreML.framework", NULL};
static const char *const ACCELERATORS[] = {"cpu", "gpu", "npu", "all", NULL};

// What Objective-C holds of a loaded model.
@interface LoadedCoreMLModel : NSObject
@property(nonatomic, strong) MLModel *model;
@property(nonatomic, strong) NSMutableArray<MLMultiArray *> *inputs;
@property(nonatomic, strong) id<MLFeatureProvider> features;
@property(nonatomic, strong) id<MLFeatureProvider> results;
@end

@implementation LoadedCoreMLModel
@end

struct coreml_model {
    struct model model;  // first: see engine.h
    void *loaded;        // a LoadedCoreMLModel, owned
};

static LoadedCoreMLModel *loaded_of(struct model *model) {
    return (__bridge LoadedCoreMLModel *)((struct coreml_model *)model)->loaded;
}

static bool coreml_open(const char *path, struct failure *failure) {
    (void)path, (void)failure;
    return true;
}

static const char *coreml_version(void) {
    static char version[64];
    NSString *release = [[NSProcessInfo processInfo] operatingSystemVersionString];
    snprintf(version, sizeof version, "%s", [release UTF8String]);
    return version;
}

static bool coreml_start(struct failure *failure) {
    (void)failure;
    return true;
}

static bool refuse(struct failure *failure, const char *what, NSError *error) {
    return fail(failure, "%s: %.600s", what, [[error localizedDescription] UTF8String]);
}

// The compiled model of the package at `path`, compiled now if it was not before.
static NSURL *compiled(NSString *path, struct failure *failure) {
    NSFileManager *files = [NSFileManager defaultManager];
    NSURL *kept = [NSURL fileURLWithPath:[path stringByAppendingString:@".mlmodelc"]];
    if ([files fileExistsAtPath:[kept path]]) return kept;
    NSString *package = [path stringByAppendingString:@".mlpackage"];
    [files removeItemAtPath:package error:NULL];
    if (!package_unpack([path fileSystemRepresentation], [package fileSystemRepresentation], failure))
        return nil;
    NSError *error = nil;
    NSURL *made = [MLModel compileModelAtURL:[NSURL fileURLWithPath:package] error:&error];
    [files removeItemAtPath:package error:NULL];
    if (made == nil || ![files moveItemAtURL:made toURL:kept error:&error]) {
        refuse(failure, "Core ML cannot compile it", error);
        return nil;
    }
    return kept;
}

static MLComputeUnits units_of(const char *accelerator) {
    if (strcmp(accelerator, "gpu") == 0) return MLComputeUnitsCPUAndGPU;
    if (strcmp(accelerator, "npu") == 0) return MLComputeUnitsCPUAndNeuralEngine;
    if (strcmp(accelerator, "all") == 0) return MLComputeUnitsAll;
    return MLComputeUnitsCPUOnly;
}

static bool describe(MLFeatureDescription *feature, struct tensor *tensor, struct failure *failure) {
    MLMultiArrayConstraint *constraint = [feature multiArrayConstraint];
    if (constraint == nil || [constraint dataType] != MLMultiArrayDataTypeFloat32 ||
        [[constraint shape] count] > MAX_RANK)
        return fail(failure, "%s is no multi-array of 32-bit floats", [[feature name] UTF8String]);
    tensor->name = strdup([[feature name] UTF8String]);
    tensor->dtype = DTYPE_FLOAT32;
    for (NSNumber *dimension in [constraint shape])
        tensor->shape.dims[tensor->shape.rank++] = [dimension longLongValue];
    return tensor->name != NULL || fail(failure, "out of memory");
}

// Describe all features, sorted by name, so that their order is the same each time.
static bool describe_all(NSDictionary<NSString *, MLFeatureDescription *> *features,
                         struct tensor **tensors, size_t *count, struct failure *failure) {
    NSArray<NSString *> *names = [[features allKeys] sortedArrayUsingSelector:@selector(compare:)];
    *tensors = calloc([names count] + 1, sizeof **tensors);
    if (*tensors == NULL) return fail(failure, "out of memory");
    for (NSString *name in names)
        if (!describe([features objectForKey:name], &(*tensors)[(*count)++], failure)) return false;
    return true;
}

static bool make_inputs(struct coreml_model *coreml, struct failure *failure) {
    LoadedCoreMLModel *loaded = loaded_of(&coreml->model);
    NSMutableDictionary *values = [NSMutableDictionary dictionary];
    NSError *error = nil;
    [loaded setInputs:[NSMutableArray array]];
    for (size_t i = 0; i < coreml->model.input_count; i++) {
        const struct tensor *tensor = &coreml->model.inputs[i];
        NSMutableArray<NSNumber *> *shape = [NSMutableArray array];
        for (size_t k = 0; k < tensor->shape.rank; k++)
            [shape addObject:[NSNumber numberWithLongLong:tensor->shape.dims[k]]];
        MLMultiArray *array = [[MLMultiArray alloc] initWithShape:shape
                                                         dataType:MLMultiArrayDataTypeFloat32
                                                            error:&error];
        if (array == nil) return refuse(failure, "Core ML cannot make an input", error);
        [[loaded inputs] addObject:array];
        [values setObject:[MLFeatureValue featureValueWithMultiArray:array]
                   forKey:[NSString stringWithUTF8String:tensor->name]];
    }
    [loaded setFeatures:[[MLDictionaryFeatureProvider alloc] initWithDictionary:values error:&error]];
    return [loaded features] != nil || refuse(failure, "Core ML refuses the inputs", error);
}

static bool load_into(struct coreml_model *coreml, const struct load_options *options,
                      struct failure *failure) {
    struct model *model = &coreml->model;
    NSError *error = nil;
    NSURL *url = compiled([NSString stringWithUTF8String:options->path], failure);
    if (url == nil) return false;
    MLModelConfiguration *configuration = [[MLModelConfiguration alloc] init];
    [configuration setComputeUnits:units_of(options->accelerator)];
    LoadedCoreMLModel *loaded = [[LoadedCoreMLModel alloc] init];
    [loaded setModel:[MLModel modelWithContentsOfURL:url configuration:configuration error:&error]];
    if ([loaded model] == nil) return refuse(failure, "Core ML cannot load it", error);
    coreml->loaded = (__bridge_retained void *)loaded;
    MLModelDescription *description = [[loaded model] modelDescription];
    return describe_all([description inputDescriptionsByName], &model->inputs, &model->input_count,
                        failure) &&
           describe_all([description outputDescriptionsByName], &model->outputs,
                        &model->output_count, failure) &&
           make_inputs(coreml, failure);
}

static void coreml_unload(struct model *model) {
    struct coreml_model *coreml = (struct coreml_model *)model;
    if (coreml->loaded != NULL) (void)(__bridge_transfer LoadedCoreMLModel *)coreml->loaded;
    model_free_tensors(model);
    free(coreml);
}

static struct model *coreml_load(const struct load_options *options, struct failure *failure) {
    @autoreleasepool {
        struct coreml_model *coreml = calloc(1, sizeof *coreml);
        if (coreml == NULL) {
            fail(failure, "out of memory");
            return NULL;
        }
        coreml->model.engine = &coreml_engine;
        coreml->model.coverage = (struct coverage){-1, -1, -1};
        if (load_into(coreml, options, failure)) return &coreml->model;
        coreml_unload(&coreml->model);
        return NULL;
    }
}

static bool coreml_set_input(struct model *model, size_t input, const void *data, size_t bytes,
                             struct failure *failure) {
    MLMultiArray *array = [[loaded_of(model) inputs] objectAtIndex:input];
    if ((size_t)[array count] * sizeof(float) != bytes) return fail(failure, "an input has another size");
    memcpy([array dataPointer], data, bytes);
    return true;
}

static bool coreml_run(struct model *model, struct failure *failure) {
    @autoreleasepool {
        LoadedCoreMLModel *loaded = loaded_of(model);
        NSError *error = nil;
        id<MLFeatureProvider> results = [[loaded model] predictionFromFeatures:[loaded features]
                                                                         error:&error];
        [loaded setResults:results];
        return results != nil || refuse(failure, "Core ML cannot run it", error);
    }
}

static bool coreml_prepare(struct model *model, struct failure *failure) {
    return coreml_run(model, failure);
}

static bool coreml_get_output(struct model *model, size_t output, void *data, size_t bytes,
                              struct failure *failure) {
    NSString *name = [NSString stringWithUTF8String:model->outputs[output].name];
    MLMultiArray *array = [[[loaded_of(model) results] featureValueForName:name] multiArrayValue];
    if (array == nil || (size_t)[array count] * sizeof(float) != bytes)
        return fail(failure, "an output has another size");
    // Core ML may leave gaps between rows, so each element is looked up.
    float *values = data;
    for (NSInteger i = 0; i < [array count]; i++)
        values[i] = [[array objectAtIndexedSubscript:i] floatValue];
    return true;
}

const struct engine coreml_engine = {
    .runtime = "coreml",
    .library_names = LIBRARIES,
    .linked = true,
    .accelerators = ACCELERATORS,
    .open = coreml_open,
    .version = coreml_version,
    .start = coreml_start,
    .load = coreml_load,
    .set_input = coreml_set_input,
    .get_output = coreml_get_output,
    .prepare = coreml_prepare,
    .run = coreml_run,
    .unload = coreml_unload,
};
