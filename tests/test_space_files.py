"""Search spaces as files: what they may say, what is said of their mistakes, and that LUTs carry them."""

import itertools
import json
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from latbench import Lut, SearchSpace, predict_latency, published
from latbench.cli import main
from latbench.errors import BadNotation, BadRequest, CannotRead, LutRefused
from latbench.lut.schema import Correction, Sentinel, TimedNetwork
from latbench.space import Architecture, parse_key, read_architecture
from latbench.space.candidate import FAMILIES, parse_token
from latbench.space.design import (
    calibration_architectures,
    landmark_networks,
    sentinel_of,
    varied_architectures,
)
from latbench.space.shipped import published_networks, space_file, space_names
from latbench.space.toml_lines import lines_of
from latbench.workflows.validate import validate
from tests.docs.pages import DOCS, blocks
from tests.search.conftest import modelled_lut

PAGE = DOCS / "tutorials" / "your-space.md"
EXAMPLE = next(block.text for block in blocks(PAGE) if block.language == "toml")

PLAIN = """
name = "plain"
classes = 4
input = 16
stem = { channels = 8 }
stages = [{ channels = 8, layers = LAYERS }]
candidates = ["k3e1", "k3e3", "conv3"]
head = 16
"""


def write(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def latbench(*words: str) -> Result:
    return CliRunner().invoke(main, [*words], catch_exceptions=False)


def mistakes(folder: Path, text: str) -> list[str]:
    result = latbench("space", "check", write(folder, text), "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["valid"]) == ((2, False) if told["mistakes"] else (0, True))
    return list(told["mistakes"])


# What a file may say


def test_the_example_of_the_page_is_short_and_a_space(tmp_path: Path) -> None:
    assert len(EXAMPLE.splitlines()) < 30
    assert mistakes(tmp_path, EXAMPLE) == []
    space = SearchSpace.named(write(tmp_path, EXAMPLE))
    assert (space.input_channels, space.size) == (1, "40x98")
    assert {len(layer.candidates) for layer in space.layers} > {5}  # they differ between layers


def test_ops_of_a_rectangle_fit_from_layer_to_layer(tmp_path: Path) -> None:
    import torch

    from latbench.space.blocks import build_network

    space = SearchSpace.named(write(tmp_path, EXAMPLE), batch=2)
    for network in varied_architectures(space, 12):
        shape: tuple[int, ...] = (2, 1, 40, 98)
        for op in network.ops:
            assert op.input_shape == shape
            shape = op.output_shape
        assert shape == (2, 12)
    assert build_network(network).eval()(torch.zeros(2, 1, 40, 98)).shape == shape


def test_ops_have_the_weights_and_macs_of_their_modules(tmp_path: Path) -> None:
    import torch
    from torch import nn

    space = SearchSpace.named(write(tmp_path, EXAMPLE), batch=2)
    for op in space.unique_ops:
        macs = 0

        def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
            nonlocal macs
            assert isinstance(module, nn.Conv2d | nn.Linear)
            each = (
                module.weight.numel()
                if isinstance(module, nn.Linear)
                else (module.weight.numel() * output.shape[2] * output.shape[3])
            )
            macs += each * len(output)

        built = op.build().eval()
        for module in built.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(count)
        with torch.no_grad():
            assert built(torch.zeros(op.input_shape)).shape == op.output_shape, op.key
        assert macs == op.macs, op.key
        assert sum(p.numel() for p in built.parameters() if p.ndim > 1) == op.params, op.key


def test_a_stage_has_its_own_candidates_and_settings(tmp_path: Path) -> None:
    text = PLAIN.replace(
        "layers = LAYERS }]",
        'layers = 2 }, { channels = 16, layers = 2, stride = 2, first = ["big"], candidates = '
        '["big", "skip"], activation = "hswish", se = 0.25 }]',
    )
    text += '\n[blocks.big]\nfamily = "inverted-residual"\nkernel = 7\nmiddle = 36\n'
    space = SearchSpace.named(write(tmp_path, text))
    tokens = [" ".join(map(str, layer.candidates)) for layer in space.layers]
    assert tokens == ["k3e1 k3e3 conv3"] * 2 + ["big", "big skip"]
    key = "ir_k7_m36_g1_s2_i8_o16_h16_w16_se16_hswish"
    assert space.op(space.layers[2], space.candidate("big")).key == key
    network = Architecture.parse("conv3 k3e1|big skip", space)
    assert Architecture.parse(network.notation, space) == network
    with pytest.raises(BadNotation, match="unknown block 'bigger'"):
        Architecture.parse("conv3 k3e1|bigger skip", space)


def test_a_blocks_own_setting_wins_over_its_stages(tmp_path: Path) -> None:
    text = PLAIN.replace("LAYERS }", '1, groups = 2, activation = "silu" }')
    text += '\n[blocks.own]\nfamily = "conv"\nkernel = 3\nactivation = "none"\n'
    space = SearchSpace.named(write(tmp_path, text.replace('"conv3"]', '"conv3", "own"]')))
    (layer,) = space.layers
    keys = [op.key for one in layer.candidates if (op := space.op(layer, one))]
    assert [key.rpartition("_")[2] for key in keys] == ["silu", "silu", "silu", "none"]
    assert all("_g2_" in key for key in keys)


CHOICES = """
name = "elastic"
classes = 4
input = 16
stem = { channels = 8 }
stages = [
  { channels = [8, 16], layers = 2 },
  { channels = [24, 16, 32], layers = 2, stride = 2 },
  { channels = [16, 24], layers = 1 },
]
candidates = ["k3e1", "conv3", "skip"]
head = 16
"""


def test_every_pair_of_channels_that_can_occur_has_its_entry(tmp_path: Path) -> None:
    space = SearchSpace.named(write(tmp_path, CHOICES))
    pairs = {(op.in_channels, op.out_channels) for op in space.unique_ops if op.kind == "conv"}
    assert pairs == {
        *((8, 8), (8, 16), (16, 16)),  # the first stage
        *((8, 24), (8, 32), (16, 24), (16, 32), (24, 24), (32, 32)),  # the second
        *((24, 16), (32, 16), (32, 24)),  # the third
    }
    networks = {
        Architecture(space, choices, 16, None, channels)
        for channels in itertools.product((8, 16), (24, 16, 32), (16, 24))
        for choices in itertools.product(*(at.candidates for at in space.layers_of(channels)))
    }
    assert len(networks) == space.network_count
    assert {op for one in networks for op in one.ops} == set(space.unique_ops)
    lut = modelled_lut(space)
    for one in networks:
        assert Architecture.parse(one.notation, space) == one
        assert predict_latency(lut, one).ms > 0
    assert {one.channels for one in varied_architectures(space, 200)} == {
        one.channels for one in networks
    }
    landmarks = landmark_networks(space)
    macs = [one.macs for one in networks]
    assert (landmarks["smallest"].macs, landmarks["largest"].macs) == (min(macs), max(macs))
    Lut.from_dict(lut.to_dict())


def test_a_notation_chooses_channels(tmp_path: Path) -> None:
    space = SearchSpace.named(write(tmp_path, CHOICES))
    plain = Architecture.parse("k3e1 conv3|k3e1 skip|conv3", space)
    assert plain.notation == "8: k3e1 conv3|24: k3e1 skip|16: conv3"
    other = Architecture.parse("16:k3e1 conv3|k3e1 skip|24: conv3", space)
    assert [op.out_channels for op in other.layer_ops if op] == [16, 16, 24, 24]
    assert Architecture.from_dict(json.loads(json.dumps(other.to_dict()))) == other
    with pytest.raises(BadRequest, match="stage 2 of elastic must have 24 or 16 or 32 channels"):
        Architecture.parse("8: k3e1 conv3|8: k3e1 skip|16: conv3", space)
    told = mistakes(
        tmp_path, CHOICES + 'sentinel = { name = "s", layers = "k3e1 k3e1|9: k3e1 k3e1|k3e1" }'
    )
    assert "chooses 9 channels, which the stage does not offer; it offers 24, 16, 32" in told[0]


def test_a_skip_may_change_the_shape_only_where_the_space_says_so(tmp_path: Path) -> None:
    text = PLAIN.replace('"conv3"]', '"skip"]').replace("layers = LAYERS", "layers = 2, stride = 2")
    only_identity = SearchSpace.named(write(tmp_path, text))
    assert [len(layer.candidates) for layer in only_identity.layers] == [2, 3]
    projects = SearchSpace.named(write(tmp_path, text + "skip_projection = true\n"))
    assert [len(layer.candidates) for layer in projects.layers] == [3, 3]
    assert "skip_s2_i8_o8_h16_w16" in {op.key for op in projects.unique_ops}


@pytest.mark.parametrize("layers", [2, 60])
def test_small_and_large_spaces_have_networks_to_time(tmp_path: Path, layers: int) -> None:
    text = PLAIN.replace("LAYERS", str(layers))
    space = SearchSpace.named(write(tmp_path, text))
    assert len(space.layers) == layers
    timed = calibration_architectures(space, 20)
    assert len({one.notation for one in timed}) == len(timed) == min(20, 3**layers)
    sentinel = sentinel_of(space)
    assert timed[0] == sentinel == sentinel_of(SearchSpace.named(write(tmp_path, text)))
    macs = sorted(one.macs for one in landmark_networks(space).values())
    assert macs[0] < sentinel.macs < macs[-1]
    drawn = sorted(one.macs for one in varied_architectures(space, 200))
    share = sum(one < sentinel.macs for one in drawn) / len(drawn)
    assert 0.2 <= share <= 0.8  # near the middle


def test_the_shipped_spaces_are_listed() -> None:
    told = json.loads(latbench("space", "list", "--json").stdout)
    names = [
        *("fbnet", "fbnet-cifar", "mobilenetv4-uib", "ofa-mobilenetv3", "proxyless"),
        *("resnet50-ofa", "tutorial"),
    ]
    assert [one["name"] for one in told] == names
    fbnet = next(one for one in told if one["name"] == "fbnet")
    assert (fbnet["layers"], len(fbnet["candidates"]), fbnet["unique_blocks"]) == (22, 9, 96)


def test_show_says_what_programs_rely_on(tmp_path: Path) -> None:
    path = write(tmp_path, EXAMPLE)
    for name in ("fbnet", path):
        told = json.loads(latbench("space", "show", "--space", name, "--json").stdout)
        space = SearchSpace.named(name)
        assert told["name"] == space.name
        assert len(told["layers"]) == len(space.layers)
        assert told["candidates"] == [str(one) for one in space.candidates]
        assert told["unique_blocks"] == len(space.unique_blocks)
        assert [one["key"] for one in told["ops"]] == [op.key for op in space.unique_ops]
    words = ("--space", path, "--input", "20x50", "--channels", "2", "--batch", "4")
    told = json.loads(latbench("space", "show", *words, "--json").stdout)
    assert told["ops"][0]["key"] == "stem_k3_s2_i2_o16_h20_w50_n4"
    assert SearchSpace.from_dict(told["space"]).arguments.split()[2:] == [
        *("--input", "20x50", "--width", "1", "--channels", "2", "--batch", "4"),
    ]


GOLDEN = json.loads((Path(__file__).parent / "golden" / "networks.json").read_text())["nets"]
COUNTED = sorted(GOLDEN.keys() & published_networks().keys())


@pytest.mark.parametrize("name", COUNTED)
def test_published_networks_have_their_counts_to_the_digit(name: str) -> None:
    import torch

    from latbench.space.blocks import build_network

    network, counts = published(name), GOLDEN[name]
    assert (network.macs, network.params) == (counts["macs"], counts["conv_linear_weights"])
    assert network.parameters == counts["params"]
    with torch.device("meta"):
        module = build_network(network).eval()
    assert sum(one.numel() for one in module.parameters()) == counts["params"]
    assert module(torch.zeros(1, 3, 224, 224, device="meta")).shape == (1, 1000)


def test_the_networks_that_have_counts_are_shipped() -> None:
    assert len(COUNTED) >= 14
    told = json.loads(latbench("arch", "show", "mobilenetv3_large_100", "--json").stdout)
    counts = GOLDEN["mobilenetv3_large_100"]
    assert (told["macs"], told["params"]) == (counts["macs"], counts["params"])
    assert told["weights"] == counts["conv_linear_weights"]
    assert told["layers"].count("|") == 8


def test_every_shipped_network_is_one_of_its_space() -> None:
    for name, found in published_networks().items():
        network = published(name)
        assert network.space.name == found.file.name
        assert set(network.ops) <= set(network.space.unique_ops) or found.file.releases
        assert Architecture.from_dict(json.loads(json.dumps(network.to_dict()))) == network


@pytest.mark.parametrize("name", space_names())
def test_ops_of_every_shipped_space_are_counted_as_their_modules_are(name: str) -> None:
    import torch

    space = SearchSpace.named(name)
    with torch.device("meta"):
        for op in space.unique_ops:
            module = op.build().eval()
            assert sum(one.numel() for one in module.parameters()) == op.parameters, op.key
            assert module(torch.zeros(op.input_shape)).shape == op.output_shape, op.key
            assert parse_key(op.key) == op


def test_the_once_for_all_space_is_as_published() -> None:
    space = SearchSpace.named("ofa-mobilenetv3")
    assert [len(layer.candidates) for layer in space.layers] == [9, 9, 10, 10] * 5
    assert space.stem_ops[-1].key == "ds_k3_g1_s1_i16_o16_h112_w112"
    key = "ir_k7_e6_g1_s2_i112_o160_h14_w14_se168_hswish"
    assert space.op(space.layers[16], space.candidate("k7e6")).key == key


@pytest.mark.parametrize(
    ("name", "params"), [("shufflenet_v2_x1_0", 2278604), ("shufflenet_v2_x1_5", 3503624)]
)
def test_shufflenets_have_the_parameters_of_torchvision(name: str, params: int) -> None:
    assert published(name).parameters == params


def test_a_network_of_shuffle_units_keeps_half_of_its_channels() -> None:
    import torch

    op = parse_key("shuffle_k3_s1_i8_o8_h4_w4")
    x = torch.arange(8.0)[None, :, None, None].expand(1, 8, 4, 4)
    passed = op.build().eval()(x)[0, ::2]
    assert torch.equal(passed, x[0, :4])


@pytest.mark.parametrize(
    "token",
    [
        *(
            "k3e6",
            "k5e2.5",
            "k9m40",
            "k3e1g2",
            "k3e6sep",
            "conv3",
            "conv1g2",
            "dw5",
            "f3e4",
            "skip",
        ),
        *("u5x3e4", "u0x0e2", "basic3", "bottle3r0.25", "bottle5r1", "shuffle3", "maxpool3"),
        *("avgpool5",),
    ],
)
def test_a_token_is_of_one_family_and_parses_back(token: str) -> None:
    found = [one for family in FAMILIES.values() if (one := family.of_token(token)) is not None]
    assert [str(one) for one in found] == [token]
    assert parse_token(token) == found[0]


def test_every_family_is_on_the_page() -> None:
    text = PAGE.read_text()
    for name, family in FAMILIES.items():
        assert f"| `{name}` | `{family.example}`" in text
        for field in family.model_fields.keys() - {"name"}:
            assert f"`{field}`" in text, (name, field)


def test_proxyless_has_21_layers_and_identity_skips_only() -> None:
    space = SearchSpace.named("proxyless")
    assert len(space.layers) == 21
    assert all(
        ("skip" in map(str, layer.candidates)) == layer.keeps_shape for layer in space.layers
    )


def test_the_sentinel_of_fbnet_is_the_published_network() -> None:
    space = SearchSpace.named("fbnet")
    assert sentinel_of(space) == published("fbnet_b", space=space)


def test_the_shipped_spaces_do_not_change() -> None:
    """LUTs of schema 4 and before only name them."""
    assert {name: space_file(name).definition.sha256[:16] for name in ("fbnet", "fbnet-cifar")} == {
        "fbnet": "50ddd100352ff6c1",
        "fbnet-cifar": "926725e25a2dc4fc",
    }


# Mistakes


WRONG = """name = "My Space"
classes = 12
input = { channels = 1, size = [40] }
stem = { channel = 16, stride = 2 }
candidates = ["k3e3", "k4e6", "k3e3", "wise"]
stages = [
  { channels = 16, layer = 2 },
  { channels = 0, layers = 3, stride = 2, activation = "hswich" },
]

[blocks.wide]
family = "inverted"
"""


def test_all_mistakes_are_told_at_once_with_line_and_remedy(tmp_path: Path) -> None:
    told = mistakes(tmp_path, WRONG)
    for line, what in {
        "line 1": "name must be lower-case letters and digits",
        "line 3": r"input.size\[2\] is missing",
        "line 4": r"stem.channel is no key here; did you mean channels\?",
        "line 5": r"'k4e6' is no block; write a block like .*, or define \[blocks.k4e6\]",
        "line 7": r"stages\[1\].layer is no key here; did you mean layers\?",
        "line 8": r"stages\[2\].channels must be at least 1, got 0; write for example: channels = 24",
        "line 12": "blocks.wide.family is unknown: 'inverted'; families are",
    }.items():
        assert any(re.match(f"{line}: .*{what}", one) for one in told), what
    assert "head is missing; write for example: head = 1280" in told
    assert any("'k3e3' is there twice" in one for one in told)
    assert any("activation must be" in one and "got 'hswich'" in one for one in told)
    numbers = [int(one.split()[1][:-1]) for one in told if one.startswith("line")]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("input = 16", "input = 0", "line 4: input.size"),
        ("input = 16", "input = [16, 16, 3]", "input.size must have at most 2 values"),
        ("channels = 8, layers", "channels = 9, groups = 2, layers", "2 groups do not divide"),
        ('"conv3"]', '"conv3"]\nstrides = 2', "strides is no key here"),
        ("LAYERS }]", 'LAYERS, se = "x" }]', "se must be a number"),
        ("head = 16", 'head = 16\nsentinel = { name = "s", layers = "k3e1" }', "has 1 layers"),
        (
            "head = 16",
            'head = 16\nsentinel = { name = "s", layers = "k3e1 x" }',
            "'x', which is no",
        ),
        ("head = 16", "head = 16\nnetworks_of = 'nope'", "networks_of is no shipped space"),
        (
            "head = 16",
            'head = 16\nblocks.k3e1 = { family = "conv", kernel = 3 }',
            "a block already",
        ),
        (
            "head = 16",
            'head = 16\nblocks.a = { family = "conv", kernel = 4 }',
            "must be odd, got 4",
        ),
        ("head = 16", 'head = 16\nblocks.a = { family = "conv" }', "kernel is missing"),
        ("name =", "name", "is not TOML"),
    ],
)
def test_each_mistake_is_explained(tmp_path: Path, old: str, new: str, what: str) -> None:
    text = PLAIN.replace(old, new).replace("LAYERS", "2")
    told = mistakes(tmp_path, text)
    assert any(what in one for one in told), told
    with pytest.raises(BadRequest, match="is not a search space") as refused:
        SearchSpace.named(str(tmp_path / "mine.toml"))
    assert refused.value.details == tuple(told)
    assert "latbench space check" in (refused.value.hint or "")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotRead, match=r"nope\.toml"):
        SearchSpace.named(str(tmp_path / "nope.toml"))
    refused = latbench("space", "show", "--space", "fbnett")
    assert refused.exit_code == 2
    assert "did you mean fbnet" in refused.stderr


keys = st.from_regex(r"[a-z]{1,3}", fullmatch=True)
values = st.recursive(
    st.one_of(st.integers(0, 9), st.booleans(), st.text("ab#[]{},=\"'\n", max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + "".join(f"  {toml(one)}, # x = [1]\n" for one in value) + "]"
    return json.dumps(value)


@given(st.dictionaries(keys, values, max_size=4), st.dictionaries(keys, values, max_size=3))
def test_every_key_has_its_line(top: dict[str, object], table: dict[str, object]) -> None:
    text = "".join(f"{key} = {toml(value)}\n" for key, value in top.items())
    text += "\n[[zzzz]]\n[[zzzz]]\n" + "".join(f"{k} = {toml(v)}\n" for k, v in table.items())
    data, lines = tomllib.loads(text), lines_of(text)
    wanted: set[tuple[str | int, ...]] = set()

    def walk(value: object, path: tuple[str | int, ...]) -> None:
        if path:
            wanted.add(path)
        if isinstance(value, dict):
            for key, one in value.items():
                walk(one, (*path, key))
        elif isinstance(value, list):
            for number, one in enumerate(value):
                walk(one, (*path, number))

    walk(data, ())
    assert wanted == set(lines)
    rows = text.splitlines()
    for path, line in lines.items():
        if isinstance(path[-1], str):
            assert path[-1] in rows[line - 1]


# LUTs


def test_a_lut_is_used_where_the_file_of_its_space_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    space = SearchSpace.named(write(tmp_path, EXAMPLE), input_size=(20, 49))
    modelled_lut(space).save(tmp_path / "lut.json")
    path.unlink()
    lut = Lut.load(tmp_path / "lut.json")
    assert lut.search_space == space
    assert lut.space["sha256"] == space.definition.sha256
    for network in (sentinel_of(lut.search_space), *varied_architectures(lut.search_space, 3)):
        assert predict_latency(lut, network).ms > 0
    again = SearchSpace.named(str(tmp_path / "lut.json"), input_size=(20, 49))
    assert again == space
    assert again.arguments.split()[1].endswith("lut.json")


def test_a_lut_of_all_networks_of_a_space_leaves_none_to_validate_with(tmp_path: Path) -> None:
    space = SearchSpace.named(write(tmp_path, PLAIN.replace("LAYERS", "1")))
    timed = tuple(
        TimedNetwork(layers=one.notation, head=one.head, ms=1.0, ci95=(0.9, 1.1))
        for one in calibration_architectures(space, 20)
    )
    correction = Correction(scale=1.0, residual=0.1, networks=len(timed), calibration=timed)
    first = timed[0]
    sentinel = Sentinel(
        architecture=first.layers, head=first.head, ms=1.0, ci95=(0.9, 1.1), visits=9, drift=0.0
    )
    lut = modelled_lut(space, correction=correction).model_copy(update={"sentinel": sentinel})
    with pytest.raises(BadRequest, match="every network of plain that was drawn, so none is left"):
        validate(lut)


def test_an_architecture_carries_its_space(tmp_path: Path) -> None:
    space = SearchSpace.named(write(tmp_path, EXAMPLE))
    (network,) = varied_architectures(space, 1)
    data = json.loads(json.dumps(network.to_dict()))
    assert Architecture.from_dict(data) == network
    data["space"]["definition"]["stages"][0]["channels"] += 8
    with pytest.raises(BadRequest, match="it was edited"):
        Architecture.from_dict(data)
    (tmp_path / "net.json").write_text(json.dumps(network.to_dict()))
    assert read_architecture(str(tmp_path / "net.json"), space) == network


@pytest.mark.parametrize("schema", [1, 4])
def test_luts_of_older_schemas_get_the_space_that_they_name(schema: int) -> None:
    space = SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)
    content = modelled_lut(space).to_dict()
    names = ("name", "input", "width", "classes", "keeps_first_1x1")
    content |= {"schema": schema, "space": {name: content["space"][name] for name in names}}
    assert Lut.from_dict(content, verify=False).search_space == space
    content["space"]["name"] = "unheard-of"
    with pytest.raises(LutRefused) as refused:
        Lut.from_dict(content, verify=False)
    assert "unheard-of" in refused.value.details[0]


def test_a_network_of_another_space_is_refused_by_name(tmp_path: Path) -> None:
    space = SearchSpace.named(write(tmp_path, EXAMPLE))
    with pytest.raises(BadNotation, match="fbnet_b is a network of the search space fbnet, not of"):
        read_architecture("fbnet_b", space)
