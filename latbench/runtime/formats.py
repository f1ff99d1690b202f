"""The names of runtimes and precisions.

`Runtime` is the list of runtimes: a member NAME is described by `latbench/runtime/<name>/__init__.py`
(`latbench.runtime.descriptor`), and nothing else lists them.
"""

from enum import StrEnum

from latbench.errors import UnknownName


class Runtime(StrEnum):
    """The inference runtimes that artifacts are written for."""

    TFLITE = "tflite"
    ONNX = "onnx"
    TORCHSCRIPT = "torchscript"
    COREML = "coreml"
    EXECUTORCH = "executorch"
    NCNN = "ncnn"

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


class Precision(StrEnum):
    """The number formats of artifacts; `RuntimeDescriptor.arithmetic` has those that are only stored."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"

    @property
    def bytes(self) -> int:
        """Bytes of one weight or activation."""
        return {"fp32": 4, "fp16": 2, "int8": 1}[self.value]

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
