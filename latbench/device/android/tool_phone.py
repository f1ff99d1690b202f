"""A phone that is measured on by a program of the user, in place of the native runner.

The program is sent like a runner, with the libraries beside it, and started anew at every visit.
"""

import contextlib
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from latbench.device.android.adb.link import BACK, AdbLink, StreamLost, quote
from latbench.device.android.artifacts import FOLDER, send_program
from latbench.device.android.conditions import merged, query_services
from latbench.device.android.device import AndroidDevice
from latbench.device.android.sysfiles import PhoneFiles
from latbench.device.catalogue import CatalogueDevice
from latbench.device.conditions import Conditions
from latbench.device.linux import read_conditions
from latbench.device.protocol.client import RunnerClient
from latbench.device.tools.programs import Tool, Visit
from latbench.device.tools.transport import Ended, ToolTransport
from latbench.errors import DeviceLost, DeviceUnavailable
from latbench.target import Runtime

_CANNOT_START = (126, 127)  # POSIX shell: found but not executable here, not found
_RESULTS = f"{FOLDER}/results"
_PID = f"{FOLDER}/tool.pid"
_MARK = "latbench-exit="
_BOOT = "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
#: Ends a program that is left over from a lost host, unless the phone has restarted since.
_END_LEFTOVER = (
    f'{{ read -r old boot < {_PID} && [ "$boot" = "{_BOOT}" ] && kill -s KILL -- -$old; }} 2>/dev/null; '
    f"echo $$ {_BOOT} > {_PID}; rm -f {_RESULTS}-*"
)


class ToolPhone(AndroidDevice):
    """A phone as `AndroidDevice`, measured on by a program.

    Args:
        program: the program on this machine, built for the phone.

    Raises:
        As `AndroidDevice`.
    """

    def __init__(
        self,
        tool: Tool,
        program: Path,
        link: AdbLink,
        entry: CatalogueDevice,
        *,
        skip_identity_check: bool = False,
        prepare: bool = False,
    ) -> None:
        self._tool, self._program = tool, program
        self._local: dict[str, Path] = {}
        super().__init__(link, entry, skip_identity_check=skip_identity_check, prepare=prepare)

    def open_runner(self, max_seconds: int = 0) -> RunnerClient:
        """Return a runner that starts the program at every visit; `max_seconds` has no effect.

        Raises:
            DeviceUnavailable: the phone cannot be reached, or refuses the program.
        """
        self._started_by()
        return RunnerClient(ToolTransport(self._tool, self._program, self))

    def send(self, artifacts: Sequence[Path]) -> Mapping[Path, str]:
        """As `AndroidDevice.send`."""
        sent = super().send(artifacts)
        self._local |= {place: path for path, place in sent.items()}
        return sent

    def require_runtime(self, runtime: Runtime) -> None:
        """As `Tool.require_runtime`."""
        self._tool.require_runtime(runtime)

    def local(self, path: str) -> Path:
        """As `Bench.local`."""
        return self._local[path]

    def conditions(self) -> Conditions:
        """Read the state of the phone from its files and services. Raises DeviceLost."""
        with contextlib.suppress(TimeoutError):  # busy: unavailable this time
            seen = read_conditions(PhoneFiles.query(self._link, self._root))
            fingerprint = self._properties.get("ro.build.fingerprint")
            return merged(seen, query_services(self._link), fingerprint)
        return Conditions()

    def start(self, tool: Tool, visit: Visit, cores: Sequence[int], deadline: float) -> Ended:
        """As `Bench.start`; an interrupt also ends the program."""
        results = f"{_RESULTS}-{uuid4().hex}"
        words = [self._started_by(), *map(quote, tool.arguments(replace(visit, results=results)))]
        if cores:  # toybox accepts only a mask
            words.insert(0, f"taskset {sum(1 << core for core in cores):x}")
        command = (
            f"{_END_LEFTOVER}; {' '.join(words)} </dev/null 2>&1; code=$?; echo; echo {_MARK}$code; "
            f"cat {results} 2>/dev/null; rm -f {results} {_PID}"
        )
        output = bytearray()
        stream = self._link.open_stream(command)
        try:
            while True:
                output += stream.receive(deadline)
        except StreamLost:
            raise
        except EOFError:
            pass
        finally:
            stream.close(0.0)
        ended = re.fullmatch(
            rf"(.*?)\n{_MARK}(\d+)\r?\n(.*)", output.decode(errors="replace"), re.DOTALL
        )
        if ended is None:
            raise DeviceLost(f"{self._link.serial} hung up while {tool.name} ran", hint=BACK)
        printed, exit_code, written = ended[1], int(ended[2]), ended[3]
        if exit_code in _CANNOT_START:
            abi = self._properties.get("ro.product.cpu.abi", "unknown")
            raise DeviceUnavailable(
                f"{self._link.serial} cannot start {self._program}: {printed.strip()}",
                hint=f"build it for the phone's processor, {abi}, and put the libraries that it needs "
                "beside it",
            )
        return Ended(exit_code, printed, written)

    def _started_by(self) -> str:
        """The command that starts the program, which is sent first if necessary."""
        if self._command is None:
            self._command = self._sent_command()
        return self._command

    def _sent_command(self) -> str:
        """Send the program and its libraries; returns the command that starts it."""
        libraries = sorted(path for path in self._program.parent.glob("*.so*") if path.is_file())
        places = send_program(self._link, [self._program, *libraries])
        program = quote(places[self._program])
        if not libraries:
            return program
        folders = ":".join(posixpath.dirname(places[path]) for path in libraries)
        return f"env LD_LIBRARY_PATH={quote(folders)} {program}"
