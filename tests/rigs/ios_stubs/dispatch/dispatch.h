// What the companion app's shell uses of libdispatch; see UIKit/UIKit.h beside it.
#ifndef STUB_DISPATCH_H
#define STUB_DISPATCH_H

typedef struct dispatch_queue_stub *dispatch_queue_t;
dispatch_queue_t dispatch_get_main_queue(void);
void dispatch_async(dispatch_queue_t queue, void (^block)(void));

#endif
