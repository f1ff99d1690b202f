// The innermost loop runs as often as it is asked to, and stops at what fails.
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "timing.h"

struct work {
    int64_t runs, fails_at;
};

static bool work(void *context, struct failure *failure) {
    struct work *done = context;
    done->runs++;
    return done->runs != done->fails_at || fail(failure, "run %lld", (long long)done->runs);
}

// Returns how many samples are taken; `runs` says how often the model ran in all.
static size_t taken(struct sampling sampling, int64_t *runs) {
    struct work done = {0};
    struct samples samples;
    struct failure failure;
    CHECK(take_samples(work, &done, &sampling, NULL, &samples, &failure));
    CHECK(samples.khz == NULL);
    size_t count = samples.count;
    for (size_t i = 0; i < count; i++) CHECK(samples.ns[i] >= 0);
    samples_free(&samples);
    *runs = done.runs;
    return count;
}

static void counts_are_kept(void) {
    int64_t runs;
    CHECK(taken((struct sampling){.warmups = 2, .min_samples = 8, .max_samples = 1000}, &runs) == 8);
    CHECK(runs == 10);
    CHECK(taken((struct sampling){.min_samples = 8, .max_samples = 3}, &runs) == 3);  // it wins
    CHECK(runs == 3);
    // However much time is left, a run after the last sample would fail, and write behind the array.
    struct sampling long_lasting = {.min_samples = 1, .max_samples = 6, .seconds = 1e300};
    struct work done = {.fails_at = 7};
    struct samples samples;
    struct failure failure;
    CHECK(take_samples(work, &done, &long_lasting, NULL, &samples, &failure));
    CHECK(samples.count == 6);
    samples_free(&samples);
}

static void times_are_kept(void) {
    int64_t runs, start = now_ns();
    struct sampling sampling = {.warmup_seconds = 0.01, .min_samples = 1,
                                .max_samples = MAX_SAMPLES, .seconds = 0.01};
    size_t count = taken(sampling, &runs);
    CHECK(now_ns() - start >= 20000000 || count == MAX_SAMPLES);
    CHECK(runs > (int64_t)count);
    start = now_ns();
    taken((struct sampling){.min_samples = 3, .max_samples = 3, .idle_ms = 4}, &runs);
    CHECK(now_ns() - start >= 12000000);
}

static void a_failing_run_ends_it(void) {
    struct sampling sampling = {.warmups = 2, .min_samples = 8, .max_samples = 8};
    for (int64_t at = 1; at <= 10; at += 4) {
        struct work done = {.fails_at = at};
        struct samples samples;
        struct failure failure;
        CHECK(!take_samples(work, &done, &sampling, NULL, &samples, &failure));
        CHECK(done.runs == at);
        CHECK(samples.ns == NULL);
    }
}

static void the_clock_is_read_at_most_each_5_ms(const char *root) {
    char path[512];
    struct files files = {.root = root};
    struct clock_reader clock;
    CHECK(!clock_open(&clock, &files, 3));
    snprintf(path, sizeof path, "%s/sys", root);
    static const char *const parts[] = {"", "/devices", "/system", "/cpu", "/cpu3", "/cpufreq"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        strcat(path, parts[i]);
        mkdir(path, 0700);
    }
    strcat(path, "/scaling_cur_freq");
    FILE *file = fopen(path, "w");
    CHECK(file != NULL && fputs("none\n", file) >= 0 && fclose(file) == 0);
    CHECK(!clock_open(&clock, &files, 3));
    file = fopen(path, "w");
    CHECK(file != NULL && fputs("1200000\n", file) >= 0 && fclose(file) == 0);
    CHECK(clock_open(&clock, &files, 3));
    CHECK(clock_khz(&clock, 1000) == 1200000);
    file = fopen(path, "w");
    CHECK(file != NULL && fputs("800000\n", file) >= 0 && fclose(file) == 0);
    CHECK(clock_khz(&clock, 5000999) == 1200000);
    CHECK(clock_khz(&clock, 5001000) == 800000);
    struct work done = {0};
    struct samples samples;
    struct failure failure;
    struct sampling sampling = {.min_samples = 4, .max_samples = 4};
    CHECK(take_samples(work, &done, &sampling, &clock, &samples, &failure));
    for (size_t i = 0; i < samples.count; i++) CHECK(samples.khz[i] == 800000);
    samples_free(&samples);
    clock_close(&clock);
}

int main(void) {
    char root[] = "timing_test_XXXXXX";
    CHECK(mkdtemp(root) != NULL);
    counts_are_kept();
    times_are_kept();
    a_failing_run_ends_it();
    the_clock_is_read_at_most_each_5_ms(root);
    return CHECKS_STATUS;
}
