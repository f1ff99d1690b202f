// See PhoneMonitor.h.
#import "PhoneMonitor.h"

@implementation PhoneMonitor {
    struct companion *_companion;
    BOOL _active;
}

- (instancetype)initWithCompanion:(struct companion *)companion {
    self = [super init];
    if (self != nil) _companion = companion;
    return self;
}

- (void)start {
    [[UIDevice currentDevice] setBatteryMonitoringEnabled:YES];
    NSNotificationCenter *center = [NSNotificationCenter defaultCenter];
    NSArray<NSString *> *changes = @[
        NSProcessInfoThermalStateDidChangeNotification, NSProcessInfoPowerStateDidChangeNotification,
        UIDeviceBatteryLevelDidChangeNotification, UIDeviceBatteryStateDidChangeNotification
    ];
    for (NSString *change in changes)
        [center addObserver:self selector:@selector(changed:) name:change object:nil];
    [center addObserver:self selector:@selector(becameActive:)
                   name:UIApplicationDidBecomeActiveNotification object:nil];
    [center addObserver:self selector:@selector(resignsActive:)
                   name:UIApplicationWillResignActiveNotification object:nil];
    [self tell];
}

- (void)becameActive:(NSNotification *)notification {
    _active = YES;
    [self tell];
}

- (void)resignsActive:(NSNotification *)notification {
    _active = NO;
    [self tell];
}

// Thermal and power notifications come on any thread; UIKit is for the main one.
- (void)changed:(NSNotification *)notification {
    dispatch_async(dispatch_get_main_queue(), ^{
        [self tell];
    });
}

- (void)tell {
    UIDevice *device = [UIDevice currentDevice];
    NSProcessInfo *process = [NSProcessInfo processInfo];
    struct phone_state state = {
        .active = _active,
        .thermal = (enum thermal)[process thermalState],
        .low_power = [process isLowPowerModeEnabled],
        .battery_percent = [device batteryLevel] < 0 ? -1 : 100.0 * (double)[device batteryLevel],
        .charging = [device batteryState] == UIDeviceBatteryStateCharging ||
                    [device batteryState] == UIDeviceBatteryStateFull,
    };
    companion_set_state(_companion, &state);
}

@end
