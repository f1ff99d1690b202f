// What the companion app's shell uses of UIKit, and of Foundation beyond GNUstep's: declarations alone, from
// Apple's documentation, for a syntax check where there is no Xcode. Nothing here is Apple's text.
#ifndef STUB_UIKIT_H
#define STUB_UIKIT_H

#import <Foundation/Foundation.h>
#include <dispatch/dispatch.h>

typedef double CGFloatStub;
typedef struct { CGFloatStub x, y, width, height; } CGRectStub;
#define CGRect CGRectStub
CGRect CGRectInset(CGRect rect, CGFloatStub dx, CGFloatStub dy);

// Foundation of iOS 11
typedef NSInteger NSProcessInfoThermalState;
extern NSString *const NSProcessInfoThermalStateDidChangeNotification;
extern NSString *const NSProcessInfoPowerStateDidChangeNotification;
@interface NSProcessInfo (Phone)
@property(readonly) NSProcessInfoThermalState thermalState;
@property(readonly, getter=isLowPowerModeEnabled) BOOL lowPowerModeEnabled;
@end

extern NSString *const UIApplicationDidBecomeActiveNotification;
extern NSString *const UIApplicationWillResignActiveNotification;
extern NSString *const UIDeviceBatteryLevelDidChangeNotification;
extern NSString *const UIDeviceBatteryStateDidChangeNotification;

typedef NS_ENUM(NSInteger, UIDeviceBatteryState) {
    UIDeviceBatteryStateUnknown, UIDeviceBatteryStateUnplugged, UIDeviceBatteryStateCharging,
    UIDeviceBatteryStateFull
};

@interface UIDevice : NSObject
+ (UIDevice *)currentDevice;
@property(readonly) NSString *systemVersion;
@property(readonly) NSUUID *identifierForVendor;
@property(getter=isBatteryMonitoringEnabled) BOOL batteryMonitoringEnabled;
@property(readonly) float batteryLevel;
@property(readonly) UIDeviceBatteryState batteryState;
@end

@interface UIResponder : NSObject
@end

@interface UIColor : NSObject
+ (UIColor *)blackColor;
+ (UIColor *)whiteColor;
@end

extern const CGFloatStub UIFontWeightRegular;
@interface UIFont : NSObject
+ (UIFont *)monospacedSystemFontOfSize:(CGFloatStub)size weight:(CGFloatStub)weight;
@end

typedef NS_OPTIONS(NSUInteger, UIViewAutoresizing) {
    UIViewAutoresizingFlexibleWidth = 1 << 1, UIViewAutoresizingFlexibleHeight = 1 << 4
};

@interface UIView : UIResponder
- (instancetype)initWithFrame:(CGRect)frame;
- (void)addSubview:(UIView *)view;
@property CGRect bounds;
@property(strong) UIColor *backgroundColor;
@property UIViewAutoresizing autoresizingMask;
@end

@interface UILabel : UIView
@property NSInteger numberOfLines;
@property(strong) UIColor *textColor;
@property(strong) UIFont *font;
@property(copy) NSString *text;
@end

@interface UIViewController : UIResponder
@property(strong) UIView *view;
- (void)viewDidLoad;
@end

@interface UIWindow : UIView
@property(strong) UIViewController *rootViewController;
- (void)makeKeyAndVisible;
@end

@interface UIScreen : NSObject
+ (UIScreen *)mainScreen;
@property(readonly) CGRect bounds;
@end

@interface UIApplication : UIResponder
@property(getter=isIdleTimerDisabled) BOOL idleTimerDisabled;
@end

@protocol UIApplicationDelegate <NSObject>
@optional
- (BOOL)application:(UIApplication *)application
    didFinishLaunchingWithOptions:(NSDictionary *)launchOptions;
@end

int UIApplicationMain(int count, char **arguments, NSString *principal, NSString *delegate);

#endif
