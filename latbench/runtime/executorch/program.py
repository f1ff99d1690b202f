"""Read a .pte file's methods, inputs and outputs without ExecuTorch.

A program is a flatbuffer with one or more methods; executor_runner runs the first. A method that only returns
a constant can carry a description. The field numbers are those of ExecuTorch's schema/program.fbs, to which
fields are only ever added.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flatbuffers import number_types
from flatbuffers.table import Table

from latbench.errors import RuntimeFailed
from latbench.runtime.base import TensorInfo

#: The method of our programs that returns their metadata as JSON; the model is 'forward', the first method.
METADATA_METHOD = "latbench"

_FILE_IDENTIFIER = b"ET12"  # bytes 4 to 8

# Program and its execution plans, which are its methods.
_PLANS = 1
_NAME, _VALUES, _INPUTS, _OUTPUTS, _CHAINS = 0, 2, 3, 4, 5
_INSTRUCTIONS = 2
# Unions: their kind, and the field that holds it (the next one holds the value).
_KIND = 0
_TENSOR, _STRING = 5, 6
_KERNEL_CALL, _DELEGATE_CALL = 1, 2
# Tensors, and the element types that inputs may have.
_ELEMENT, _SIZES = 0, 2
_DTYPES = {
    0: "uint8",
    1: "int8",
    2: "int16",
    3: "int32",
    4: "int64",
    5: "float16",
    6: "float32",
    7: "float64",
    11: "bool",
}


@dataclass(frozen=True)
class PteMethod:
    """One method of a program.

    Attributes:
        inputs, outputs: its tensors, named by their position. A dynamic size is its upper bound.
        constants: the strings among its outputs.
        delegate_calls: how often a run calls a delegate.
        kernel_calls: how many ops run on ExecuTorch's own kernels.
    """

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    constants: tuple[str, ...]
    delegate_calls: int
    kernel_calls: int


def read_pte(path: Path) -> tuple[PteMethod, ...]:
    """Return the methods of the program in `path`; the first is the model.

    Raises:
        RuntimeFailed: it is not a program, is damaged, or has inputs that latbench cannot fill.
    """
    try:
        data = path.read_bytes()
        if data[4:8] != _FILE_IDENTIFIER:
            raise RuntimeFailed(f"{path} is not an ExecuTorch program")
        program = Table(data, struct.unpack_from("<I", data)[0])
        methods = tuple(_method(plan) for plan in _tables(program, _PLANS))
    except (struct.error, IndexError, ValueError, TypeError, OverflowError) as error:
        raise RuntimeFailed(f"{path} is a damaged ExecuTorch program: {error}") from None
    except OSError as error:
        raise RuntimeFailed(f"cannot read {path}: {error.strerror}") from None
    if not methods:
        raise RuntimeFailed(f"{path} is an ExecuTorch program without a method")
    return methods


def _method(plan: Table) -> PteMethod:
    values = list(_tables(plan, _VALUES))
    outputs = [values[index] for index in _integers(plan, _OUTPUTS)]
    called = [
        _union(instruction)[0]
        for chain in _tables(plan, _CHAINS)
        for instruction in _tables(chain, _INSTRUCTIONS)
    ]
    return PteMethod(
        name=_string(plan, _NAME),
        inputs=_tensors("input", [values[index] for index in _integers(plan, _INPUTS)]),
        outputs=_tensors("output", outputs),
        constants=tuple(
            _string(held, 0) for kind, held in map(_union, outputs) if kind == _STRING and held
        ),
        delegate_calls=called.count(_DELEGATE_CALL),
        kernel_calls=called.count(_KERNEL_CALL),
    )


def _tensors(name: str, values: list[Table]) -> tuple[TensorInfo, ...]:
    """The tensors among `values`; an input must be one."""
    found = []
    for position, (kind, held) in enumerate(map(_union, values)):
        if kind == _TENSOR and held is not None:
            element = _scalar(held, _ELEMENT, number_types.Int8Flags)
            if element not in _DTYPES:
                raise RuntimeFailed(
                    f"{name} {position} has an element type that latbench cannot fill"
                )
            sizes = tuple(_integers(held, _SIZES))
            found.append(TensorInfo(f"{name}{position}", sizes, _DTYPES[element]))
        elif name == "input":
            raise RuntimeFailed(f"input {position} is not a tensor, so latbench cannot fill it")
    return tuple(found)


# Flatbuffers


def _offset(table: Table, field: int) -> int:
    """The offset of a field in its table; 0 if it is absent."""
    return int(table.Offset(4 + 2 * field))


def _tables(table: Table, field: int) -> Iterator[Table]:
    offset = _offset(table, field)
    if offset:
        start = table.Vector(offset)
        for index in range(table.VectorLen(offset)):
            yield Table(table.Bytes, table.Indirect(start + 4 * index))


def _integers(table: Table, field: int) -> Iterator[int]:
    offset = _offset(table, field)
    if offset:
        start = table.Vector(offset)
        for index in range(table.VectorLen(offset)):
            yield int(table.Get(number_types.Int32Flags, start + 4 * index))


def _scalar(table: Table, field: int, kind: type) -> int:
    offset = _offset(table, field)
    return int(table.Get(kind, table.Pos + offset)) if offset else 0


def _string(table: Table, field: int) -> str:
    offset = _offset(table, field)
    if not offset:
        return ""
    start = table.Vector(offset)
    text = table.Bytes[start : start + table.VectorLen(offset)]
    if len(text) < table.VectorLen(offset):  # slices end where the file does
        raise IndexError("a string ends after the file")
    return bytes(text).decode()


def _union(table: Table) -> tuple[int, Table | None]:
    """The kind and the table of a union that is the only member of its table."""
    offset = _offset(table, _KIND + 1)
    kind = _scalar(table, _KIND, number_types.Uint8Flags)
    return kind, Table(table.Bytes, table.Indirect(table.Pos + offset)) if offset else None
