"""Write a graph as a Core ML package for iPhones: an optional extra, `pip install latbench[coreml]`.

coremltools' builder makes an ML program, one op per node, in 32-bit floats or, as Core ML's own converters
do by default, in 16-bit floats between 32-bit ends; the precision that Core ML then computes in is its own
choice. On Linux coremltools writes and reads packages but cannot run them: checking
numerics needs a Mac. A package is a folder; it is stored, and sent to the companion app, as one tar file.
"""

import contextlib
import importlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from latbench.errors import ExportFailed
from latbench.graph.nodes import (
    Activate,
    Activation,
    Add,
    Concat,
    Conv,
    Ending,
    GlobalPool,
    Graph,
    Linear,
    Mul,
    Node,
    Pool,
    Reshape,
    Shuffle,
    Slice,
    entry_of,
)
from latbench.runtime.coreml import DESCRIPTOR
from latbench.runtime.coreml.metadata import read_specification

_EXTRA = "pip install latbench[coreml]"


def require_coremltools() -> None:
    """Check that packages can be written here.

    Raises:
        ExportFailed: coremltools is not installed.
    """
    if find_spec("coremltools") is None:
        raise ExportFailed(
            "exporting Core ML packages needs coremltools, which is not installed", hint=_EXTRA
        )


def write_coreml(graph: Graph, metadata: dict[str, Any], *, half: bool = False) -> bytes:
    """Return the package of `graph` as the bytes of a POSIX tar file without times and owners.

    The input is called 'input' and the output 'output', NCHW, 32-bit floats. `metadata` is
    stored in the model's user-defined metadata under 'latbench', as JSON. Runs on iOS 15 and later.

    Raises:
        ExportFailed: coremltools is not installed.
    """
    tools = _coremltools()
    builder = importlib.import_module("coremltools.converters.mil").Builder
    with contextlib.redirect_stderr(io.StringIO()):  # one progress bar per pass
        model = tools.convert(
            _program(graph, tools, builder),
            convert_to="mlprogram",
            compute_precision=tools.precision.FLOAT16 if half else tools.precision.FLOAT32,
            minimum_deployment_target=tools.target.iOS15,
            skip_model_load=True,
        )
    model.user_defined_metadata["latbench"] = json.dumps(metadata, sort_keys=True)
    with TemporaryDirectory(prefix="latbench-coreml-") as name:
        folder = Path(name) / "model.mlpackage"
        model.save(str(folder))
        return _packed(folder)


def unpack(package: bytes, folder: Path) -> Path:
    """Unpack the result of `write_coreml` into `folder`; returns the package, for coremltools or Xcode."""
    target = folder / "model.mlpackage"
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        archive.extractall(target, filter="data")
    return target


def check_package(path: Path, graph: Graph) -> None:
    """Check that a package has the input, the output and the nodes of `graph`; it is not run.

    Raises:
        ExportFailed: it has not, or coremltools is not installed.
    """
    tools = _coremltools()
    model = tools.proto.Model_pb2.Model()
    model.ParseFromString(read_specification(path))
    for kind, features, name in (
        ("input", model.description.input, graph.input),
        ("output", model.description.output, graph.output),
    ):
        found = [(one.name, tuple(one.type.multiArrayType.shape)) for one in features]
        shapes = {graph.shapes[name], ()}  # an output need not declare its shape
        if len(found) != 1 or found[0][0] != kind or found[0][1] not in shapes:
            raise ExportFailed(
                f"{path.name} has the {kind} {found}, but PyTorch's has shape {graph.shapes[name]}"
            )
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    operations = Counter(one.type for one in block.operations)
    # A shuffle after a concatenation becomes a concatenation that interleaves.
    true = {
        one.outputs[0].name
        for one in block.operations
        if one.type == "const" and any(one.attributes["val"].immediateValue.tensor.bools.values)
    }
    operations["transpose"] += sum(
        argument.name in true
        for one in block.operations
        if one.type == "concat"
        for argument in one.inputs["interleave"].arguments
    )
    for operation, expected in _expected(graph).items():
        if operations[operation] != expected:
            raise ExportFailed(
                f"{path.name} must have {expected} operations {operation}, "
                f"got {operations[operation]}"
            )


def _expected(graph: Graph) -> dict[str, int]:
    """How many operations of a kind the nodes of `graph` are written as."""
    counts = dict.fromkeys(("conv", "linear", "add", "mul", "concat", "max_pool", "avg_pool"), 0)
    counts["transpose"] = 0
    for node in graph.nodes:
        match node:
            case Pool():
                counts["max_pool" if node.maximum else "avg_pool"] += 1
            case Shuffle():
                counts["transpose"] += 1
            case Activate(activation=Activation.HARD_SWISH):
                counts["mul"] += 1
            case _ if type(node).__name__.lower() in counts:
                counts[type(node).__name__.lower()] += 1
    return counts


def _coremltools() -> Any:
    require_coremltools()
    # It warns about libraries that it would convert from, which are not used here.
    with contextlib.redirect_stderr(io.StringIO()):
        return importlib.import_module("coremltools")


def _program(graph: Graph, tools: Any, builder: Any) -> Any:
    shape = graph.shapes[graph.input]

    def main(input: Any) -> Any:  # its name becomes the input's
        values = {graph.input: input}
        for node in graph.nodes:
            name = "output" if node.output == graph.output else node.output
            values[node.output] = _make(builder, node, graph, values, name)
        return values[graph.output]

    specification = builder.TensorSpec(shape=shape)
    decorate = builder.program(input_specs=[specification], opset_version=tools.target.iOS15)
    return decorate(main)


def _make(builder: Any, node: Node, graph: Graph, values: dict[str, Any], name: str) -> Any:
    """Add `node` to the program; its value is called `name`.

    Raises:
        ExportFailed: Core ML has no operation for it.
    """
    made = entry_of(_NODES, node, DESCRIPTOR.files)
    given = [values[value] for value in node.inputs]
    if isinstance(node, Ending) and node.activation is not Activation.NONE:
        before = made(builder, node, f"{name}_before", *given)
        return _activation(builder, node, name, before)
    return made(builder, node, name, *given)


def _convolution(builder: Any, node: Conv, name: str, x: Any) -> Any:
    (top, left), dilations = node.padding, list(node.dilation)
    return builder.conv(
        x=x,
        weight=node.weight,
        bias=node.bias,
        strides=list(node.stride),
        pad_type="custom",
        pad=[top, top, left, left],
        dilations=dilations,
        groups=node.groups,
        name=name,
    )


def _linear(builder: Any, node: Linear, name: str, x: Any) -> Any:
    return builder.linear(x=x, weight=node.weight, bias=node.bias, name=name)


def _activation(builder: Any, node: Activate | Ending, name: str, x: Any) -> Any:
    match node.activation:
        case Activation.RELU:
            return builder.relu(x=x, name=name)
        case Activation.RELU6:
            return builder.relu6(x=x, name=name)
        case Activation.SIGMOID:
            return builder.sigmoid(x=x, name=name)
        case Activation.SILU:
            return builder.silu(x=x, name=name)
        case Activation.HARD_SIGMOID:
            return builder.sigmoid_hard(x=x, alpha=1 / 6, beta=0.5, name=name)
        case Activation.HARD_SWISH:
            gate = builder.sigmoid_hard(x=x, alpha=1 / 6, beta=0.5, name=f"{name}_gate")
            return builder.mul(x=x, y=gate, name=name)
        case Activation.NONE:
            return builder.identity(x=x, name=name)


def _sum(builder: Any, node: Add, name: str, x: Any, y: Any) -> Any:
    return builder.add(x=x, y=y, name=name)


def _product(builder: Any, node: Mul, name: str, x: Any, y: Any) -> Any:
    return builder.mul(x=x, y=y, name=name)


def _concat(builder: Any, node: Concat, name: str, *given: Any) -> Any:
    return builder.concat(values=given, axis=1, name=name)


def _slice(builder: Any, node: Slice, name: str, x: Any) -> Any:
    rank = len(x.shape)
    begin, end = [0] * rank, list(x.shape)
    begin[1], end[1] = node.start, node.stop
    return builder.slice_by_index(x=x, begin=begin, end=end, name=name)


def _shuffle(builder: Any, node: Shuffle, name: str, x: Any) -> Any:
    parts = builder.reshape(x=x, shape=np.array(node.split, np.int32))
    swapped = builder.transpose(x=parts, perm=[0, 2, 1, 3, 4])
    return builder.reshape(x=swapped, shape=np.array(node.shape, np.int32), name=name)


def _pool(builder: Any, node: Pool, name: str, x: Any) -> Any:
    top, left = node.padding
    windows = {
        "kernel_sizes": list(node.kernel),
        "strides": list(node.stride),
        "pad_type": "custom",
        "pad": [top, top, left, left],
    }
    if node.maximum:
        return builder.max_pool(x=x, name=name, **windows)
    exclude = not node.counts_padding
    return builder.avg_pool(x=x, exclude_padding_from_average=exclude, name=name, **windows)


def _global_pool(builder: Any, node: GlobalPool, name: str, x: Any) -> Any:
    return builder.reduce_mean(x=x, axes=[2, 3], keep_dims=not node.flat, name=name)


def _reshape(builder: Any, node: Reshape, name: str, x: Any) -> Any:
    return builder.reshape(x=x, shape=np.array(node.shape, np.int32), name=name)


_NODES: dict[type[Node], Callable[..., Any]] = {
    Conv: _convolution,
    Linear: _linear,
    Activate: _activation,
    Add: _sum,
    Mul: _product,
    Concat: _concat,
    Slice: _slice,
    Shuffle: _shuffle,
    Pool: _pool,
    GlobalPool: _global_pool,
    Reshape: _reshape,
}


def _packed(folder: Path) -> bytes:
    """The folder's files as a tar file; equal content gives equal bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                member = tarfile.TarInfo(str(path.relative_to(folder).as_posix()))
                member.size = path.stat().st_size
                with path.open("rb") as file:
                    archive.addfile(member, file)
    return buffer.getvalue()
