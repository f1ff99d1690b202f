"""Options that several commands share, and the types that parse their values."""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from latbench.cli.completion import (
    complete_devices,
    complete_precisions,
    complete_runtimes,
    complete_spaces,
)
from latbench.errors import BadRequest
from latbench.runtime.formats import Precision, Runtime

if TYPE_CHECKING:
    from latbench.lut import Lut
    from latbench.space import SearchSpace
    from latbench.space.search_space import InputSize

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # generic since click 8.5 only

F = TypeVar("F", bound=Callable[..., Any])


class Parsed(_ParamType):
    """The type of an option whose value a function parses; its errors name the option.

    Args:
        name: what the value is, in one word.
        parse: text -> value; raises ValueError where the text is not `form`.
        form: what the text must be, with an example: "a duration like 90s, 10m or 1h".
    """

    def __init__(self, name: str, parse: Callable[[str], Any], form: str) -> None:
        self.name, self._parse, self._form = name, parse, form

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse what was typed; a value that is parsed already stays as it is."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError:
            what = self.name if param is None else max(param.opts, key=len)
            raise BadRequest(f"{what} must be {self._form}, got {value!r}") from None


def _matched(pattern: str, text: str) -> re.Match[str]:
    match = re.fullmatch(pattern, text.strip())
    if match is None:
        raise ValueError
    return match


def _share(text: str) -> float:
    match = _matched(r"(\d+(?:\.\d+)?)(%?)", text)
    share = float(match[1]) / (100 if match[2] else 1)
    if not 0 < share < 1:
        raise ValueError
    return share


def _seconds(text: str) -> float:
    match = _matched(r"(\d+(?:\.\d+)?)(s|m|h|)", text)
    seconds = float(match[1]) * {"h": 3600, "m": 60}.get(match[2], 1)
    if seconds <= 0:
        raise ValueError
    return seconds


def _cores(text: str) -> tuple[int, ...]:
    cores: list[int] = []
    for part in text.split(","):
        match = _matched(r"(\d{1,4})(?:-(\d{1,4}))?", part)
        numbers = range(int(match[1]), int(match[2] or match[1]) + 1)
        if not numbers:
            raise ValueError
        cores += numbers
    return tuple(dict.fromkeys(cores))


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(map(int, _matched(r"[1-9]\d{0,5}(?:x[1-9]\d{0,5})*", text)[0].split("x")))


def _input_size(text: str) -> "InputSize":
    match = _matched(r"(\d{1,6})(?:x(\d{1,6}))?", text)
    return (int(match[1]), int(match[2])) if match[2] else int(match[1])


def _path(text: str) -> Path:
    if not text.strip():
        raise ValueError
    return Path(text)


percentage = Parsed("percentage", _share, "between 0 and 100 %, like 1%")
duration = Parsed("duration", _seconds, "a duration like 90s, 10m or 1h")
core_list = Parsed("cores", _cores, "CPU numbers like 4,5 or 4-7")
shape = Parsed("shape", _sizes, "a shape like 1x3x224x224")
input_size = Parsed("size", _input_size, "one number or height x width, like 224 or 48x160")
output_path = Parsed("path", _path, "a file or folder to write")


def lut_file(path: str | Path) -> "Lut":
    """Read the LUT at `path`, or the shipped one of that file name, which a line on stderr says."""
    from latbench.lut import Lut
    from latbench.lut.find import find_lut

    found, note = find_lut(path)
    if note:
        click.echo(note, err=True)
    return Lut.load(found)


def runtime_name(name: str) -> Runtime:
    """The runtime of that name."""
    return Runtime.named(name)


def precision_name(name: str) -> Precision:
    """The precision of that name."""
    return Precision.named(name)


def table_format_name(name: str) -> str:
    """The name of a format of tables."""
    from latbench.lut.table import table_format

    return table_format(name).name


def interval_option(what: str) -> Callable[[F], F]:
    """Add `--ci`, the precision at which `what` is converged."""
    return click.option(
        "--ci",
        type=percentage,
        default="1%",
        show_default=True,
        help=f"Target half-width of the 95 % interval of {what}, relative.",
    )


def budget_option(default: str) -> Callable[[F], F]:
    """Add `--budget`, the time limit of a run."""
    return click.option(
        "--budget", type=duration, default=default, show_default=True, help="Time limit."
    )


def json_option(command: F) -> F:
    """Add `--json`, passed as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def space_options(command: F) -> F:
    """Add the options that select a search space; `read_space` builds it."""
    options = (
        click.option("--space", "space_name", metavar="NAME|FILE", shell_complete=complete_spaces,
                     help="Search space: a name of latbench space list, a space file (.toml), or a LUT of "
                     "the space.  [default: fbnet]"),
        click.option("--input", "input_size", type=input_size, metavar="PIXELS|HxW",
                     help="Input height and width, like 224 or 48x160.  [default: the space's own]"),
        click.option("--channels", type=click.IntRange(1), metavar="N",
                     help="Channels of the input.  [default: the space's own]"),
        click.option("--batch", type=click.IntRange(1), metavar="N",
                     help="Number of images that run together.  [default: 1]"),
        click.option("--width", type=float, metavar="FACTOR",
                     help="Channel multiplier.  [default: 1.0]"),
        click.option("--classes", type=int, metavar="N",
                     help="Number of classes.  [default: the space's own]"),
        click.option("--drop-first-1x1", is_flag=True,
                     help="Build e1 blocks without their first 1x1 convolution, like FBNet's 2020 "
                     "release."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def read_space(
    space_name: str | None,
    input_size: "InputSize | None",
    channels: int | None,
    batch: int | None,
    width: float | None,
    classes: int | None,
    drop_first_1x1: bool,
) -> "SearchSpace":
    """Return the search space that `space_options` selected."""
    from latbench.space import SearchSpace
    from latbench.space.shipped import DEFAULT_SPACE

    return SearchSpace.named(
        space_name or DEFAULT_SPACE,
        input_size=input_size,
        channels=channels,
        batch=1 if batch is None else batch,
        width=1.0 if width is None else width,
        classes=classes,
        keeps_first_1x1=not drop_first_1x1,
    )


def where_options(command: F) -> F:
    """Add the options that select a unit, passed as the `UnitSelector` `where`."""

    @functools.wraps(command)
    def called(
        *words: Any,
        unit: str | None,
        adb_server: str | None,
        skip_identity_check: bool,
        prepare: bool,
        address: str | None,
        runner: str | None,
        **rest: Any,
    ) -> Any:
        from latbench.device.registry import UnitSelector

        selector = UnitSelector(
            unit=unit,
            adb_server=adb_server,
            skip_identity_check=skip_identity_check,
            prepare=prepare,
            address=address,
            runner=runner,
        )
        return command(*words, where=selector, **rest)

    wrapped: Any = called
    for option in reversed((unit_option, adb_server_option, address_option, *_treatment)):
        wrapped = option(wrapped)
    return cast(F, wrapped)


def fleet_options(command: F) -> F:
    """As `where_options`, for one or several units of a device, passed as a tuple of selectors `where`."""

    @functools.wraps(command)
    def called(
        *words: Any,
        units: tuple[str, ...],
        adb_servers: tuple[str, ...],
        skip_identity_check: bool,
        prepare: bool,
        address: str | None,
        runner: str | None,
        **rest: Any,
    ) -> Any:
        from latbench.device.registry import unit_selectors

        selectors = unit_selectors(
            units,
            adb_servers,
            skip_identity_check=skip_identity_check,
            prepare=prepare,
            address=address,
            runner=runner,
        )
        return command(*words, where=selectors, **rest)

    options = (
        click.option("--unit", "units", multiple=True, metavar="SERIAL",
                     help="Phone, as adb devices lists it, HOST:PORT, or an iPhone's UDID. Repeat "
                     "it to share the work between several.  [default: the only one]"),
        click.option("--adb-server", "adb_servers", multiple=True, metavar="HOST:PORT",
                     help="adb server to use; can be repeated.  [default: this machine's]"),
        address_option,
        *_treatment,
    )  # fmt: skip
    wrapped: Any = called
    for option in reversed(options):
        wrapped = option(wrapped)
    return cast(F, wrapped)


def _accelerators() -> str:
    """The accelerators of each runtime that has some: 'gpu or npu (tflite), …'."""
    from latbench.runtime.registry import descriptor

    names = {runtime: descriptor(runtime).accelerators for runtime in Runtime}
    return ", ".join(
        f"{one_of([name for name in of_runtime if name != 'cpu'])} ({runtime})"
        for runtime, of_runtime in names.items()
        if set(of_runtime) > {"cpu"}
    )


def one_of(words: Sequence[str]) -> str:
    """'a', 'a or b', 'a, b or c'."""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def accelerator_options(command: F) -> F:
    """Add `--accelerator` and `--allow-partial`."""
    accelerator = click.option(
        "--accelerator",
        metavar="NAME",
        help=f"Accelerator: {_accelerators()}.  [default: cpu]",
    )
    allowed = click.option(
        "--allow-partial",
        is_flag=True,
        help="Also time models that the accelerator leaves to the CPU in part.",
    )
    return accelerator(allowed(command))


_treatment = (
    click.option("--as", "skip_identity_check", is_flag=True,
                 help="Skip the device identity check: measure the phone as --device."),
    click.option("--prepare", is_flag=True,
                 help="Make the phone's clocks steadier (fixed-performance mode, dim screen), and "
                 "restore its settings afterwards."),
    click.option("--runner", metavar="NAME[=FILE]",
                 help="Program that times the models: benchmark_model, onnxruntime_perf_test, "
                 "speed_benchmark_torch or executor_runner; on this machine also native.  "
                 "[default: latbench's own]"),
)  # fmt: skip


def unit_option(command: F) -> F:
    """Add `--unit`."""
    return click.option(
        "--unit",
        metavar="SERIAL",
        help="Phone, as adb devices lists it, HOST:PORT, or an iPhone's UDID.  "
        "[default: the only one]",
    )(command)


def address_option(command: F) -> F:
    """Add `--address`."""
    return click.option(
        "--address",
        metavar="HOST:PORT",
        help="Address of an iPhone on Wi-Fi, as its companion app shows it.  [default: on USB]",
    )(command)


def adb_server_option(command: F) -> F:
    """Add `--adb-server`."""
    return click.option(
        "--adb-server",
        metavar="HOST:PORT",
        help="adb server to use.  [default: this machine's]",
    )(command)


def target_options(command: F) -> F:
    """Add the options that select device, runtime, precision, threads and cores."""
    options = (
        click.option("--device", "device_name", default="host", show_default=True,
                     shell_complete=complete_devices,
                     help="Device of the catalogue; latbench devices lists them."),
        click.option("--runtime", type=runtime_name, metavar="NAME",
                     shell_complete=complete_runtimes,
                     help=f"Runtime: {one_of(list(Runtime))}.  [default: the device's]"),
        click.option("--precision", type=precision_name, metavar="NAME",
                     shell_complete=complete_precisions,
                     help=f"Precision: {one_of(list(Precision))}.  [default: the device's]"),
        click.option("--threads", type=click.IntRange(1, 256), metavar="N",
                     help="Number of inference threads.  [default: the device's]"),
        click.option("--cores", type=core_list, metavar="LIST",
                     help="CPU cores to pin to, like 4,5 or 4-7.  [default: the fastest free ones]"),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command
