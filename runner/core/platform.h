// The platform that this program was built for, as `hello` reports it.
#ifndef LATBENCH_PLATFORM_H
#define LATBENCH_PLATFORM_H

#if defined(__ANDROID__)
#define PLATFORM_OS "android"
#elif defined(__linux__)
#define PLATFORM_OS "linux"
#elif defined(__APPLE__)
#include <TargetConditionals.h>
#if TARGET_OS_IPHONE
#define PLATFORM_OS "ios"
#else
#define PLATFORM_OS "darwin"
#endif
#else
#error "the runner knows Linux, Android, macOS and iOS"
#endif

// Android's names of its ABIs; elsewhere what `uname -m` says.
#if defined(__x86_64__)
#define PLATFORM_ABI "x86_64"
#elif defined(__aarch64__) && defined(__ANDROID__)
#define PLATFORM_ABI "arm64-v8a"
#elif defined(__aarch64__) && defined(__APPLE__)
#define PLATFORM_ABI "arm64"
#elif defined(__aarch64__)
#define PLATFORM_ABI "aarch64"
#elif defined(__arm__) && defined(__ANDROID__)
#define PLATFORM_ABI "armeabi-v7a"
#elif defined(__arm__)
#define PLATFORM_ABI "armv7l"
#elif defined(__i386__)
#define PLATFORM_ABI "x86"
#elif defined(__riscv)
#define PLATFORM_ABI "riscv64"
#else
#error "the runner does not know this processor"
#endif

#endif
