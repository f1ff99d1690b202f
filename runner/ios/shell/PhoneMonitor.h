// Watches what iOS tells of the phone, and keeps the companion's state up to date.
#import <UIKit/UIKit.h>

#include "companion.h"

@interface PhoneMonitor : NSObject

- (instancetype)initWithCompanion:(struct companion *)companion;

// Begin to watch; the state is right from then on.
- (void)start;

@end
