// See AppDelegate.h. Everything that is not UIKit is in ../app, and tested without a phone.
#import "AppDelegate.h"

#import <sys/utsname.h>

#import "PhoneMonitor.h"
#import "StatusViewController.h"
#import "engines.h"

static struct companion companion;

@implementation AppDelegate {
    PhoneMonitor *_monitor;
    StatusViewController *_status;
}

- (BOOL)application:(UIApplication *)application
    didFinishLaunchingWithOptions:(NSDictionary *)launchOptions {
    companion_init(&companion);
    _status = [[StatusViewController alloc] initWithCompanion:&companion];
    [self setWindow:[[UIWindow alloc] initWithFrame:[[UIScreen mainScreen] bounds]]];
    [[self window] setRootViewController:_status];
    [[self window] makeKeyAndVisible];
    [application setIdleTimerDisabled:YES];  // the screen stays on, and the app in front
    _monitor = [[PhoneMonitor alloc] initWithCompanion:&companion];
    [_monitor start];
    struct failure failure;
    if (![self prepare:&failure]) {
        [_status showProblem:[NSString stringWithUTF8String:failure.message]];
        return YES;
    }
    [NSThread detachNewThreadSelector:@selector(serve) toTarget:self withObject:nil];
    return YES;
}

// Set what `companion_serve` needs.
- (BOOL)prepare:(struct failure *)failure {
    NSString *support = [NSSearchPathForDirectoriesInDomains(NSApplicationSupportDirectory,
                                                             NSUserDomainMask, YES) firstObject];
    NSString *caches = [NSSearchPathForDirectoriesInDomains(NSCachesDirectory, NSUserDomainMask,
                                                            YES) firstObject];
    [[NSFileManager defaultManager] createDirectoryAtPath:support withIntermediateDirectories:YES
                                               attributes:nil error:NULL];
    NSString *token = [support stringByAppendingPathComponent:@"token"];
    NSString *artifacts = [caches stringByAppendingPathComponent:@"artifacts"];
    if (!token_keep([token fileSystemRepresentation], companion.token))
        return fail(failure, "the token cannot be kept");
    if (!cache_open(&companion.cache, [artifacts fileSystemRepresentation], failure)) return NO;
    struct utsname system;
    uname(&system);
    UIDevice *device = [UIDevice currentDevice];
    companion.model = strdup(system.machine);
    companion.os_version = strdup([[device systemVersion] UTF8String]);
    companion.unit = strdup([[[device identifierForVendor] UUIDString] UTF8String]);
#if TARGET_OS_SIMULATOR
    companion.emulated = true;
#endif
    companion.on_network = [[NSUserDefaults standardUserDefaults] boolForKey:@"allow_wifi"];
    engines_add(&companion);
    return YES;
}

// iOS takes sockets away from apps that were in the background for long, so it begins again.
- (void)serve {
    for (;;) {
        @autoreleasepool {
            struct failure failure;
            companion_serve(&companion, &failure);
            [_status performSelectorOnMainThread:@selector(showProblem:)
                                      withObject:[NSString stringWithUTF8String:failure.message]
                                   waitUntilDone:NO];
        }
        [NSThread sleepForTimeInterval:1];
    }
}

@end
