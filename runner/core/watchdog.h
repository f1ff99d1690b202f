// What ends the runner, and what it says when an engine takes it along.
#ifndef LATBENCH_WATCHDOG_H
#define LATBENCH_WATCHDOG_H

// What the runner is at, for the report of a crash; a string that lasts.
void watchdog_stage(const char *stage);

// When a signal of a crash strikes, write a last line of JSON to the standard error, made like a
// reply whose `kind` is `crashed`; then let the signal end the process as it would have.
void watchdog_report_crashes(void);

// End the process after so many seconds, whatever it is doing.
void watchdog_limit(unsigned seconds);

// Watch for the end of the input `file` while a model may run: 5 s later, end the process with
// status 3. Reading the input sees the end by itself, but not while a model never ends.
void watchdog_watch(int file);

// The conversation is over; nothing that happens to its input matters any more.
void watchdog_forget(void);

#endif
