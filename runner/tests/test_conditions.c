// What a faked /proc and /sys tell.
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "conditions.h"

static void put(const char *root, const char *path, const char *content) {
    char whole[1024];
    snprintf(whole, sizeof whole, "%s%s", root, path);
    for (char *at = whole + strlen(root) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        mkdir(whole, 0700);
        *at = '/';
    }
    FILE *file = fopen(whole, "w");
    CHECK(file != NULL);
    if (file == NULL) return;
    fprintf(file, "%s\n", content);
    fclose(file);
}

// What `conditions_add` adds, without the affinity, which is this process's.
static void check_conditions(const char *root, const char *expected) {
    struct text text = {0};
    struct files files = {.root = root};
    text_add(&text, "{");
    conditions_add(&text, &files);
    text_add(&text, "}");
    char *got = text.data;
    char *affinity = strstr(got, "\"affinity\":[");
    if (affinity != NULL) {
        char *end = strchr(affinity, ']') + 1;
        if (*end == ',') end++;
        memmove(affinity, end, strlen(end) + 1);
    }
    CHECK_TEXT(got, expected);
    text_free(&text);
}

static void put_phone(const char *root) {
    const char *cpu = "/sys/devices/system/cpu/cpu";
    char path[256];
    for (int core = 0; core < 12; core += 10) {
        snprintf(path, sizeof path, "%s%d/cpufreq/scaling_cur_freq", cpu, core);
        put(root, path, core ? "2400000" : "1800000");
        snprintf(path, sizeof path, "%s%d/cpufreq/scaling_governor", cpu, core);
        put(root, path, "schedutil");
    }
    put(root, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "1500000");
    put(root, "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "<unsupported>");
    put(root, "/sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "7");
    put(root, "/sys/devices/system/cpu/cpuidle/current_driver", "none");
    put(root, "/sys/class/thermal/thermal_zone0/type", "soc");
    put(root, "/sys/class/thermal/thermal_zone0/temp", "41500");
    put(root, "/sys/class/thermal/thermal_zone1/type", "soc");
    put(root, "/sys/class/thermal/thermal_zone1/temp", "-1000");
    put(root, "/sys/class/thermal/thermal_zone2/temp", "hot");
    put(root, "/sys/class/thermal/cooling_device0/temp", "1");
    put(root, "/sys/class/hwmon/hwmon0/name", "chip");
    put(root, "/sys/class/hwmon/hwmon0/temp1_input", "30000");
    put(root, "/sys/class/hwmon/hwmon0/temp2_input", "31000");
    put(root, "/sys/class/hwmon/hwmon0/temp2_label", "core");
    put(root, "/sys/class/hwmon/hwmon0/temp2_crit", "99000");
    put(root, "/proc/loadavg", "0.52 0.58 0.59 1/467 12345");
    put(root, "/proc/meminfo", "MemTotal: 100 kB\nMemAvailable:    2048 kB\nCached: 1 kB");
    put(root, "/proc/stat", "cpu  1 2 3 4 5 6 7 250 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10");
    put(root, "/proc/uptime", "1234.50 999.00");
    put(root, "/proc/sys/kernel/osrelease", "5.10.43-android12");
    put(root, "/sys/class/power_supply/ac/type", "Mains");
    put(root, "/sys/class/power_supply/battery/type", "Battery");
    put(root, "/sys/class/power_supply/battery/capacity", "83");
    put(root, "/sys/class/power_supply/battery/status", "Discharging");
    put(root, "/sys/class/power_supply/a_mouse/type", "Battery");
    put(root, "/sys/class/power_supply/a_mouse/scope", "Device");
    put(root, "/sys/class/power_supply/a_mouse/capacity", "5");
}

int main(void) {
    char phone[] = "conditions_test_XXXXXX", server[] = "conditions_test_XXXXXX";
    CHECK(mkdtemp(phone) != NULL && mkdtemp(server) != NULL);
    check_conditions(phone, "{}");
    put_phone(phone);
    check_conditions(
        phone,
        "{\"clocks_khz\":{\"0\":1800000,\"10\":2400000},\"clock_limits_khz\":{\"0\":1500000},"
        "\"governors\":{\"0\":\"schedutil\",\"10\":\"schedutil\"},"
        "\"temperatures_c\":{\"soc\":41.5,\"soc #2\":-1,\"chip temp1\":30,\"chip core\":31},"
        "\"load_average\":0.52000000000000002,\"memory_available_mib\":2,\"stolen_s\":2.5,"
        "\"battery_percent\":83,\"charging\":false,\"uptime_s\":1234.5,"
        "\"build\":\"Linux 5.10.43-android12\"}");
    // Two cgroups, each with a quota: version 2, and a folder above that tells nothing.
    put(server, "/proc/self/cgroup", "0::/user.slice/../job");
    put(server, "/sys/fs/cgroup/user.slice/job/cpu.stat", "usage_usec 1\nthrottled_usec 500000");
    put(server, "/sys/fs/cgroup/user.slice/cpu.stat", "throttled_usec 250000\n");
    put(server, "/etc/os-release", "NAME=x\nPRETTY_NAME=\"Some Linux 12\"\nID=x");
    check_conditions(server, "{\"throttled_s\":0.75,\"build\":\"Some Linux 12\"}");
    // Version 1.
    put(server, "/proc/self/cgroup", "4:memory:/a\n3:cpu,cpuacct:/a\n");
    put(server, "/sys/fs/cgroup/cpu,cpuacct/cpu.stat", "nr_throttled 1\nthrottled_time 2000000000");
    check_conditions(server, "{\"throttled_s\":2,\"build\":\"Some Linux 12\"}");
    return CHECKS_STATUS;
}
