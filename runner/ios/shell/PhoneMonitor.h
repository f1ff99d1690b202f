// Watches the state of the phone that iOS reports, and keeps the companion's copy up to date.
#import <UIKit/UIKit.h>

#include "companion.h"

@interface PhoneMonitor : NSObject

- (instancetype)initWithCompanion:(struct companion *)companion;

// Begin to watch; the state is right from then on.
- (void)start;

@end
