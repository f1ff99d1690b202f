"""Small real models and plans for them; run as a program, it measures one (and can be killed)."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from latbench.device.host.device import HostDevice
from latbench.files import sha256_of
from latbench.measure import Journal, Plan, Role, Settings, Workload, measure
from latbench.target import Precision, Runtime, Target

#: Loose and short: what is tested is never how fast this machine is.
QUICK = Settings(
    ci=0.5,
    seconds=0.001,
    min_samples=4,
    max_samples=50,
    sentinel_every=8,
    runners=1,
    cool_down_s=0.5,
)


def write_model(path: Path, channels: int, size: int, layers: int = 1) -> Path:
    """Write a chain of 3x3 convolutions as an ONNX file."""
    rng = np.random.default_rng(channels * size)
    nodes, weights = [], []
    for layer in range(layers):
        weight = 0.05 * rng.standard_normal((channels, channels, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{layer}"))
        nodes.append(
            helper.make_node("Conv", [f"x{layer}", f"w{layer}"], [f"x{layer + 1}"], pads=[1] * 4)
        )
    shape = [1, channels, size, size]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"x{layers}", TensorProto.FLOAT, shape)],
        weights,
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    onnx.save(model, path)
    return path


def write_endless_model(path: Path) -> Path:
    """Write an ONNX file that loads and whose run never ends."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["carried", "carried"], ["carried_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried_on", TensorProto.FLOAT, [1]),
        ],
    )
    loop = helper.make_node("Loop", ["turns", "always", "x"], ["y"], body=body)
    graph = helper.make_graph(
        [loop],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [
            numpy_helper.from_array(np.array(2**62, np.int64), "turns"),
            numpy_helper.from_array(np.array(True), "always"),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def workload(key: str, path: Path, role: Role = Role.OP) -> Workload:
    """The workload that the file at `path` is."""
    return Workload(key, role, path, sha256_of(path.read_bytes()))


def small_plan(folder: Path, workloads: int = 6, settings: Settings = QUICK) -> Plan:
    """A plan of `workloads` small models and a larger one as the sentinel."""
    folder.mkdir(exist_ok=True)
    models = [write_model(folder / f"m{n}.onnx", 4 + 4 * n, 12) for n in range(workloads)]
    network = write_model(folder / "network.onnx", 32, 28, layers=4)
    return Plan(
        Target(device="host", runtime=Runtime.ONNX, precision=Precision.FP32),
        tuple(workload(model.stem, model) for model in models),
        workload("network", network, Role.SENTINEL),
        settings,
    )


if __name__ == "__main__":
    # Nothing converges to this; so whoever started this has time to kill it.
    endless = dataclasses.replace(QUICK, ci=1e-6, max_rounds=2000, max_samples=200)
    with Journal(Path(sys.argv[2])) as journal:
        measure(small_plan(Path(sys.argv[1]), settings=endless), HostDevice(), journal)
