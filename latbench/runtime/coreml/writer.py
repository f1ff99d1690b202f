"""Write a graph as a Core ML package for iPhones: an optional extra, `pip install latbench[coreml]`.

coremltools' builder makes an ML program, one op per node, in 32-bit floats; the precision that Core ML then
computes in is its own choice. On Linux coremltools writes and reads packages but cannot run them: checking
numerics needs a Mac. A package is a folder; it is stored, and sent to the companion app, as one tar file.
"""

import contextlib
import importlib
import io
import json
import tarfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from latbench.errors import ExportFailed
from latbench.graph.lowering import Add, Conv, Graph, Linear, Node, Pool, Shuffle
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


def write_coreml(graph: Graph, metadata: dict[str, Any]) -> bytes:
    """Return the package of `graph` as the bytes of a POSIX tar file without times and owners.

    The input is called 'input' and the output 'output', NCHW at batch 1, 32-bit floats. `metadata` is
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
            compute_precision=tools.precision.FLOAT32,
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
    for operation, node in (
        ("conv", Conv),
        ("linear", Linear),
        ("add", Add),
        ("transpose", Shuffle),
    ):
        expected = sum(isinstance(one, node) for one in graph.nodes)
        if operations[operation] != expected:
            raise ExportFailed(
                f"{path.name} must have {expected} operations {operation}, "
                f"got {operations[operation]}"
            )


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
    """Add `node` to the program; its value is called `name`."""
    source = values[node.input]
    match node:
        case Conv():
            convolved = builder.conv(
                x=source,
                weight=node.weight,
                bias=node.bias,
                strides=[node.stride] * 2,
                pad_type="custom",
                pad=[node.padding] * 4,
                groups=node.groups,
                name=f"{name}_convolved" if node.relu else name,
            )
            return builder.relu(x=convolved, name=name) if node.relu else convolved
        case Shuffle():
            n, c, h, w = graph.shapes[node.input]
            split = np.array([n, node.groups, c // node.groups, h, w], np.int32)
            parts = builder.reshape(x=source, shape=split)
            swapped = builder.transpose(x=parts, perm=[0, 2, 1, 3, 4])
            return builder.reshape(x=swapped, shape=np.array([n, c, h, w], np.int32), name=name)
        case Add():
            return builder.add(x=source, y=values[node.other], name=name)
        case Pool():
            return builder.reduce_mean(x=source, axes=[2, 3], keep_dims=False, name=name)
        case Linear():
            return builder.linear(x=source, weight=node.weight, bias=node.bias, name=name)


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
