"""Targets: everything a latency depends on besides the op.

A target is a device, a runtime, a precision, an accelerator, a number of threads and a core set. LUTs,
journals and predictions belong to one target each; comparing latencies of different targets is an error
unless the user asks for it.
"""

from pydantic import Field

from latbench.record import Integer, Record
from latbench.runtime.formats import Precision, Runtime
from latbench.wording import count_of

__all__ = ["Precision", "Runtime", "Target"]


class Target(Record):
    """One target. `cores` are CPU numbers; empty means the device's scheduler chooses."""

    device: str
    runtime: Runtime
    precision: Precision
    accelerator: str = "cpu"
    threads: Integer = Field(default=1, ge=1)
    cores: tuple[Integer, ...] = ()

    def __str__(self) -> str:
        text = f"{self.device}, {self.runtime} {self.precision} on {self.accelerator}"
        text += f", {count_of(self.threads, 'thread')}"
        if self.cores:
            core = "core" if len(self.cores) == 1 else "cores"
            text += f", {core} {','.join(map(str, self.cores))}"
        return text

    @property
    def arguments(self) -> str:
        """The command-line options that name this target."""
        options = ["--device", self.device, "--runtime", self.runtime]
        options += ["--precision", self.precision]
        if self.threads > 1:
            options += ["--threads", str(self.threads)]
        if self.cores:
            options += ["--cores", ",".join(map(str, self.cores))]
        if self.accelerator != "cpu":
            options += ["--accelerator", self.accelerator]
        return " ".join(options)

    def file_stem(self, default_runtime: Runtime, default_precision: Precision) -> str:
        """The name of this target's LUT file: `<device>[-<runtime>-<precision>][-<accelerator>][-t<n>]`.

        Runtime and precision are named unless they are both the device's defaults.
        """
        parts = [self.device]
        if (self.runtime, self.precision) != (default_runtime, default_precision):
            parts += [self.runtime.value, self.precision.value]
        if self.accelerator != "cpu":
            parts.append(self.accelerator)
        if self.threads > 1:
            parts.append(f"t{self.threads}")
        return "-".join(parts)
