"""The runtimes and precisions that latbench knows, by name."""

from enum import StrEnum

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
