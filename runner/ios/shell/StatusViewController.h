// The app's one screen: the token, what is being done, and how warm the phone is.
#import <UIKit/UIKit.h>

#include "companion.h"

@interface StatusViewController : UIViewController

- (instancetype)initWithCompanion:(struct companion *)companion;

// Say at the bottom why nothing can be measured.
- (void)showProblem:(NSString *)problem;

@end
