// What the companion app uses of Core ML: declarations alone; see UIKit/UIKit.h beside it.
#ifndef STUB_COREML_H
#define STUB_COREML_H

#import <Foundation/Foundation.h>

typedef NS_ENUM(NSInteger, MLComputeUnits) {
    MLComputeUnitsCPUOnly, MLComputeUnitsCPUAndGPU, MLComputeUnitsAll,
    MLComputeUnitsCPUAndNeuralEngine
};
typedef NS_ENUM(NSInteger, MLMultiArrayDataType) { MLMultiArrayDataTypeFloat32 = 0x10000 | 32 };

@interface MLMultiArray : NSObject
- (instancetype)initWithShape:(NSArray<NSNumber *> *)shape
                     dataType:(MLMultiArrayDataType)type
                        error:(NSError **)error;
@property(readonly) void *dataPointer;
@property(readonly) NSInteger count;
- (NSNumber *)objectAtIndexedSubscript:(NSInteger)index;
@end

@interface MLFeatureValue : NSObject
+ (instancetype)featureValueWithMultiArray:(MLMultiArray *)value;
@property(readonly) MLMultiArray *multiArrayValue;
@end

@protocol MLFeatureProvider <NSObject>
- (MLFeatureValue *)featureValueForName:(NSString *)name;
@end

@interface MLDictionaryFeatureProvider : NSObject <MLFeatureProvider>
- (instancetype)initWithDictionary:(NSDictionary *)dictionary error:(NSError **)error;
@end

@interface MLMultiArrayConstraint : NSObject
@property(readonly) NSArray<NSNumber *> *shape;
@property(readonly) MLMultiArrayDataType dataType;
@end

@interface MLFeatureDescription : NSObject
@property(readonly) NSString *name;
@property(readonly) MLMultiArrayConstraint *multiArrayConstraint;
@end

@interface MLModelDescription : NSObject
@property(readonly) NSDictionary<NSString *, MLFeatureDescription *> *inputDescriptionsByName;
@property(readonly) NSDictionary<NSString *, MLFeatureDescription *> *outputDescriptionsByName;
@end

@interface MLModelConfiguration : NSObject
@property MLComputeUnits computeUnits;
@end

@interface MLModel : NSObject
+ (NSURL *)compileModelAtURL:(NSURL *)url error:(NSError **)error;
+ (instancetype)modelWithContentsOfURL:(NSURL *)url
                         configuration:(MLModelConfiguration *)configuration
                                 error:(NSError **)error;
@property(readonly) MLModelDescription *modelDescription;
- (id<MLFeatureProvider>)predictionFromFeatures:(id<MLFeatureProvider>)features
                                          error:(NSError **)error;
@end

#endif
