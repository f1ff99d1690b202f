"""An iPhone for tests: the companion app without its shell, behind the usbmuxd stand-in.

It is the app's own C, started as the app starts it: it listens, and wants the token. Its engines are those
of this machine and its times are this machine's, so it says that it is emulated.
"""

import atexit
import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib import metadata, util
from pathlib import Path
from types import TracebackType
from typing import Self

from latbench.device.ios.link import PORT
from tests.rigs.usbmuxd import PluggedPhone, UsbmuxStandIn

SOURCE = Path(__file__).parents[2] / "runner" / "ios"
TOKEN = "ABCD-EFGH-JKMN-PQRS"
UDID = "0123456789abcdef0123456789abcdef01234567"
#: The catalogue's entry of it, for latbench's home; no such device is shipped.
DEVICE = """name = "iphonex-rig"
title = "The companion app on this machine"
kind = "phone"
os = "ios"
[recognise]
ProductType = ["Rig10,3"]
"""


def build_companion(
    folder: Path, *options: str, target: str = "all", compiler: str | None = None
) -> Path:
    """Build the companion app without its shell into `folder`; returns the program."""
    environment = os.environ | ({"CC": compiler} if compiler else {})
    for command in (
        ["cmake", "-S", str(SOURCE), "-B", str(folder), *options],
        [
            *("cmake", "--build", str(folder), "--target", target),
            *("--parallel", str(len(os.sched_getaffinity(0)))),
        ],
    ):
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return folder / "latbench-companion"


@functools.cache
def built(*, sanitized: bool = False) -> Path:
    """The program, built once a process; sanitized: by clang, with sanitizers and the fuzzers beside it."""
    folder = Path(tempfile.mkdtemp(prefix="latbench-companion-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if not sanitized:
        return build_companion(folder, "-DCMAKE_BUILD_TYPE=Release", target="latbench-companion")
    options = ("-DLATBENCH_SANITIZE=ON", "-DCMAKE_BUILD_TYPE=RelWithDebInfo")
    return build_companion(folder, *options, compiler=shutil.which("clang"))


def can_build() -> bool:
    """Whether there is what building it takes."""
    return shutil.which("cmake") is not None and shutil.which("cc") is not None


class IosPhone:
    """A running companion app, plugged into a stand-in; a context manager.

    Attributes:
        plug: what the stand-in knows of it; its cable may be cut.
        cache: the folder of its artifacts.
    """

    def __init__(
        self,
        program: Path,
        folder: Path,
        muxd: UsbmuxStandIn,
        *,
        udid: str = UDID,
        model: str = "Rig10,3",
    ) -> None:
        self._program, self._folder, self._muxd, self._model = program, folder, muxd, model
        folder.mkdir(parents=True, exist_ok=True)
        self.cache = folder / "artifacts"
        self.plug = PluggedPhone(
            udid, {"ProductType": model, "ProductVersion": "16.7.10", "DeviceName": "Rig"}
        )
        self._process: subprocess.Popen[str] | None = None
        self.stderr = folder / "stderr"
        self.open_app()
        muxd.plug(self.plug)

    @property
    def port(self) -> int:
        """The port of this machine that the app listens at."""
        return self.plug.ports[PORT]

    def open_app(self) -> None:
        """Start the app, if it does not run."""
        with self.stderr.open("ab") as log:
            process = subprocess.Popen(
                [
                    *(str(self._program), "--port", "0", "--token", TOKEN, "--model", self._model),
                    *("--cache", str(self.cache), "--state", str(self._folder / "state")),
                    *("--unit", "RIG-UNIT", "--os-version", "16.7.10", *engine_options()),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert process.stdout is not None
        said = process.stdout.readline()
        match = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", said)
        assert match, said or self.stderr.read_text()
        self.plug.ports[PORT] = int(match[1])
        self._process = process

    def kill_app(self) -> None:
        """End the app as iOS ends one, from one moment to the next."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def is_running(self) -> bool:
        """Whether the app still runs."""
        return self._process is not None and self._process.poll() is None

    def set_state(self, **words: int) -> None:
        """Say what iOS tells the app from now on: active, thermal, low_power, battery, charging."""
        new = self._folder / "state.new"
        new.write_text("".join(f"{word} {value}\n" for word, value in words.items()))
        new.rename(self._folder / "state")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._muxd.unplug(self.plug)
        self.kill_app()


def engine_options() -> Sequence[str]:
    """The options that name the engines of the installed wheels."""
    options: list[str] = []
    for option, package, pattern in (
        ("--onnxruntime", "onnxruntime", "capi/libonnxruntime.so.*"),
        ("--litert", "ai_edge_litert", "libLiteRt.so"),
    ):
        spec = util.find_spec(package)
        if spec is not None and spec.origin is not None:
            for library in sorted(Path(spec.origin).parent.glob(pattern)):
                options += [option, str(library)]
    return [*options, "--litert-version", metadata.version("ai-edge-litert")]
