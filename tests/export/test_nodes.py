"""Modules that are not FBNet's: the graph holds what they compute, and every format computes it too."""

import importlib.util
import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from latbench.errors import ExportFailed
from latbench.export.check import (
    FP16_ERROR_OP,
    FP32_RELATIVE_ERROR,
    INT8_SNR_OP,
    Bound,
    check_artifact,
)
from latbench.export.exporter import Prepared, prepare
from latbench.graph.lowering import GraphModule, lower
from latbench.graph.nodes import (
    CLAMPS,
    KINDS,
    Activate,
    Activation,
    Conv,
    Ending,
    Weighted,
    entry_of,
)
from latbench.graph.quantize import GATE, calibrate
from latbench.runtime.registry import HOST_RUNTIMES, descriptor, is_installed, load_model
from latbench.space.blocks import initialise
from latbench.target import Precision, Runtime
from tests.export.modules import CASES, InvertedResidual, ShuffleUnit, conv_bn, shuffled

FORMATS = [
    (runtime, precision)
    for runtime in Runtime
    if descriptor(runtime).runs_here and is_installed(runtime)
    for precision in descriptor(runtime).precisions
]
#: ncnn's values have no batch, which a test below covers.
BATCHED = [one for one in FORMATS if one[0] is not Runtime.NCNN]


def prepared(module: nn.Module, shape: tuple[int, ...], batch: int = 1) -> Prepared:
    """The module with reproducible weights, ready to be written."""
    samples = torch.randn(4 * batch, *shape, generator=torch.Generator().manual_seed(1))
    initialise(module, samples, seed=1)
    return prepare(module, torch.split(samples, batch))


def written(
    made: Prepared, runtime: Runtime, precision: Precision, folder: Path, *, ops: int = 1
) -> tuple[Path, float]:
    """The file of a module, and its error against PyTorch; raises if that is beyond its bound."""
    described, graph = descriptor(runtime), made.graph
    quantization = None
    if precision is Precision.INT8:
        quantization = calibrate(graph, made.samples)
    ends = {
        kind: [
            {
                "name": kind,
                "shape": list(described.shape(graph.shapes[value])),
                "dtype": described.io_dtype(precision),
            }
        ]
        for kind, value in (("inputs", graph.input), ("outputs", graph.output))
    }
    path = folder / f"module{described.suffix}"
    half = precision is Precision.FP16
    path.write_bytes(described.write(graph, ends, quantization, half=half))
    bound = Bound.of(precision, ops=ops)
    error = check_artifact(path, runtime, graph, made.reference, quantization, bound)
    assert error is not None
    return path, error


def test_the_cases_have_every_kind_of_node_and_activation() -> None:
    """So a kind without an entry in a writer's table fails one of the tests below."""
    graphs = [lower(case.make().eval(), (1, *case.shape)) for case in CASES.values()]
    nodes = [node for graph in graphs for node in graph.nodes]
    assert {type(node) for node in nodes} == set(KINDS)
    activations = {node.activation for node in nodes if isinstance(node, Activate)}
    assert activations | {Activation.NONE, Activation.RELU6} == set(Activation)
    endings = {(type(node), node.activation) for node in nodes if isinstance(node, Ending)}
    assert endings >= {(Conv, kind) for kind in (Activation.NONE, *CLAMPS)}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("runtime", "precision"), FORMATS)
def test_every_format_computes_what_pytorch_computes(
    runtime: Runtime, precision: Precision, name: str, tmp_path: Path
) -> None:
    case = CASES[name]
    _, error = written(prepared(case.make(), case.shape), runtime, precision, tmp_path)
    if precision is Precision.INT8:
        assert error > INT8_SNR_OP
    else:
        assert error < (FP16_ERROR_OP if precision is Precision.FP16 else FP32_RELATIVE_ERROR)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("runtime", "precision"), BATCHED)
def test_any_batch_is_written(
    runtime: Runtime, precision: Precision, name: str, tmp_path: Path
) -> None:
    case = CASES[name]
    path, _ = written(prepared(case.make(), case.shape, 3), runtime, precision, tmp_path)
    assert load_model(runtime, path).inputs[0].shape[0] == 3


@pytest.mark.parametrize("runtime", [Runtime.TFLITE, Runtime.ONNX])
def test_fp16_is_computed_in_fp32_here(runtime: Runtime, tmp_path: Path) -> None:
    """What `RuntimeDescriptor.arithmetic` says: with the stored numbers, only the ends are rounded."""
    if runtime is Runtime.ONNX and platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("it has 16-bit kernels here")
    case = CASES["inverted residual with hard-swish and gate"]
    made = prepared(case.make(), case.shape)
    stored = replace(
        made.graph,
        nodes=tuple(
            replace(node, weight=rounded(node.weight), bias=rounded(node.bias))
            if isinstance(node, Weighted)
            else node
            for node in made.graph.nodes
        ),
    )
    path, error = written(made, runtime, Precision.FP16, tmp_path)
    model = load_model(runtime, path)
    x = made.reference.input.astype(descriptor(runtime).fp16_dtype)
    model.set_inputs([np.ascontiguousarray(descriptor(runtime).from_nchw(x))])
    model.run()
    with torch.inference_mode():
        expected = GraphModule(stored)(torch.from_numpy(x.astype(np.float32))).numpy()
    result = descriptor(runtime).to_nchw(model.get_outputs()[0]).astype(np.float32)
    rounding = 2**-11 if x.dtype == np.float16 else 0
    allowed = (rounding + 1e-6) * np.abs(expected).max()
    assert np.abs(result - expected).max() < allowed
    assert error > 1e-4  # the numbers that are stored are others


def rounded(values: np.ndarray) -> np.ndarray:
    """The nearest 16-bit numbers."""
    return values.astype(np.float16).astype(np.float32)


@pytest.mark.skipif(not is_installed(Runtime.NCNN), reason="pip install latbench[ncnn]")
def test_ncnn_refuses_a_batch(tmp_path: Path) -> None:
    made = prepared(nn.Conv2d(3, 3, 1), (3, 8, 8), 3)
    with pytest.raises(ExportFailed, match="a model of batch 3 cannot be written"):
        written(made, Runtime.NCNN, Precision.FP32, tmp_path)


@pytest.mark.skipif(
    importlib.util.find_spec("coremltools") is None, reason="pip install latbench[coreml]"
)
@pytest.mark.parametrize("name", CASES)
def test_core_ml_packages_have_every_node(name: str, tmp_path: Path) -> None:
    """This machine cannot run them, so it counts their operations."""
    case, described = CASES[name], descriptor(Runtime.COREML)
    graph = prepared(case.make(), case.shape, 3).graph
    path = tmp_path / "module.mlpackage.tar"
    path.write_bytes(described.write(graph, {}, None))
    described.check_structure(path, graph)
    more = next(node for node in graph.nodes if isinstance(node, Conv))
    with pytest.raises(ExportFailed, match="operations conv"):
        described.check_structure(path, replace(graph, nodes=(*graph.nodes, more)))


@pytest.mark.parametrize("name", [name for name in CASES if name != "maximum of signed values"])
def test_xnnpack_takes_every_block_whole_in_floats(name: str, tmp_path: Path) -> None:
    """It has no padding with another value than 0, which the maximum of negative values needs."""
    case = CASES[name]
    path, _ = written(prepared(case.make(), case.shape), Runtime.TFLITE, Precision.FP32, tmp_path)
    coverage = load_model(Runtime.TFLITE, path).coverage
    assert (coverage["delegate_nodes"], coverage["ops_outside_delegates"]) == (1, 0)


def kinds(module: nn.Module, shape: tuple[int, ...]) -> list[str]:
    """The nodes of a module, each with its activation."""
    found = []
    for node in lower(module.eval(), (1, *shape)).nodes:
        activation = getattr(node, "activation", Activation.NONE)
        ending = "" if activation is Activation.NONE else f" {activation}"
        found.append(type(node).__name__ + ending)
    return found


def test_nodes_end_with_the_activations_that_only_limit_values() -> None:
    assert kinds(CASES["bottleneck"].make(), (16, 8, 8)) == [
        "Conv relu",
        "Conv relu",
        "Conv",
        "Add relu",
    ]
    block = InvertedResidual(16, 32, 3, nn.Hardswish, nn.Hardsigmoid())
    assert kinds(block, (16, 8, 8)) == [
        "Conv", "Activate hard_swish", "Conv", "Activate hard_swish",
        "GlobalPool", "Conv relu", "Conv", "Activate hard_sigmoid", "Mul",
        "Conv", "Add",
    ]  # fmt: skip


def test_what_is_written_out_becomes_one_node() -> None:
    written_out = ["Conv", "Activate hard_swish", "Conv", "Activate hard_sigmoid", "Mul"]
    assert kinds(CASES["written out"].make(), (16, 8, 8)) == written_out

    class Silu(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(x)

    class HalfShuffle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.unflatten(1, (3, 2)).transpose(1, 2)[:, :1].reshape(x.shape[0], 3, 8, 8)

    assert kinds(Silu(), (3, 8, 8)) == ["Activate silu"]
    with pytest.raises(ExportFailed, match="no graph node for"):
        kinds(HalfShuffle(), (6, 8, 8))


@pytest.mark.parametrize(("shift", "factor"), [(2.0, 1 / 6), (3.0, 1 / 5)])
def test_what_looks_like_a_hard_swish_is_none(shift: float, factor: float) -> None:
    class Similar(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * (functional.relu6(x + shift) * factor)

    made = prepared(nn.Sequential(conv_bn(3, 3), Similar()), (3, 6, 6))
    assert not any(isinstance(node, Activate) for node in made.graph.nodes)
    with torch.inference_mode():
        result = GraphModule(made.graph)(made.samples[-1]).numpy()
    np.testing.assert_allclose(result, made.reference.output, rtol=1e-4, atol=1e-5)


def test_constants_and_bn_fold_into_what_is_before_them() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = conv_bn(4, 4, 3), nn.Linear(4, 4)
            self.scale = nn.Parameter(torch.full((4, 1, 1), 0.9))
            self.norm = nn.BatchNorm1d(4)

        # Offsets far above what varies would cost the digits that the norm brings out.
        def forward(self, x: Tensor) -> Tensor:
            y = 2 - 1.0 * (self.conv(x) * self.scale / 0.5 + 0.5) * -1
            return self.norm(self.linear(y.mean((2, 3))))

    class Plain(Scaled):
        def forward(self, x: Tensor) -> Tensor:
            y = (self.conv(x) * self.scale / 0.5 + 0.5) * -1.0 - 0.25
            return self.norm(self.linear(y.mean((2, 3))))

    made = prepared(Plain(), (4, 6, 6))
    assert [type(node).__name__ for node in made.graph.nodes] == ["Conv", "GlobalPool", "Linear"]
    with torch.inference_mode():
        result = GraphModule(made.graph)(made.samples[-1]).numpy()
    np.testing.assert_allclose(result, made.reference.output, rtol=1e-4, atol=1e-5)
    with pytest.raises(ExportFailed, match="rsub"):
        lower(Scaled().eval(), (1, 4, 6, 6))


def test_a_value_that_is_read_elsewhere_stays() -> None:
    assert kinds(CASES["branches"].make(), (16, 8, 8)) == [
        "Conv", "Activate relu", "Add", "Conv", "Add", "Slice", "Slice", "Concat", "Slice", "Conv",
    ]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_graph_has_the_shapes_and_values_of_its_module(name: str) -> None:
    case = CASES[name]
    made = prepared(case.make(), case.shape, 2)
    module, graph = GraphModule(made.graph), made.graph
    values = {graph.input: made.samples[-1].clone()}
    with torch.inference_mode():
        for value, tensor in module.steps(values):
            values[value] = tensor
            assert graph.shapes[value] == tensor.shape, value
    result = values[graph.output].numpy()
    np.testing.assert_allclose(result, made.reference.output, rtol=1e-3, atol=1e-4)
    assert graph.shapes.keys() == values.keys()


def test_activations_write_only_over_what_nothing_else_reads() -> None:
    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y, z = self.one(x), self.two(x)
            return functional.silu(y) + y + functional.silu(z) + functional.silu(x)

    graph = lower(Read().eval(), (1, 3, 4, 4))
    found = [node.in_place for node in graph.nodes if isinstance(node, Activate)]
    assert found == [False, True, False]


class _WritesIntoAView(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x + x
        y[:, :2].mul_(2.0)
        return y


class _KeepsWhatWasWrittenOver(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(x)
        flat = y.view(y.shape)
        y += x
        return flat + y


class _Two(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x + x


class _Indices(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        values, indices = functional.max_pool2d(x, 2, return_indices=True)
        return values + indices


class _Expanded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x.mean((2, 3), keepdim=True).expand_as(x))
        return y


class _WiderConstant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) * torch.ones(1, 3, 1, 1)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Sequential(nn.PixelShuffle(1)), r"0 \(PixelShuffle\), which calls aten.pixel_shuffle"),
        (nn.ConvTranspose2d(3, 3, 2), "transposed convolutions"),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), "reflection_pad2d"),
        (nn.Conv2d(3, 3, 2, padding="same"), "constant_pad_nd"),
        (nn.MaxPool2d(3, 2, ceil_mode=True), "ceil_mode"),
        (nn.MaxPool2d(2, dilation=2), "dilated pools"),
        (nn.AvgPool2d(2, divisor_override=3), "another divisor"),
        (nn.AdaptiveAvgPool2d(3), "cannot be pooled into"),
        (nn.Hardtanh(), "limits of -1.0 and 1.0"),
        (nn.Softmax(1), "_softmax"),
        (nn.Sequential(nn.Flatten(2), nn.Flatten(1), nn.Unflatten(1, (3, 64))), "change of shape"),
        (_WritesIntoAView(), "a value is read that no node holds"),
        (_KeepsWhatWasWrittenOver(), "a value is read that no node holds"),
        (_Indices(), "a value is read that no node holds"),
        (_Expanded(), "an expanded value"),
        (_WiderConstant(), "a constant of more dimensions"),
        (_Two(), "must return one tensor"),
        (nn.Identity(), "it returns its input"),
        (nn.Threshold(0, 0), "aten.threshold"),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, nn.Module) else given,
)
def test_what_the_graph_cannot_hold_is_refused_by_name(module: nn.Module, reason: str) -> None:
    with pytest.raises(ExportFailed, match=reason):
        lower(module.eval(), (1, 3, 8, 8))


def test_bn_in_training_mode_is_refused() -> None:
    with pytest.raises(ExportFailed, match="BN in training mode"):
        lower(conv_bn(3, 3), (2, 3, 8, 8))


def test_a_writer_without_an_entry_names_the_kind() -> None:
    (node,) = lower(nn.Sequential(nn.MaxPool2d(2)), (1, 3, 8, 8)).nodes
    with pytest.raises(ExportFailed, match="a Pool node: clay tablets are written with Conv alone"):
        entry_of({Conv: 1}, node, "clay tablets")


@pytest.mark.parametrize("runtime", HOST_RUNTIMES)
def test_an_int8_gate_keeps_its_scale_where_it_is_moved(runtime: Runtime, tmp_path: Path) -> None:
    """LiteRT and PyTorch fix the scale of a sigmoid: a reshaped gate has it, and a joined one is rescaled."""

    class Moved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv_bn(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return torch.cat((torch.sigmoid(y)[:, 1:], functional.max_pool2d(8 * y, 1)), 1)

    made = prepared(Moved(), (4, 6, 6))
    scales = calibrate(made.graph, made.samples).scales
    sigmoid, part = (node.output for node in made.graph.nodes[1:3])
    assert (scales[sigmoid], scales[part]) == (GATE, GATE)
    assert scales[made.graph.output].scale > 4 * GATE.scale
    assert written(made, runtime, Precision.INT8, tmp_path)[1] > INT8_SNR_OP


def test_what_moves_together_has_one_scale() -> None:
    made = prepared(nn.Sequential(ShuffleUnit(8, 8, 1), nn.MaxPool2d(2), conv_bn(8, 8)), (8, 8, 8))
    scales = calibrate(made.graph, made.samples).scales
    for node in made.graph.nodes:
        if node.moves:
            assert {scales[name] for name in node.inputs} == {scales[node.output]}
    (last,) = (node for node in made.graph.nodes if node.output == made.graph.output)
    assert scales[last.output] != scales[last.input]


_ACTIVATIONS = (nn.Identity, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.SiLU)


class _Random(nn.Module):
    """Steps that each read one or two of the values before them."""

    def __init__(self, steps: list[tuple[str, int, int, int]]) -> None:
        super().__init__()
        self.steps, self.layers = steps, nn.ModuleList()
        for kind, _, _, number in steps:
            wide = {"conv": (1, 3, 5)[number % 3], "depthwise": (3, 5)[number % 2]}.get(kind)
            activation = _ACTIVATIONS[number % len(_ACTIVATIONS)]()
            groups = 8 if kind == "depthwise" else 1
            layer = activation
            if wide is not None:
                layer = conv_bn(8, 8, wide, groups=groups, activation=activation)
            self.layers.append(layer)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for (kind, one, other, number), layer in zip(self.steps, self.layers, strict=True):
            a, b = values[one % len(values)], values[other % len(values)]
            match kind:
                case "add":
                    made = functional.relu(a + b) if number % 2 else a + b
                case "gate":
                    made = a * torch.sigmoid(b.mean((2, 3), keepdim=True))
                case "join":
                    made = torch.cat((a[:, :3], b[:, 3:]), 1)
                case "shuffle":
                    made = shuffled(a, (2, 4)[number % 2])
                case "pool":
                    pool = functional.max_pool2d if number % 2 else functional.avg_pool2d
                    made = pool(a, 3, stride=1, padding=1)
                case _:
                    made = layer(a)
            values.append(made)
        return values[-1]


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ("conv", "depthwise", "activation", "add", "gate", "join", "shuffle", "pool")
        ),
        st.integers(0, 7),
        st.integers(0, 7),
        st.integers(0, 41),
    ),
    min_size=1,
    max_size=7,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=_STEPS, batch=st.sampled_from((1, 3)))
def test_any_small_network_computes_what_pytorch_computes(
    steps: list[tuple[str, int, int, int]], batch: int, tmp_path: Path
) -> None:
    """int8 is held to the bound of networks, which tells a wrong scale from the noise of several steps."""
    made = prepared(nn.Sequential(conv_bn(8, 8), _Random(steps)), (8, 7, 6), batch)
    for runtime in HOST_RUNTIMES:
        for precision in (Precision.FP32, Precision.INT8):
            written(made, runtime, precision, tmp_path, ops=2)
