"""Targets: everything a latency depends on besides the op.

A target is a device, a runtime, a precision, an accelerator, a number of threads and a core set.
LUTs, journals and predictions are each of one target; comparing two of them without saying so is
how latency tables come to lie.
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from latbench.errors import BadRequest, UnknownName


class Runtime(StrEnum):
    """The inference runtimes that artifacts are written for."""

    TFLITE = "tflite"
    ONNX = "onnx"
    TORCHSCRIPT = "torchscript"
    COREML = "coreml"
    EXECUTORCH = "executorch"

    @property
    def suffix(self) -> str:
        """The file name suffix of this runtime's artifacts, with its dot."""
        return {
            "tflite": ".tflite",
            "onnx": ".onnx",
            "torchscript": ".pt",
            "coreml": ".mlpackage.tar",
            "executorch": ".pte",
        }[self.value]

    @classmethod
    def named(cls, name: str) -> "Runtime":
        """Return the runtime called `name`.

        Raises:
            UnknownName: there is no such runtime.
        """
        try:
            return cls(name)
        except ValueError:
            raise UnknownName("runtime", name, tuple(cls)) from None


#: Those that this machine runs without an extra; Core ML runs on Apple's systems alone, and here on iPhones
#: alone.
HOST_RUNTIMES = (Runtime.TFLITE, Runtime.ONNX, Runtime.TORCHSCRIPT)

#: What Core ML may be told to run on: the processor alone, or it and GPU, Neural Engine, or both.
COREML_ACCELERATORS = ("cpu", "gpu", "npu", "all")


#: What those runtimes' artifacts are called that are written in fp32 alone.
_FP32_ONLY = {Runtime.COREML: "Core ML packages", Runtime.EXECUTORCH: "ExecuTorch programs"}


class Precision(StrEnum):
    """The number formats that artifacts compute in."""

    FP32 = "fp32"
    INT8 = "int8"

    @property
    def bytes(self) -> int:
        """Bytes of one weight or activation."""
        return {"fp32": 4, "int8": 1}[self.value]

    @classmethod
    def named(cls, name: str) -> "Precision":
        """Return the precision called `name`.

        Raises:
            UnknownName: there is no such precision.
        """
        try:
            return cls(name)
        except ValueError:
            raise UnknownName("precision", name, tuple(cls)) from None


def require_format(runtime: Runtime, precision: Precision) -> None:
    """Make sure that artifacts are written for `runtime` in `precision`.

    Raises:
        BadRequest: they are not: Core ML's and ExecuTorch's are of fp32 alone.
    """
    if runtime in _FP32_ONLY and precision is not Precision.FP32:
        raise BadRequest(
            f"{_FP32_ONLY[runtime]} are exported in fp32, not in {precision}",
            hint=f"choose --precision fp32, or --runtime tflite for {precision}",
        )


class Target(BaseModel):
    """One target. `cores` are CPU numbers; empty means the device's scheduler chooses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    runtime: Runtime
    precision: Precision
    accelerator: str = "cpu"
    threads: int = Field(default=1, ge=1)
    cores: tuple[int, ...] = ()

    def __str__(self) -> str:
        cores = f", core {','.join(map(str, self.cores))}" if self.cores else ""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return (
            f"{self.device}, {self.runtime} {self.precision} on {self.accelerator}, "
            f"{threads}{cores}"
        )

    @property
    def arguments(self) -> str:
        """The command-line options that name this target."""
        words = ["--device", self.device, "--runtime", self.runtime, "--precision", self.precision]
        if self.threads > 1:
            words += ["--threads", str(self.threads)]
        if self.cores:
            words += ["--cores", ",".join(map(str, self.cores))]
        if self.accelerator != "cpu":
            words += ["--accelerator", self.accelerator]
        return " ".join(words)

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
