"""One list of device kinds decides how units are opened, listed and cleaned, and which options apply."""

import subprocess
import sys
from dataclasses import fields

import pytest
from click.testing import CliRunner

from latbench.cli import main
from latbench.device import registry
from latbench.device.catalogue import CatalogueDevice, load_catalogue
from latbench.device.host.device import HostDevice
from latbench.device.opener import AttachedUnit, CleanedUnit, DeviceOpener
from latbench.device.registry import (
    OPENERS,
    UnitSelector,
    attached_units,
    clean_unit,
    open_device,
    open_devices,
    unit_selectors,
)
from latbench.device.selector import option_of
from latbench.errors import BadRequest, DeviceUnavailable

#: A value for each field of a selector, other than its default.
VALUES = {
    "unit": "R58J",
    "adb_server": "127.0.0.1:1",
    "skip_identity_check": True,
    "prepare": True,
    "address": "127.0.0.1:1",
    "runner": "native",
}


def measurable() -> list[CatalogueDevice]:
    return [
        entry
        for entry in load_catalogue().values()
        if any(opener.opens(entry) for opener in OPENERS)
    ]


def test_a_device_is_of_one_kind_at_most() -> None:
    kinds = {
        entry.name: [opener.kind for opener in OPENERS if opener.opens(entry)]
        for entry in load_catalogue().values()
    }
    assert {len(found) for found in kinds.values()} == {0, 1}
    assert (kinds["host"], kinds["galaxy-s8"]) == (["this machine"], ["Android phones"])
    assert (kinds["iphonex"], kinds["raspberry-pi-5"]) == (["iPhones"], [])


def test_every_field_of_a_selector_is_an_option_of_some_device() -> None:
    assert set(VALUES) == {field.name for field in fields(UnitSelector)}
    usage = CliRunner().invoke(main, ["profile", "--help"]).output
    for field in VALUES:
        assert option_of(field) in usage.split()
        assert any(opener.takes(field) for opener in OPENERS)


def test_the_help_names_every_runner() -> None:
    usage = " ".join(CliRunner().invoke(main, ["profile", "--help"]).output.split())
    for name in {name for opener in OPENERS for name in opener.runners}:
        assert name in usage


@pytest.mark.parametrize("field", VALUES)
@pytest.mark.parametrize("device", ["host", "galaxy-s8", "iphonex"])
def test_an_option_that_does_not_apply_is_refused_by_its_name(device: str, field: str) -> None:
    (entry,) = (entry for entry in measurable() if entry.name == device)
    (opener,) = (opener for opener in OPENERS if opener.opens(entry))
    selector = UnitSelector(**{field: VALUES[field]})
    assert selector.given == (field,)
    if opener.takes(field):
        return
    with pytest.raises(BadRequest) as refused:
        open_device(device, selector)
    others = " and ".join(other.kind for other in OPENERS if other.takes(field))
    option = option_of(field)
    assert refused.value.message == f"{option} is for {others}, not for {device}"
    assert refused.value.hint == f"leave out {option}"


def test_what_applies_to_which_kind() -> None:
    taken = {opener.kind: {field for field in VALUES if opener.takes(field)} for opener in OPENERS}
    assert taken == {
        "this machine": {"runner"},
        "Android phones": {"unit", "adb_server", "skip_identity_check", "prepare", "runner"},
        "iPhones": {"unit", "skip_identity_check", "address"},
    }


def test_all_wrong_options_are_named_at_once() -> None:
    with pytest.raises(BadRequest) as refused:
        open_device("iphonex", UnitSelector(adb_server="127.0.0.1:1", prepare=True))
    assert refused.value.message == (
        "--adb-server is for Android phones, not for iphonex; "
        "--prepare is for Android phones, not for iphonex"
    )
    assert refused.value.hint == "leave out --adb-server and --prepare"


def test_an_unknown_runner_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(BadRequest, match="unknown runner 'stopwatch' for host") as refused:
        open_device("host", UnitSelector(runner="stopwatch"))
    assert "native, benchmark_model" in str(refused.value.hint)
    with pytest.raises(BadRequest, match="unknown runner 'native' for galaxy-s8"):
        open_device("galaxy-s8", UnitSelector(runner="native=/bin/true"))


def test_a_board_that_nothing_reaches_says_what_can_be_measured() -> None:
    with pytest.raises(DeviceUnavailable) as refused:
        open_device("raspberry-pi-5")
    assert refused.value.message.endswith(
        "latbench measures on this machine, Android phones and iPhones"
    )
    assert "--device host" in str(refused.value.hint)


def test_only_what_can_be_cleaned_is() -> None:
    with pytest.raises(BadRequest, match="cannot clean a unit selected by --address"):
        clean_unit(UnitSelector(address="127.0.0.1:1"))
    with pytest.raises(DeviceUnavailable, match=r"no adb server answers at 127\.0\.0\.1:1"):
        clean_unit(UnitSelector(adb_server="127.0.0.1:1"))


def test_selectors_share_all_options_but_the_unit() -> None:
    assert unit_selectors([], []) == (UnitSelector(),)
    assert unit_selectors(["a", "b"], ["s:1"], prepare=True, runner="x=y") == tuple(
        UnitSelector(unit=unit, adb_server="s:1", prepare=True, runner="x=y") for unit in "ab"
    )
    assert unit_selectors([], ["s:1", "s:2"], skip_identity_check=True, address="h:1") == tuple(
        UnitSelector(adb_server=server, skip_identity_check=True, address="h:1")
        for server in ("s:1", "s:2")
    )
    for twice in ((["a", "a"], []), ([], ["s:1", "s:1"])):
        with pytest.raises(BadRequest, match="is given twice"):
            unit_selectors(*twice)


def test_a_new_kind_of_device_is_one_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, UnitSelector]] = []

    def open_board(entry: CatalogueDevice, selector: UnitSelector) -> HostDevice:
        opened.append((entry.name, selector))
        return HostDevice()

    def clean_board(selector: UnitSelector) -> CleanedUnit | None:
        known = str(selector.unit).startswith("board://")
        return CleanedUnit(str(selector.unit), 7) if known else None

    boards = DeviceOpener(
        kind="boards",
        opens=lambda entry: entry.kind == "board",
        open=open_board,
        options=frozenset({"unit"}),
        runners=("stopwatch",),
        attached=lambda: [AttachedUnit("raspberry-pi-5", "board://a", "a board", "ready", True)],
        clean=clean_board,
    )
    monkeypatch.setattr(registry, "OPENERS", (boards, *OPENERS))
    selector = UnitSelector(unit="board://a", runner="stopwatch=/bin/true")
    open_device("raspberry-pi-5", selector).close()
    assert opened == [("raspberry-pi-5", selector)]
    assert attached_units()[0].unit == "board://a"
    assert clean_unit(UnitSelector(unit="board://a")) == ("board://a", 7)
    with pytest.raises(DeviceUnavailable, match="no adb server answers"):
        clean_unit(UnitSelector(unit="R58J", adb_server="127.0.0.1:1"))
    with pytest.raises(BadRequest) as refused:
        open_device("host", UnitSelector(unit="R58J"))
    assert refused.value.message == (
        "--unit is for boards, Android phones and iPhones, not for host"
    )
    with pytest.raises(BadRequest, match="--prepare is for Android phones, not for raspberry-pi-5"):
        open_device("raspberry-pi-5", UnitSelector(prepare=True))
    with pytest.raises(BadRequest, match="unknown runner 'native' for raspberry-pi-5"):
        open_device("raspberry-pi-5", UnitSelector(runner="native"))


def test_units_are_released_where_a_later_one_cannot_be_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Board(HostDevice):
        def close(self) -> None:
            closed.append(self)

    closed: list[HostDevice] = []
    made: list[HostDevice] = []

    def open_board(entry: CatalogueDevice, selector: UnitSelector) -> HostDevice:
        if selector.unit == "board://gone":
            raise DeviceUnavailable("it is gone")
        made.append(Board())
        return made[-1]

    boards = DeviceOpener(
        kind="boards",
        opens=lambda entry: entry.kind == "board",
        open=open_board,
        options=frozenset({"unit"}),
        runners=(),
        attached=list,
    )
    monkeypatch.setattr(registry, "OPENERS", (boards,))
    selectors = [UnitSelector(unit=f"board://{name}") for name in ("a", "b", "gone", "c")]
    with pytest.raises(DeviceUnavailable, match="it is gone"):
        open_devices("raspberry-pi-5", selectors)
    assert closed == made
    assert len(made) == 2


def test_the_registry_imports_no_driver() -> None:
    code = "import sys, latbench.device.registry; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"adbutils", "adb_shell", "numpy", "psutil", "torch"} & set(loaded)
