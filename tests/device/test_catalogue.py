"""The catalogue: every shipped device is coherent, names are found, users' files are checked."""

import re
from pathlib import Path

import pytest

from latbench.device.catalogue import (
    CatalogueDevice,
    find_device,
    load_catalogue,
    recognise,
    require_runtime,
)
from latbench.device.host.device import HostDevice
from latbench.device.registry import open_device
from latbench.errors import BadRequest, DeviceUnavailable, UnknownName
from latbench.files import home
from latbench.target import Precision, Runtime
from latbench.workflows.target import TargetRequest, open_target

SHIPPED = sorted(path.stem for path in (Path(__file__).parents[2] / "devices").glob("*.toml"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in an empty folder, as a user is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / "devices" / f"{name}.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def described(name: str, more: str = "") -> str:
    return f'name = "{name}"\ntitle = "T"\nkind = "phone"\nos = "android"\n{more}'


def test_what_is_shipped_is_what_is_found() -> None:
    assert sorted(load_catalogue()) == SHIPPED
    assert {"host", "galaxy-s8", "iphonex"} <= set(SHIPPED)
    assert len(SHIPPED) >= 9


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_device_is_coherent(name: str) -> None:
    device = load_catalogue()[name]
    assert find_device(name) == device
    if device.kind == "host":
        return
    assert device.soc
    assert device.released
    assert device.clusters
    assert device.recognise, "a unit of it could never be told"
    cores = [core for cluster in device.clusters for core in cluster.cores]
    if cores:
        assert sorted(cores) == list(range(sum(cluster.count for cluster in device.clusters)))
        assert device.defaults.cores, "what is not said here is chosen by the scheduler"
    if device.os == "ios":
        assert not cores, "iOS gives cores no numbers"
    peaks = [cluster.peak_mhz for cluster in device.clusters if cluster.peak_mhz]
    assert peaks == sorted(peaks), "clusters go from slow to fast"
    # The default core is of the fastest cluster.
    assert set(device.defaults.cores) <= set(device.clusters[-1].cores)


def test_names_patterns_and_aliases_tell_devices_apart() -> None:
    catalogue = load_catalogue()
    names = [*catalogue, *(alias for one in catalogue.values() for alias in one.answers_to)]
    assert len(names) == len(set(names))
    marks = [
        (key, pattern)
        for one in catalogue.values()
        for key, patterns in one.recognise.items()
        for pattern in patterns
    ]
    assert len(marks) == len(set(marks))


def test_clusters_in_a_line() -> None:
    summary = find_device("galaxy-s8").core_summary
    assert re.fullmatch(r"4x .*A73.* 2\.35 GHz \+ 4x .*A53.* 1\.90 GHz", summary)


@pytest.mark.parametrize(
    ("typed", "name"),
    [("Galaxy-S8", "galaxy-s8"), ("iphone-x", "iphonex"), ("RPI5", "raspberry-pi-5")],
)
def test_aliases_and_case(typed: str, name: str) -> None:
    assert find_device(typed).name == name


def test_an_unknown_name_brings_the_nearest() -> None:
    with pytest.raises(UnknownName) as raised:
        find_device("galaxy-s9")
    assert "galaxy-s8" in raised.value.nearest
    with pytest.raises(UnknownName):
        open_device("toaster")


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        ({"ro.product.model": "SM-G950U1"}, "galaxy-s8"),
        ({"ro.product.model": "SM-G950F"}, "galaxy-s8-exynos"),
        ({"ro.product.model": "Pixel 4", "ro.build.version.release": "13"}, "pixel-4"),
        ({"ro.product.device": "cepheus", "ro.product.model": "Mi 9 (custom)"}, "xiaomi-mi-9"),
        ({"ProductType": "iPhone10,6"}, "iphonex"),
        ({"devicetree.model": "Raspberry Pi 4 Model B Rev 1.5"}, "raspberry-pi-4"),
        ({"ro.product.model": "Pixel 40"}, None),
        ({"ProductType": "SM-G950U1"}, None),
        ({}, None),
    ],
)
def test_units_are_recognised(properties: dict[str, str], name: str | None) -> None:
    device = recognise(properties)
    assert (device.name if device else None) == name


def test_a_users_file_adds_and_replaces(elsewhere: Path) -> None:
    write(home(), "my-phone", described("my-phone", 'answers_to = ["old"]'))
    write(home(), "galaxy-s8", described("galaxy-s8"))
    assert find_device("old").name == "my-phone"
    assert find_device("galaxy-s8").title == "T"
    write(elsewhere, "my-phone", described("my-phone").replace('"T"', '"Nearer"'))
    assert find_device("my-phone").title == "Nearer"
    assert len(load_catalogue()) == len(SHIPPED) + 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name = ", "is not valid TOML"),
        ('name = "mine"\n', "title: Field required"),
        (described("mine", "colour = 'red'"), "colour: Extra inputs"),
        (described("mine").replace("phone", "toaster"), "kind: Input should be"),
        (described("other"), "the name is 'other', but the file is called mine.toml"),
        (described("mine", "[[clusters]]\nname = 'A'\ncount = 0"), "clusters.0.count"),
        (described("mine", "[[clusters]]\nname = 'A'\ncount = 2\ncores = [1]"), "count is 2"),
        (
            described("mine", "[[clusters]]\nname = 'A'\ncount = 1\ncores = [1]\n" * 2),
            "a core is in two clusters",
        ),
        (described("mine", "[[clusters]]\nname = 'A'\ncount = true"), "clusters.0.count"),
        (
            described("mine", "[[clusters]]\nname = 'A'\ncount = 1\ncores = [false]"),
            "clusters.0.cores.0",
        ),
        (described("mine", "released = true"), "released: Input should be a valid integer"),
        (described("mine", "[defaults]\nthreads = true"), "defaults.threads"),
        (
            described("mine", "[peak]\nfp32_gflops = true\nsource = 'the data sheet'"),
            "peak.fp32_gflops: Input should be a valid number",
        ),
        (described("mine", "[peak]\nfp32_gflops = 3"), "peak.source: Field required"),
        (described("mine", "[defaults]\nruntime = 'caffe'"), "defaults.runtime"),
        (
            described("mine", "[defaults]\nthreads = 2\ncores = [1]"),
            "threads exceeds the number",
        ),
    ],
)
def test_a_broken_file_is_named_with_its_field(elsewhere: Path, text: str, problem: str) -> None:
    path = write(elsewhere, "mine", text)
    with pytest.raises(BadRequest) as raised:
        load_catalogue()
    reported = "\n".join([raised.value.message, *raised.value.details])
    assert str(path) in reported
    assert problem in reported
    assert raised.value.exit_code == 2


def test_bytes_that_are_no_text_are_refused(elsewhere: Path) -> None:
    write(elsewhere, "mine", "").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(BadRequest, match=r"mine\.toml is not valid TOML"):
        load_catalogue()


def test_defaults_are_of_the_vocabulary() -> None:
    defaults = find_device("host").defaults
    assert (defaults.runtime, defaults.precision) == (Runtime.TFLITE, Precision.FP32)
    assert defaults.threads == 1


def test_the_host_opens() -> None:
    assert isinstance(open_device("host"), HostDevice)
    assert isinstance(open_device("localhost"), HostDevice)


@pytest.mark.parametrize(
    "device", [name for name in SHIPPED if find_device(name).os in ("linux", "ios")]
)
def test_devices_that_cannot_be_measured_say_what_can(device: str) -> None:
    with pytest.raises(DeviceUnavailable, match=f"cannot measure on {device}") as raised:
        open_device(device)
    assert "--device host" in str(raised.value.hint)


@pytest.mark.parametrize("device", [name for name in SHIPPED if find_device(name).os != "ios"])
def test_core_ml_is_of_iphones_alone(device: str) -> None:
    with pytest.raises(
        BadRequest, match=f"Core ML does not run on {device}: it runs on iOS"
    ) as raised:
        open_target(TargetRequest(device=device, runtime=Runtime.COREML))
    assert "--runtime tflite or onnx" in str(raised.value.hint)
    with pytest.raises(UnknownName, match="unknown accelerator 'nnapi'"):
        require_runtime(find_device("iphonex"), Runtime.COREML, Precision.FP32, "nnapi")
    require_runtime(find_device("iphonex"), Runtime.COREML, Precision.FP32, "all")


@pytest.mark.parametrize("device", ["iphonex"])
def test_executorch_is_not_of_iphones(device: str) -> None:
    with pytest.raises(
        BadRequest, match=f"ExecuTorch does not run on {device}: it runs on Android"
    ):
        open_target(TargetRequest(device=device, runtime=Runtime.EXECUTORCH))
    with pytest.raises(BadRequest, match="ExecuTorch programs are exported in fp32, not in int8"):
        open_target(
            TargetRequest(device="galaxy-s8", runtime=Runtime.EXECUTORCH, precision=Precision.INT8)
        )


def test_no_other_devices_default_is_core_ml(elsewhere: Path) -> None:
    text = 'name = "mine"\ntitle = "Mine"\nkind = "phone"\nos = "ios"\n[defaults]\nruntime = "coreml"\n'
    write(elsewhere, "mine", text)
    assert find_device("mine").defaults.runtime is Runtime.COREML
    write(elsewhere, "mine", text.replace('"ios"', '"android"'))
    with pytest.raises(BadRequest) as raised:
        load_catalogue()
    assert "defaults.runtime coreml needs os to be ios" in str(raised.value.details)
    write(elsewhere, "mine", text.replace('"coreml"', '"executorch"'))
    with pytest.raises(BadRequest) as raised:
        load_catalogue()
    assert "defaults.runtime executorch needs os to be android or" in str(raised.value.details)


def test_a_device_is_data() -> None:
    device = find_device("pixel-6")
    assert CatalogueDevice.model_validate(device.model_dump()) == device
