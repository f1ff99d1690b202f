// What GNUstep's headers need of the Objective-C runtime. gcc's own header reads fields of objects, which
// ARC does not allow.
#ifndef STUB_OBJC_RUNTIME_H
#define STUB_OBJC_RUNTIME_H

#include <objc/objc.h>

typedef struct objc_method *Method;
typedef struct objc_ivar *Ivar;
typedef struct objc_property *objc_property_t;
typedef struct objc_category *Category;
struct objc_method_description { SEL name; char *types; };

#endif
