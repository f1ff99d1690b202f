"""The choice of a unit and its hints; quoting for a unit's shell."""

import re
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latbench.device.android.adb.link import parse_properties, quote
from latbench.device.android.adb.server import AdbUnit, choose_unit
from latbench.errors import BadRequest, DeviceUnavailable, LatbenchError

READY = AdbUnit("R58J", "device", {"ro.product.model": "SM-G950U"})
OTHER = AdbUnit("9A1B", "device", {"ro.product.model": "Pixel 8"})


@pytest.mark.parametrize(
    ("found", "serial", "chosen"),
    [
        ([READY], None, READY),
        ([READY, OTHER], "9A1B", OTHER),
        ([AdbUnit("X", "offline", {}), READY], None, READY),
    ],
)
def test_a_unit_is_chosen(found: list[AdbUnit], serial: str | None, chosen: AdbUnit) -> None:
    assert choose_unit(found, serial) is chosen


@pytest.mark.parametrize(
    ("found", "serial", "kind", "message", "hint"),
    [
        ([], None, DeviceUnavailable, "no phone is attached", "USB debugging"),
        ([], "R58J", DeviceUnavailable, "R58J", "USB debugging"),
        ([READY, OTHER], None, BadRequest, "2 phones are ready", "--unit R58J"),
        ([READY], "9A1B", BadRequest, "no phone '9A1B'", "--unit R58J"),
        (
            [("X", "unauthorized")],
            None,
            DeviceUnavailable,
            "X has not authorised",
            "allow USB debugging",
        ),
        ([("X", "offline")], None, DeviceUnavailable, "does not answer", "plug it in again"),
        (
            [("X", "no permissions; see [http]")],
            "X",
            DeviceUnavailable,
            "no permission to use it",
            "udev",
        ),
        ([("X", "bootloader")], "X", DeviceUnavailable, "bootloader", "fastboot reboot"),
        ([("X", "rescue")], "X", DeviceUnavailable, "state 'rescue'", "restart it"),
        ([("X", "offline"), ("Y", "offline")], None, DeviceUnavailable, "none is ready", "--unit"),
    ],
)
def test_why_no_unit_can_be_chosen(
    found: list[AdbUnit | tuple[str, str]],
    serial: str | None,
    kind: type[LatbenchError],
    message: str,
    hint: str,
) -> None:
    listed = [one if isinstance(one, AdbUnit) else AdbUnit(*one, {}) for one in found]
    with pytest.raises(kind, match=re.escape(message)) as error:
        choose_unit(listed, serial)
    assert type(error.value) is kind
    assert hint in str(error.value.hint)


@pytest.mark.parametrize("shell", ["sh", "mksh"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.lists(st.text(st.characters(exclude_characters="\0")), min_size=1, max_size=20))
def test_quoted_text_stays_one_word(shell: str, texts: list[str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    wanted = [text.encode(errors="surrogatepass") for text in texts]
    words = b" ".join(quote(text).encode(errors="surrogatepass") for text in texts)
    output = subprocess.run(
        [shell, "-c", b"printf '%s\\0' " + words], capture_output=True, check=True
    ).stdout
    assert output.split(b"\0")[:-1] == wanted


def test_a_nul_cannot_be_quoted() -> None:
    with pytest.raises(ValueError, match="NUL"):
        quote("a\0b")


def test_properties_may_run_over_lines() -> None:
    text = "[a.b]: [1]\r\n[empty]: []\n[odd]: [x]: [y]\n[two]: [first\nsecond]\n[last]: [z]\n"
    assert parse_properties(text) == {
        "a.b": "1",
        "empty": "",
        "odd": "x]: [y",
        "two": "first\nsecond",
        "last": "z",
    }
