// See StatusViewController.h.
#import "StatusViewController.h"

static const NSTimeInterval LOOK_S = 0.5;  // rarely, so that drawing does not disturb what is timed

@implementation StatusViewController {
    struct companion *_companion;
    UILabel *_label;
    NSString *_problem;
    NSString *_shown;
}

- (instancetype)initWithCompanion:(struct companion *)companion {
    self = [super init];
    if (self != nil) _companion = companion;
    return self;
}

- (void)viewDidLoad {
    [super viewDidLoad];
    [[self view] setBackgroundColor:[UIColor blackColor]];
    _label = [[UILabel alloc] initWithFrame:CGRectInset([[self view] bounds], 24, 48)];
    [_label setAutoresizingMask:UIViewAutoresizingFlexibleWidth | UIViewAutoresizingFlexibleHeight];
    [_label setNumberOfLines:0];
    [_label setTextColor:[UIColor whiteColor]];
    [_label setFont:[UIFont monospacedSystemFontOfSize:20 weight:UIFontWeightRegular]];
    [[self view] addSubview:_label];
    [NSTimer scheduledTimerWithTimeInterval:LOOK_S target:self selector:@selector(look:)
                                   userInfo:nil repeats:YES];
}

- (void)showProblem:(NSString *)problem {
    _problem = [problem copy];
}

- (void)look:(NSTimer *)timer {
    static NSString *const THERMAL[] = {@"cool", @"fair", @"serious: wait", @"critical: wait"};
    pthread_mutex_lock(&_companion->changed);
    const struct phone_state state = _companion->state;
    const char *doing = _companion->doing;
    unsigned refused = _companion->refused_hosts;
    BOOL paired = _companion->conversations > 0;
    pthread_mutex_unlock(&_companion->changed);
    NSMutableString *text = [NSMutableString stringWithFormat:
        @"latbench\n\ntoken\n%s\n\n%@\nnow: %s\n\ntemperature: %@\nlow-power mode: %@\n",
        _companion->token, paired ? @"a host is connected" : @"waiting for a host", doing,
        THERMAL[state.thermal], state.low_power ? @"on: switch it off" : @"off"];
    if (state.battery_percent >= 0)
        [text appendFormat:@"battery: %.0f %%%@\n", state.battery_percent,
                           state.charging ? @", charging" : @""];
    if (_companion->on_network) [text appendString:@"Wi-Fi is allowed\n"];
    if (refused > 0) [text appendFormat:@"%u times a host had a wrong token\n", refused];
    if (_problem != nil) [text appendFormat:@"\n%@\n", _problem];
    if ([text isEqualToString:_shown]) return;  // nothing to draw
    _shown = [text copy];
    [_label setText:text];
}

@end
