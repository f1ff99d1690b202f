// The companion app.
#import "AppDelegate.h"

int main(int count, char **arguments) {
    @autoreleasepool {
        return UIApplicationMain(count, arguments, nil, NSStringFromClass([AppDelegate class]));
    }
}
