"""The search space: counts, keys, notation, and the published networks to the digit."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.errors import BadNotation, BadRequest, UnknownName
from latbench.space import (
    Architecture,
    OpSpec,
    SearchSpace,
    parse_key,
    published,
    read_architecture,
)
from latbench.space.architecture import random_architectures, release_named
from latbench.space.channels import scaled_channels
from latbench.space.families.classifier import Classifier, Hidden, Pool
from latbench.space.families.conv import Convolution, Frame, Head, Stem
from latbench.space.families.depthwise_separable import SeparableConvolution
from latbench.space.families.inverted_residual import DepthwiseSeparable, InvertedResidual
from latbench.space.families.skip import Projection
from latbench.space.opspec import Activation, Gate
from latbench.space.shipped import published_networks, space_file

CANDIDATES = SearchSpace.named("fbnet").candidates

GOLDEN = json.loads((Path(__file__).parent / "golden" / "fbnet.json").read_text())
PUBLISHED_COUNTS = [
    (release[-4:], name, network)
    for release, nets in GOLDEN["nets"].items()
    for name, network in nets["nets"].items()
]

sizes = st.integers(1, 512)
SHAPE = {"in_channels": sizes, "out_channels": sizes, "height": sizes, "width": sizes}
BLOCK = SHAPE | {
    "kernel": st.sampled_from([3, 5, 9]),
    "groups": st.sampled_from([1, 2]),
    "stride": st.sampled_from([1, 2]),
    "separable": st.booleans(),
    "activation": st.sampled_from(list(Activation)),
    "se": st.integers(0, 64),
    "gate": st.sampled_from(list(Gate)),
    "se_activation": st.sampled_from(list(Activation)),
    "batch": st.integers(1, 8),
}
ops = st.one_of(
    st.builds(DepthwiseSeparable, **BLOCK),
    st.builds(InvertedResidual, expansion=st.integers(1, 9), **BLOCK),
    st.builds(InvertedResidual, width_between=sizes, **BLOCK),
    st.builds(Projection, **SHAPE, stride=st.integers(1, 2)),
    st.builds(Head, **SHAPE),
    st.builds(
        Convolution,
        **SHAPE,
        kernel=st.sampled_from([1, 3, 11]),
        stride=st.integers(1, 4),
        activation=st.sampled_from(list(Activation)),
    ),
    st.builds(SeparableConvolution, **SHAPE, kernel=st.sampled_from([3, 7])),
    st.builds(Hidden, in_channels=sizes, activation=st.sampled_from(list(Activation))),
    st.builds(Classifier, in_channels=sizes, out_channels=sizes),
    st.builds(Pool, in_channels=sizes, height=sizes, width=sizes),
    st.builds(Stem, **SHAPE, kernel=st.just(3), stride=sizes),
    st.builds(Frame, in_channels=sizes, height=sizes, width=sizes, batch=st.integers(1, 8)),
)


@given(ops)
def test_a_key_parses_back_to_its_op(op: OpSpec) -> None:
    assert parse_key(op.key) == op


@given(st.text("irkegsohw_0123456789sep", max_size=40))
def test_what_is_no_key_is_refused(text: str) -> None:
    try:
        op = parse_key(text)
    except BadNotation:
        return
    assert op.key == text


@pytest.mark.parametrize(
    "key",
    [
        *("", "ir", "ir_k3", "conv_i3_o8", "ir_k03_e1_g1_s1_i8_o8_h8_w8"),
        "ir_e1_k3_g1_s1_i8_o8_h8_w8",  # all fields, in another order
        "pool_i8_o8_h4_w4",
        "skip_k1_s2_i16_o24_h8_w8",
    ],
)
def test_incomplete_and_foreign_keys_are_refused(key: str) -> None:
    with pytest.raises(BadNotation):
        parse_key(key)


def test_a_stride_rounds_an_odd_size_up() -> None:
    for key in ("ir_k3_e3_g1_s2_i16_o24_h9_w7", "skip_s2_i16_o24_h9_w7", "stem_k3_s2_i3_o24_h9_w7"):
        assert parse_key(key).output_shape == (1, 24, 5, 4)


def test_a_width_below_1_keeps_the_head() -> None:
    (head, *_) = SearchSpace.named("fbnet").heads
    assert SearchSpace.named("fbnet", width=0.35).heads[0] == head
    assert SearchSpace.named("fbnet", width=1.5).heads[0] == 1.5 * head


def test_the_224_space_has_96_unique_blocks() -> None:
    space = SearchSpace.named("fbnet", input_size=224)
    assert len(space.layers) == 22
    assert len(CANDIDATES) == 9
    assert len(space.unique_blocks) == 96
    kinds = [op.kind for op in space.unique_ops]
    assert kinds.count("skip") == 6
    assert kinds.count("head") == kinds.count("classifier") == 2
    assert len({op.key for op in space.unique_ops}) == len(space.unique_ops)


@pytest.mark.parametrize("name", ["fbnet", "fbnet-cifar"])
@pytest.mark.parametrize("width", [1.0, 0.75, 0.5, 0.35])
def test_shapes_fit_from_layer_to_layer(name: str, width: float) -> None:
    of_input = SearchSpace.named(name).definition.input
    for size in (of_input.size, *of_input.others):
        space = SearchSpace.named(name, input_size=size, width=width)
        for architecture in random_architectures(space, 20):
            shape = (1, 3, *size)
            for op in architecture.ops:
                assert op.input_shape == shape
                shape = op.output_shape
            assert shape == (1, space.classes)


def test_cifar_variant_has_the_layout_of_hw_nas_bench() -> None:
    space = SearchSpace.named("fbnet-cifar")
    assert (space.input_size, space.stem.stride, space.heads) == (32, 1, (1504,))
    assert [stage.stride for stage in space.definition.stages] == [1, 1, 2, 2, 1, 2, 1]
    assert space.layers[-1].height == 4


@given(st.integers(8, 2048), st.floats(0.1, 2.0))
def test_scaled_channels_are_multiples_of_8_and_lose_no_more_than_a_tenth(
    channels: int, width: float
) -> None:
    scaled = scaled_channels(channels, width)
    assert scaled % 8 == 0
    assert scaled >= max(8, 0.9 * channels * width)


@pytest.mark.parametrize(("release", "name", "network"), PUBLISHED_COUNTS)
def test_published_counts_are_reproduced_to_the_digit(
    release: str, name: str, network: dict[str, object]
) -> None:
    architecture = published(name, release=release)
    assert architecture.notation == network["layers"]
    assert architecture.head == network["head"]
    assert architecture.macs_by(release_named(release)) == round(network["macs_M"] * 1e6)
    assert architecture.params == round(network["params_M"] * 1e6)


@pytest.mark.parametrize(("name", "layers"), GOLDEN["device_specific_nets"]["layers"].items())
def test_transcribed_networks_are_known_and_flagged(name: str, layers: str) -> None:
    assert published(name).notation == layers
    assert published_networks()[name].network.transcription


def test_fbnet_c_has_the_parameter_shapes_of_timm() -> None:
    from latbench.space.blocks import build_network

    golden = json.loads(
        (Path(__file__).parent / "golden" / "timm_fbnetc_100_shapes.json").read_text()
    )
    architecture = read_architecture(
        "fbnet_c"
    )  # the search space keeps the first 1x1, as timm does
    parameters = list(build_network(architecture).parameters())
    assert [list(p.shape) for p in parameters] == list(golden["params"].values())
    assert sum(p.numel() for p in parameters) == golden["total_params"]
    assert architecture.macs == golden["macs_224_conv_linear"]


def test_modules_have_the_counted_parameters_and_shapes() -> None:
    import torch

    from latbench.space.blocks import build_network, build_op

    space = SearchSpace.named("fbnet", input_size=96, width=0.5)
    for op in space.unique_ops:
        module = build_op(op).eval()
        weights = sum(p.numel() for p in module.parameters() if p.ndim > 1)
        assert weights == op.params, op.key
        assert module(torch.zeros(op.input_shape)).shape == op.output_shape, op.key
    for release in space_file("fbnet").releases:
        network = build_network(published("fbnet_b", release=release)).eval()
        assert network(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)


def test_channel_shuffle_interleaves_groups() -> None:
    import torch

    from latbench.space.modules import ChannelShuffle

    channels = torch.arange(6.0).view(1, 6, 1, 1)
    assert ChannelShuffle(2)(channels).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_an_e1_block_is_measured_without_its_first_1x1_where_the_space_drops_it() -> None:
    keeps = SearchSpace.named("fbnet")
    drops = SearchSpace.named("fbnet", keeps_first_1x1=False)
    assert keeps.op(keeps.layers[0], CANDIDATES[0]).key == "ir_k3_e1_g1_s1_i16_o16_h112_w112"
    assert drops.op(drops.layers[0], CANDIDATES[0]).key == "ds_k3_g1_s1_i16_o16_h112_w112"


@given(st.integers(0, 10_000))
def test_notation_and_json_parse_back(seed: int) -> None:
    space = SearchSpace.named("fbnet-cifar", width=0.5, classes=100)
    (architecture,) = random_architectures(space, 1, seed=seed)
    assert Architecture.parse(architecture.notation, space, head=architecture.head) == architecture
    assert Architecture.from_dict(json.loads(json.dumps(architecture.to_dict()))) == architecture


def test_bad_requests_name_what_is_nearest() -> None:
    with pytest.raises(UnknownName) as unknown:
        SearchSpace.named("fbnet-cifer")
    assert unknown.value.nearest[0] == "fbnet-cifar"
    with pytest.raises(UnknownName) as unknown:
        published("fbnet_bb")
    assert "fbnet_b" in (unknown.value.hint or "")
    for size in (0, 100, -32, 4096):
        with pytest.raises(BadRequest):
            SearchSpace.named("fbnet", input_size=size)
    with pytest.raises(BadNotation, match="layers in its stages"):
        Architecture.parse("k3e1|k3e6", SearchSpace.named())
    with pytest.raises(BadNotation, match="unknown block"):
        Architecture.parse(
            published("fbnet_c").notation.replace("k3e1", "k4e1"), SearchSpace.named()
        )


def test_an_architecture_file_of_another_space_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "architecture.json"
    path.write_text(json.dumps(published("fbnet_a").to_dict()))
    assert read_architecture(str(path)) == published("fbnet_a")
    with pytest.raises(BadRequest, match="another search space"):
        read_architecture(str(path), SearchSpace.named("fbnet", input_size=96))
    path.write_text('{"layers": 3, "head": 8}')
    with pytest.raises(BadNotation, match="not an architecture"):
        read_architecture(str(path))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("head", True, "head must be an integer, got True"),
        ("head", "1504", "head must be an integer, got '1504'"),
        ("head", 1504.0, "head must be an integer, got 1504.0"),
        ("head", 0, "head must be at least 1 channel, got 0"),
        ("layers", 3, "layers must be text, got 3"),
        ("name", 3, "name must be text or null, got 3"),
        ("space", [], "space must be an object"),
    ],
)
def test_an_architecture_file_of_wrong_types_is_refused(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    path = tmp_path / "architecture.json"
    path.write_text(json.dumps(published("fbnet_a").to_dict() | {field: value}))
    with pytest.raises(BadRequest, match=message):
        read_architecture(str(path))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", 1, "space.name must be text, got 1"),
        ("input", True, "space.input must be an integer, got True"),
        ("input", 224.0, "space.input must be an integer, got 224.0"),
        ("width", True, "space.width must be a number, got True"),
        ("width", "1", "space.width must be a number, got '1'"),
        ("width", float("nan"), "width must be above 0 and at most 2, got nan"),
        ("classes", True, "space.classes must be an integer, got True"),
        ("classes", 0, "classes must be at least 1, got 0"),
        ("keeps_first_1x1", 1, "space.keeps_first_1x1 must be true or false, got 1"),
    ],
)
def test_a_space_of_wrong_types_is_refused(field: str, value: object, message: str) -> None:
    data = SearchSpace.named().to_dict()
    assert SearchSpace.from_dict(data | {"width": 1}) == SearchSpace.named()
    with pytest.raises(BadRequest, match=message):
        SearchSpace.from_dict(data | {field: value})  # type: ignore[dict-item]
