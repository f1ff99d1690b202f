// What ends the runner: see watchdog.h.
#include "watchdog.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ORPHAN_S 5  // for the last request of a client that is gone
#define ORPHAN_STATUS 3

#ifdef POLLRDHUP
#define HUNG_UP POLLRDHUP  // a socket whose other side will send no more
#else
#define HUNG_UP 0  // POLLHUP is reported without being requested
#endif

static const char *volatile current_stage = "start";
static atomic_uint conversation;

void watchdog_stage(const char *stage) { current_stage = stage; }

static const struct {
    int number;
    const char *name;
} CRASHES[] = {
    {SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"}, {SIGILL, "SIGILL"},
    {SIGFPE, "SIGFPE"},   {SIGABRT, "SIGABRT"},
};
#define CRASH_COUNT (sizeof CRASHES / sizeof *CRASHES)

// Only what POSIX calls async-signal-safe may be called here.
static void say(const char *text) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0) return;  // nobody listens
}

static void report(int number) {
    const char *name = "a signal";
    for (size_t i = 0; i < CRASH_COUNT; i++)
        if (CRASHES[i].number == number) name = CRASHES[i].name;
    say("\n{\"id\":null,\"ok\":false,\"error\":{\"stage\":\"");
    say(current_stage);
    say("\",\"kind\":\"crashed\",\"message\":\"the engine raised ");
    say(name);
    say("\"}}\n");
    raise(number);  // the handler was set for one time
}

void watchdog_report_crashes(void) {
    // A stack of its own, since an overflowing one raises SIGSEGV too.
    const size_t size = 64 * 1024;
    stack_t stack = {.ss_sp = malloc(size), .ss_size = size};
    if (stack.ss_sp != NULL) sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_handler = report,
                               .sa_flags = (int)(SA_ONSTACK | SA_RESETHAND | SA_NODEFER)};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < CRASH_COUNT; i++) sigaction(CRASHES[i].number, &action, NULL);
}

void watchdog_limit(unsigned seconds) {
    signal(SIGALRM, SIG_DFL);
    alarm(seconds);
}

struct watch {
    unsigned conversation;
    int file;
};

static void *keep_watch(void *argument) {
    const struct watch mine = *(const struct watch *)argument;
    free(argument);
    struct pollfd file = {.fd = mine.file, .events = HUNG_UP};
    while (poll(&file, 1, -1) < 0) continue;
    sleep(ORPHAN_S);
    if (atomic_load(&conversation) == mine.conversation) _exit(ORPHAN_STATUS);
    return NULL;
}

void watchdog_watch(int file) {
    pthread_t thread;
    struct watch *watch = malloc(sizeof *watch);
    if (watch == NULL) return;
    *watch = (struct watch){.conversation = atomic_fetch_add(&conversation, 1) + 1, .file = file};
    if (pthread_create(&thread, NULL, keep_watch, watch) == 0)
        pthread_detach(thread);
    else
        free(watch);
}

void watchdog_forget(void) { atomic_fetch_add(&conversation, 1); }
