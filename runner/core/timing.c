// The innermost loop: see timing.h.
#include "timing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// Reading a clock costs microseconds and disturbs caches: between reads, the last one stands.
#define CLOCK_EVERY_NS 5000000

int64_t now_ns(void) {
#ifdef __APPLE__
    return (int64_t)clock_gettime_nsec_np(CLOCK_UPTIME_RAW);  // mach_absolute_time in nanoseconds
#else
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
#endif
}

static int64_t nanoseconds(double seconds) {
    const double most = 1e9;  // 30 years; what is more would not fit
    return (int64_t)((seconds < most ? seconds : most) * 1e9);
}

static void sleep_ns(int64_t pause) {
    struct timespec left = {.tv_sec = (time_t)(pause / 1000000000),
                            .tv_nsec = (long)(pause % 1000000000)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) continue;
}

// Read the file; returns false if there is no number in it.
static bool read_khz(struct clock_reader *clock) {
    char text[32];
    ssize_t length = pread(clock->file, text, sizeof text - 1, 0);
    if (length <= 0) return false;
    text[length] = '\0';
    char *end;
    long long khz = strtoll(text, &end, 10);
    if (end == text) return false;
    clock->khz = khz;
    return true;
}

bool clock_open(struct clock_reader *clock, const struct files *files, int core) {
    char path[FILES_MAX_PATH];
    if (!files_path(files, path, "/sys/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq", core))
        return false;
    *clock = (struct clock_reader){.file = open(path, O_RDONLY | O_CLOEXEC)};
    if (clock->file < 0) return false;
    if (read_khz(clock)) return true;
    clock_close(clock);
    return false;
}

void clock_close(struct clock_reader *clock) { close(clock->file); }

int64_t clock_khz(struct clock_reader *clock, int64_t at_ns) {
    if (at_ns >= clock->due_ns) {
        read_khz(clock);
        clock->due_ns = at_ns + CLOCK_EVERY_NS;
    }
    return clock->khz;
}

static bool reserve(struct samples *samples, size_t count, bool with_clock) {
    *samples = (struct samples){0};
    samples->ns = malloc(count * sizeof *samples->ns);
    samples->khz = with_clock ? malloc(count * sizeof *samples->khz) : NULL;
    if (samples->ns == NULL || (with_clock && samples->khz == NULL)) return false;
    // Touch the memory now, so that no page comes in between two samples.
    memset(samples->ns, 1, count * sizeof *samples->ns);
    if (with_clock) memset(samples->khz, 1, count * sizeof *samples->khz);
    return true;
}

void samples_free(struct samples *samples) {
    free(samples->ns);
    free(samples->khz);
    *samples = (struct samples){0};
}

bool take_samples(bool (*run)(void *context, struct failure *failure), void *context,
                  const struct sampling *sampling, struct clock_reader *clock,
                  struct samples *samples, struct failure *failure) {
    const int64_t pause = nanoseconds(sampling->idle_ms / 1e3);
    const size_t most = (size_t)sampling->max_samples;
    const size_t wanted =
        sampling->min_samples < sampling->max_samples ? (size_t)sampling->min_samples : most;
    if (!reserve(samples, most, clock != NULL)) {
        samples_free(samples);
        return fail(failure, "there is no memory for %zu samples", most);
    }
    const int64_t warm_at = now_ns() + nanoseconds(sampling->warmup_seconds);
    bool ran = true;
    for (int64_t i = 0; ran && (i < sampling->warmups || now_ns() < warm_at); i++)
        ran = run(context, failure);
    int64_t end = now_ns();
    const int64_t done_at = end + nanoseconds(sampling->seconds);
    size_t count = 0;
    while (ran && (count < wanted || (count < most && end < done_at))) {
        if (pause > 0) sleep_ns(pause);
        if (clock != NULL) samples->khz[count] = clock_khz(clock, pause > 0 ? now_ns() : end);
        const int64_t start = now_ns();
        ran = run(context, failure);
        end = now_ns();
        samples->ns[count++] = end - start;
    }
    samples->count = count;
    if (!ran) samples_free(samples);
    return ran;
}
