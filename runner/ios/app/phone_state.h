// The present state of the phone, as the app's shell reports it, and whether it allows measuring.
#ifndef LATBENCH_PHONE_STATE_H
#define LATBENCH_PHONE_STATE_H

#include <stdbool.h>

#include "failure.h"
#include "text.h"

// NSProcessInfoThermalState, with its numbers.
enum thermal { THERMAL_NOMINAL, THERMAL_FAIR, THERMAL_SERIOUS, THERMAL_CRITICAL };

struct phone_state {
    bool active;  // the app is in front; else iOS may stop it at any moment
    unsigned left;  // how often it has left the front
    enum thermal thermal;
    bool low_power;          // low-power mode caps the clocks
    double battery_percent;  // below 0: not known
    bool charging;
};

// Note that the app came to the front or left it.
void phone_state_set_active(struct phone_state *state, bool active);

// Android's thermal status (0 none, 1 light, 3 severe, 4 critical) for what iOS says; low-power mode,
// which throttles like heat, is at least light.
int phone_state_thermal_status(const struct phone_state *state);

// Whether a model may be loaded or run now.
bool phone_state_may_measure(const struct phone_state *state, struct failure *failure);

// Whether what was done while the state went from `before` to `after` is to be believed.
bool phone_state_was_undisturbed(const struct phone_state *before, const struct phone_state *after,
                                 struct failure *failure);

// Add its fields of `Conditions` (latbench/device/conditions.py).
void phone_state_add(struct text *reply, const struct phone_state *state);

#endif
