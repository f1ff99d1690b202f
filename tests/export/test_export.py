"""Export: every format computes what PyTorch computes, says what it is, and is made once."""

import importlib.util
import json
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from latbench.errors import ExportFailed
from latbench.export import (
    ArtifactStore,
    export_architecture,
    export_module,
    export_op,
    export_space,
)
from latbench.export.check import (
    FP16_ERROR_NETWORK,
    FP16_ERROR_OP,
    FP32_RELATIVE_ERROR,
    INT8_SNR_NETWORK,
    INT8_SNR_OP,
    Bound,
    output_error,
)
from latbench.export.exporter import prepare, write
from latbench.export.metadata import read_metadata
from latbench.export.store import Recipe
from latbench.graph.lowering import GraphModule, lower
from latbench.graph.nodes import Activation, Conv, GlobalPool
from latbench.graph.quantize import calibrate
from latbench.runtime.registry import HOST_RUNTIMES, descriptor, load_model
from latbench.runtime.torchscript.writer import write_torchscript
from latbench.space import SearchSpace, parse_key, published, read_architecture
from latbench.space.blocks import build_network, build_op, build_ops, initialise
from latbench.space.modules import ChannelShuffle
from latbench.target import Precision, Runtime

SPACE = SearchSpace.named("fbnet-cifar", width=0.5)
FORMATS = [
    (runtime, precision)
    for runtime in HOST_RUNTIMES
    for precision in descriptor(runtime).precisions
]
OP_ERRORS = {Precision.FP32: FP32_RELATIVE_ERROR, Precision.FP16: FP16_ERROR_OP}


@pytest.mark.parametrize(("runtime", "precision"), FORMATS)
def test_every_op_of_a_space_computes_what_pytorch_computes(
    runtime: Runtime, precision: Precision
) -> None:
    artifacts = list(export_space(SPACE.unique_ops, [runtime], [precision], ArtifactStore()))
    assert [made.key for made in artifacts] == [op.key for op in SPACE.unique_ops]
    if precision is Precision.INT8:
        assert min(made.error for made in artifacts) > INT8_SNR_OP
    else:
        assert max(made.error for made in artifacts) < OP_ERRORS[precision]


@pytest.mark.parametrize(("runtime", "precision"), FORMATS)
def test_a_whole_network_is_written_by_the_same_code(
    runtime: Runtime, precision: Precision
) -> None:
    made = export_architecture(read_architecture("fbnet_a"), runtime, precision, ArtifactStore())
    assert made.macs == read_architecture("fbnet_a").macs
    if precision is Precision.INT8:
        assert made.error > INT8_SNR_NETWORK
    else:
        assert made.error < OP_ERRORS[precision]


def test_the_batch_of_ops_is_that_of_their_files() -> None:
    space = SearchSpace.named("fbnet-cifar", width=0.5, input_size=16, batch=4)
    shuffled = next(op for op in space.unique_blocks if "_g2_" in op.key)
    for runtime in HOST_RUNTIMES:
        for op in (space.unique_ops[0], shuffled, space.unique_ops[-1]):
            made = export_op(op, runtime, Precision.FP32, ArtifactStore())
            assert made.error < FP32_RELATIVE_ERROR
            model = load_model(runtime, made.path)
            assert model.inputs[0].shape[0] == model.outputs[0].shape[0] == 4


@pytest.mark.parametrize("release", ["2019", "2020"])
def test_published_variants_with_dropped_1x1_and_double_3x3_export(release: str) -> None:
    space = SearchSpace.named("fbnet", input_size=96, keeps_first_1x1=release == "2019")
    architecture = published("fbnet_c", release=release, space=space)
    for runtime in HOST_RUNTIMES:
        made = export_architecture(architecture, runtime, Precision.FP32, ArtifactStore())
        assert made.error < FP32_RELATIVE_ERROR


@pytest.mark.parametrize(("runtime", "precision"), FORMATS)
def test_an_artifact_says_what_it_is(runtime: Runtime, precision: Precision) -> None:
    op = SPACE.unique_blocks[0]
    made = export_op(op, runtime, precision, ArtifactStore())
    said = read_metadata(made.path)
    assert (said["key"], said["ops"]) == (op.key, [op.key])
    assert (said["runtime"], said["precision"], said["macs"]) == (runtime, precision, op.macs)
    model = load_model(runtime, made.path)
    assert list(model.inputs[0].shape) == said["inputs"][0]["shape"]
    assert model.inputs[0].dtype == said["inputs"][0]["dtype"]
    assert model.inputs[0].dtype == descriptor(runtime).io_dtype(precision)


def test_the_second_export_of_an_op_does_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    op, store = SPACE.unique_blocks[0], ArtifactStore()
    first = export_op(op, Runtime.ONNX, Precision.FP32, store)
    written = first.path.stat().st_mtime_ns

    def refuse(*_: object) -> None:
        raise AssertionError("it was built again")

    monkeypatch.setattr("latbench.export.exporter._prepared_ops", refuse)
    assert export_op(op, Runtime.ONNX, Precision.FP32, store) == first
    assert first.path.stat().st_mtime_ns == written


def test_a_damaged_artifact_is_made_again() -> None:
    op, store = SPACE.unique_blocks[0], ArtifactStore()
    first = export_op(op, Runtime.TFLITE, Precision.FP32, store)
    intact = first.path.read_bytes()
    first.path.write_bytes(intact[: len(intact) // 2])
    assert export_op(op, Runtime.TFLITE, Precision.FP32, store) == first
    assert first.path.read_bytes() == intact


def test_an_artifact_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    """The check must be able to fail: a network whose exported weights are not its own."""
    architecture = read_architecture("k3e1|skip skip skip skip|skip skip skip skip|skip skip skip skip"
                                     "|skip skip skip skip|skip skip skip skip|skip", SPACE)  # fmt: skip
    network = build_network(architecture)
    sample = torch.randn(1, 3, SPACE.input_size, SPACE.input_size)
    initialise(network, sample.repeat(4, 1, 1, 1) + torch.randn(4, 3, 1, 1), seed=0)

    class Different(nn.Sequential):
        """Its first output, which the file is compared with, is not that of its weights."""

        runs = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = super().forward(x)
            self.runs += 1
            return result + 0.1 if self.runs == 1 else result

    path = tmp_path / "network.onnx"
    with pytest.raises(ExportFailed, match="deviates from PyTorch"):
        export_module(
            Different(*network), architecture, Runtime.ONNX, Precision.FP32, path, samples=[sample]
        )
    assert not path.exists()


def test_errors_are_relative_or_a_signal_to_noise_ratio() -> None:
    expected, actual = np.float32([[2, -1, 1, 0]]), np.float32([[2, -1.2, 1, 0]])
    assert output_error(actual, expected, Precision.FP32) == pytest.approx(0.1)  # 0.2 of 2
    # Power 6 / 4 over noise 0.04 / 4.
    assert output_error(actual, expected, Precision.INT8) == pytest.approx(10 * np.log10(150))
    with pytest.raises(ValueError, match=re.escape("has shape (1, 3), PyTorch's (1, 4)")):
        output_error(actual[:, :3], expected, Precision.FP32)


def test_bounds_refuse_what_is_beyond_them_and_nan() -> None:
    fp32, fp16 = (Bound.of(one, ops=1) for one in (Precision.FP32, Precision.FP16))
    assert Bound.of(Precision.FP32, ops=3) == fp32
    assert (fp16.limit, Bound.of(Precision.FP16, ops=3).limit) == (
        FP16_ERROR_OP,
        FP16_ERROR_NETWORK,
    )
    assert fp32.holds(0.99 * FP32_RELATIVE_ERROR)
    assert not fp32.holds(FP32_RELATIVE_ERROR)
    assert fp32.describe(0.1) == "a relative error of 1.0e-01, limit 1e-04"
    one, many = Bound.of(Precision.INT8, ops=1), Bound.of(Precision.INT8, ops=3)
    assert one.holds(INT8_SNR_OP)
    assert not one.holds(INT8_SNR_OP - 0.1)
    assert many.holds(INT8_SNR_NETWORK)
    assert not many.holds(INT8_SNR_NETWORK - 0.1)
    assert not any(bound.holds(float("nan")) for bound in (fp32, fp16, one, many))


def test_the_graph_folds_bn_and_fuses_relu() -> None:
    op = parse_key("ir_k5_e6_g1_s1_i16_o16_h8_w8")
    module = build_op(op)
    initialise(module, torch.randn(4, 16, 8, 8), seed=1)
    graph = lower(module, op.input_shape)
    kinds = [type(node).__name__ for node in graph.nodes]
    assert kinds == ["Conv", "Conv", "Conv", "Add"]
    endings = [node.activation for node in graph.nodes if isinstance(node, Conv)]
    assert endings == [Activation.RELU, Activation.RELU, Activation.NONE]


@pytest.mark.parametrize(
    "key",
    [
        "ir_k5_e6_g1_s1_i16_o16_h8_w8",
        "ir_k3sep_e3_g1_s2_i16_o24_h9_w9",
        "ir_k3_e1_g2_s2_i16_o24_h8_w8",
        "stem_k3_s2_i3_o16_h7_w7",
        "head_i32_o64_h4_w4",
        "pool_i8_h4_w4",
        "classifier_i8_o10",
    ],
)
def test_shapes_are_those_that_pytorch_computes(key: str) -> None:
    op = parse_key(key)
    module = build_ops([op]).eval()
    graph = lower(module, op.input_shape)
    assert graph.shapes[graph.input] == op.input_shape
    assert graph.shapes[graph.output] == module(torch.zeros(op.input_shape)).shape
    values = {graph.input: torch.zeros(op.input_shape)}
    for name, value in GraphModule(graph).steps(values):
        values[name] = value
        assert graph.shapes[name] == value.shape, name


def test_scales_cover_the_calibration_data_and_zero_is_exact() -> None:
    op = parse_key("pool_i8_h4_w4")
    graph = lower(build_op(op).eval(), op.input_shape)
    assert isinstance(graph.nodes[0], GlobalPool)
    samples = [torch.linspace(-1.0, 3.0, 128).view(1, 8, 4, 4)]
    scale = calibrate(graph, samples).scales[graph.input]
    lowest = (-128 - scale.zero_point) * scale.scale
    highest = (127 - scale.zero_point) * scale.scale
    step = scale.scale / 2 + 1e-6
    assert lowest <= -1.0 + step
    assert highest >= 3.0 - step
    assert np.isclose(scale.scale, 4 / 255)
    positive = calibrate(graph, [sample + 3 for sample in samples]).scales[graph.input]  # 2 to 6
    assert np.isclose(positive.scale, 6 / 255)
    assert positive.zero_point == -128


def test_each_output_channel_has_its_own_scale_and_biases_that_of_their_sums() -> None:
    conv = nn.Conv2d(4, 3, 3)
    with torch.no_grad():
        conv.weight *= torch.tensor([1.0, 0.01, 100.0]).view(3, 1, 1, 1)
    graph = lower(nn.Sequential(conv).eval(), (1, 4, 8, 8))
    (node,) = graph.nodes
    assert isinstance(node, Conv)
    quantization = calibrate(graph, [torch.linspace(-2, 6, 256).view(1, 4, 8, 8)])
    stored = quantization.weights(node)
    for channel, scale in enumerate(stored.scales):
        assert np.isclose(scale, np.abs(node.weight[channel]).max() / 127)
        error = np.abs(stored.weight[channel] * scale - node.weight[channel]).max()
        assert error <= 0.51 * scale
    assert np.allclose(stored.bias_scales, stored.scales * quantization.scales[graph.input].scale)
    assert (np.abs(stored.bias * stored.bias_scales - node.bias) <= 0.51 * stored.bias_scales).all()


def test_7_bit_activations_cover_the_range_of_8_bits(tmp_path: Path) -> None:
    op = parse_key("pool_i8_h4_w4")
    graph = lower(build_op(op).eval(), op.input_shape)
    averages = torch.linspace(-1.0, 3.0, 8)
    sample = averages.view(1, 8, 1, 1).expand(1, 8, 4, 4).contiguous()
    quantization = calibrate(graph, [sample])
    path = tmp_path / "pool.pt"
    path.write_bytes(write_torchscript(graph, {}, quantization))
    model = load_model(Runtime.TORCHSCRIPT, path, input_shapes=[op.input_shape])
    model.set_inputs([sample.numpy()])
    model.run()
    # A step is twice as large; half of it is the error of rounding.
    step = 2 * quantization.scales[graph.input].scale
    assert np.abs(model.get_outputs()[0] - averages.numpy()).max() <= step


@pytest.mark.parametrize("runtime", HOST_RUNTIMES)
def test_an_int8_shuffle_moves_stored_values_unchanged(runtime: Runtime, tmp_path: Path) -> None:
    """So the output's scale must be that of the input: any other one would rescale every value."""
    graph = lower(nn.Sequential(ChannelShuffle(2)).eval(), (1, 6, 4, 4))
    samples = [torch.linspace(-0.7, 2.9, 96).view(1, 6, 4, 4)]
    quantization = calibrate(graph, samples)
    assert quantization.scales[graph.output] == quantization.scales[graph.input]
    found = descriptor(runtime)
    path = tmp_path / f"shuffle{found.suffix}"
    ends = {
        name: [{"name": name, "shape": [1, 6, 4, 4], "dtype": found.int8_dtype}]
        for name in ("inputs", "outputs")
    }
    path.write_bytes(found.write(graph, ends, quantization))
    model = load_model(runtime, path)
    given = model.inputs[0].sample()
    if found.int8_dtype == "int8":
        given = np.arange(-48, 48).astype(np.int8).reshape(model.inputs[0].shape)
    else:  # it quantizes inside: use values that are exact multiples of its step
        step, zero = quantization.scales[graph.input].scale * 2, -128
        first = (quantization.scales[graph.input].zero_point - zero) // 2
        stored = np.arange(16, 112).reshape(model.inputs[0].shape)
        given = ((stored - first) * step).astype(np.float32)
    model.set_inputs([given])
    model.run()
    (result,) = model.get_outputs()
    images = torch.from_numpy(np.ascontiguousarray(found.to_nchw(given)))
    expected = ChannelShuffle(2)(images).numpy()
    np.testing.assert_allclose(found.to_nchw(result), expected, rtol=1e-6)
    if found.declares_scales and found.int8_dtype == "int8":
        (tensor,), (made,) = model.inputs, model.outputs
        assert (made.scale, made.zero_point) == (tensor.scale, tensor.zero_point)


def test_a_trained_network_keeps_its_weights(tmp_path: Path) -> None:
    architecture = read_architecture("fbnet_a", SPACE)
    network = build_network(architecture)
    images = [torch.randn(1, 3, SPACE.input_size, SPACE.input_size) for _ in range(4)]
    initialise(network, torch.cat(images), seed=3)
    for runtime in HOST_RUNTIMES:
        path = tmp_path / f"network{descriptor(runtime).suffix}"
        error = export_module(network, architecture, runtime, Precision.FP32, path, samples=images)
        assert error < FP32_RELATIVE_ERROR
        assert read_metadata(path)["ops"] == [op.key for op in architecture.ops]


#: What the ecosystem's exporters need besides what the tests have.
EXTRAS = {
    Runtime.TFLITE: "litert_torch",
    Runtime.ONNX: "onnxscript",
    Runtime.NCNN: "ncnn",
    Runtime.EXECUTORCH: "executorch",
}


@pytest.mark.parametrize(
    "runtime", [one for one in Runtime if descriptor(one).module_exporter is not None]
)
def test_what_has_no_node_is_written_by_the_ecosystem(runtime: Runtime, tmp_path: Path) -> None:
    architecture = read_architecture("fbnet_a", SPACE)
    network = build_network(architecture)
    images = [torch.randn(1, 3, SPACE.input_size, SPACE.input_size) for _ in range(2)]
    initialise(network, torch.cat(images), seed=3)
    module = nn.Sequential(network, nn.Softmax(1))
    path = tmp_path / f"network{descriptor(runtime).suffix}"

    def export(precision: Precision) -> float | None:
        return export_module(module, architecture, runtime, precision, path, samples=images)

    extra = EXTRAS.get(runtime)
    if extra is not None and importlib.util.find_spec(extra) is None:
        with pytest.raises(ExportFailed, match="which is not installed") as raised:
            export(Precision.FP32)
        assert "pip install latbench[" in str(raised.value.hint)
        return
    error = export(Precision.FP32)
    assert error is not None
    assert error < FP32_RELATIVE_ERROR
    written = read_metadata(path)
    assert written["written_by"] == descriptor(runtime).module_exporter
    model = load_model(runtime, path)
    assert list(model.inputs[0].shape) == written["inputs"][0]["shape"]
    if Precision.INT8 in descriptor(runtime).precisions:
        with pytest.raises(ExportFailed, match=r"aten\._softmax"):
            export(Precision.INT8)


def test_core_ml_refuses_what_has_no_node(tmp_path: Path) -> None:
    """A file that no machine here runs must be checked by its nodes."""
    prepared = prepare(nn.Sequential(nn.Softmax(1)), [torch.randn(1, 3, 4, 4)])
    recipe = Recipe("softmax", ("softmax",), Runtime.COREML, Precision.FP32, 0, "exporter 1")
    with pytest.raises(ExportFailed, match=r"aten\._softmax"):
        write(prepared, recipe)


def test_metadata_of_others_are_none(tmp_path: Path) -> None:
    op, store = SPACE.unique_blocks[0], ArtifactStore()
    made = export_op(op, Runtime.ONNX, Precision.FP32, store).path
    foreign = tmp_path / "foreign.onnx"
    model = onnx.load_model(str(made))
    model.metadata_props[0].key = "another"
    onnx.save(model, str(foreign))
    assert read_metadata(foreign) == {}
    made = export_op(op, Runtime.TFLITE, Precision.FP32, store).path
    foreign = tmp_path / "foreign.tflite"
    content = made.read_bytes()
    assert content.count(b"\x08\0\0\0latbench\0") >= 1
    foreign.write_bytes(content.replace(b"\x08\0\0\0latbench\0", b"\x08\0\0\0anothers\0"))
    assert read_metadata(foreign) == {}


def test_a_foreign_file_has_no_metadata(tmp_path: Path) -> None:
    for suffix in (".onnx", ".tflite", ".pt"):
        path = tmp_path / f"foreign{suffix}"
        path.write_bytes(b"something else entirely")
        assert read_metadata(path) == {}


def test_everything_that_an_export_depends_on_makes_another_recipe() -> None:
    recipe = Recipe("op", ("op",), Runtime.ONNX, Precision.FP32, 100, "exporter 1")
    others = {
        "key": "another",
        "ops": ("op", "op"),
        "runtime": Runtime.TFLITE,
        "precision": Precision.INT8,
        "macs": 200,
        "exporter": "exporter 2",
    }
    assert others.keys() == {field.name for field in fields(Recipe)}
    identities = {replace(recipe, **{name: value}).identity for name, value in others.items()}  # type: ignore[arg-type]
    assert len(identities | {recipe.identity}) == 1 + len(others)


def test_the_store_notes_what_an_artifact_was_made_from() -> None:
    store = ArtifactStore()
    made = export_op(SPACE.unique_blocks[1], Runtime.ONNX, Precision.FP32, store)
    (note,) = (store.root / "recipes").glob("*.json")
    said = json.loads(note.read_text())
    assert said["sha256"] == made.sha256
    assert said["recipe"]["key"] == made.key
