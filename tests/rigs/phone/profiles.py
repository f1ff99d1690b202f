"""The phones that the rig can be: their properties, and what their shell can read.

Values are stand-ins, of the kind and in the shape that such a phone has; those that no source is
named for are from memory. Nothing is derived from them but behaviour: an emulated phone has no speed.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Core:
    """One core as Linux describes it.

    `implementer` and `part` are of the MIDR register (Linux, arch/arm64/include/asm/cputype.h).
    """

    implementer: int
    part: int
    variant: int
    peak_khz: int
    lowest_khz: int


@dataclass(frozen=True)
class Temperature:
    """A sensor: its name, its type as in Android's thermal HAL, and degrees Celsius."""

    name: str
    kind: int
    celsius: float


@dataclass(frozen=True)
class Profile:
    """One model of phone.

    Attributes:
        name: what the rig calls it.
        release: Android's version, "9".
        properties: what getprop tells, without `ro.serialno`, which each phone has its own of.
        kernel: what `uname -r` tells.
        cores: slowest first; neighbours that are alike share a clock.
        features: of `/proc/cpuinfo`, words as Linux has them.
        emulated_cpu: for qemu's -cpu, the nearest that it has to the real one.
        governor: of every clock.
        temperatures: the sensors; each is a thermal zone too.
        thermalservice: whether `dumpsys thermalservice` tells status and temperatures (Android 10).
        fixed_performance: whether `cmd` knows fixed-performance mode and airplane mode (Android 11).
        denied: folders below /sys that a shell may not enter.
    """

    name: str
    release: str
    properties: dict[str, str]
    kernel: str
    cores: tuple[Core, ...]
    features: str
    emulated_cpu: str
    governor: str
    temperatures: tuple[Temperature, ...]
    thermalservice: bool
    fixed_performance: bool
    denied: tuple[str, ...] = field(default=())


def _properties(
    maker: str, model: str, device: str, soc: str, release: str, sdk: int
) -> dict[str, str]:
    """What every phone tells; fingerprint and ro.boot.qemu say that it is a rig's."""
    return {
        "ro.build.fingerprint": f"{maker}/{device}/{device}:{release}/RIG/1:user/release-keys",
        "ro.boot.qemu": "1",  # it says itself that its times mean nothing
        "ro.build.type": "user",
        "ro.build.version.release": release,
        "ro.build.version.sdk": str(sdk),
        "ro.product.brand": maker.lower(),
        "ro.product.cpu.abi": "arm64-v8a",
        "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
        "ro.product.device": device,
        "ro.product.manufacturer": maker,
        "ro.product.model": model,
        "ro.product.name": device,
        "sys.boot_completed": "1",
        **({"ro.soc.model": soc} if sdk >= 31 else {"ro.board.platform": soc}),
    }


# Core numbers: Linux, arch/arm64/boot/dts/qcom/msm8998.dtsi. Both Kryo 280 are Qualcomm's (0x51) in
# cputype.h. No 'dotprod': it is Armv8.0.
GALAXY_S8 = Profile(
    name="galaxy-s8",
    release="9",
    properties=_properties("samsung", "SM-G950U", "dreamqltesq", "msm8998", "9", 28),
    kernel="4.4.153",
    cores=(Core(0x51, 0x801, 10, 1_900_800, 300_000),) * 4
    + (Core(0x51, 0x800, 10, 2_361_600, 300_000),) * 4,
    features="fp asimd evtstrm aes pmull sha1 sha2 crc32",
    emulated_cpu="cortex-a72",
    governor="interactive",
    temperatures=(Temperature("cpu0", 0, 41.2), Temperature("battery", 2, 30.1)),
    thermalservice=False,
    fixed_performance=False,
)

# Cortex-A510, A715 and X3 in cputype.h.
CURRENT = Profile(
    name="current",
    release="14",
    properties=_properties("Google", "Pixel 8", "shiba", "Tensor G3", "14", 34),
    kernel="5.15.137-android14-11",
    cores=(Core(0x41, 0xD46, 1, 1_704_000, 324_000),) * 4
    + (Core(0x41, 0xD4D, 1, 2_367_000, 402_000),) * 4
    + (Core(0x41, 0xD4E, 1, 2_914_000, 500_000),),
    features="fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt "
    "fcma lrcpc dcpop sha3 sm3 sm4 asimddp sha512 asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg "
    "dcpodp flagm2 frint i8mm bf16 bti",
    # The Armv9 of the three has no SME, which qemu's max would announce.
    emulated_cpu="max,sme=off,pauth-impdef=on",
    governor="sched_pixel",
    temperatures=(
        Temperature("BIG", 0, 43.5),
        Temperature("battery", 2, 29.8),
        Temperature("VIRTUAL-SKIN", 3, 31.4),
    ),
    thermalservice=True,
    fixed_performance=True,
    denied=("class/thermal", "class/power_supply"),
)

PROFILES = {profile.name: profile for profile in (GALAXY_S8, CURRENT)}
