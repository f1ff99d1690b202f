// What the phone is like now: see phone_state.h.
#include "phone_state.h"

void phone_state_set_active(struct phone_state *state, bool active) {
    if (state->active && !active) state->left++;
    state->active = active;
}

int phone_state_thermal_status(const struct phone_state *state) {
    static const int ANDROID[] = {0, 1, 3, 4};
    int status = ANDROID[state->thermal];
    return status == 0 && state->low_power ? 1 : status;
}

bool phone_state_may_measure(const struct phone_state *state, struct failure *failure) {
    if (state->active) return true;
    fail(failure, "the companion app is in the background, where iOS may stop it at any moment");
    return hint(failure, "bring it to the front and unlock the phone");
}

bool phone_state_was_undisturbed(const struct phone_state *before, const struct phone_state *after,
                                 struct failure *failure) {
    if (before->left == after->left) return true;
    fail(failure, "the companion app was sent to the background meanwhile");
    return hint(failure, "leave it in front while measuring");
}

void phone_state_add(struct text *reply, const struct phone_state *state) {
    text_add(reply, ",\"thermal_status\":%d", phone_state_thermal_status(state));
    text_add(reply, ",\"low_power_mode\":%s", state->low_power ? "true" : "false");
    text_add(reply, ",\"screen_on\":%s", state->active ? "true" : "false");
    if (state->battery_percent < 0) return;
    text_add(reply, ",\"battery_percent\":");
    text_add_number(reply, state->battery_percent);
    text_add(reply, ",\"charging\":%s", state->charging ? "true" : "false");
}
