"""A found network in the notation of timm's EfficientNet family, where timm can express it.

timm (Wightman, "PyTorch Image Models") builds such networks from block strings, a list for each stage:
`ir_r2_k3_s1_e6_c24` is two inverted residuals of kernel 3, stride 1, expansion 6 and 24 channels;
`ds` lacks the first 1x1; `cn` is convolution, BN and ReLU, as is a skip that changes the shape. Identity
skips are omitted. timm cannot express grouped 1x1 convolutions, nor a stem with another stride than 2.
"""

import json
from typing import Any

from latbench.errors import BadRequest
from latbench.space import Architecture, OpKind, OpSpec

_KINDS = {OpKind.INVERTED_RESIDUAL: "ir", OpKind.DEPTHWISE_SEPARABLE: "ds", OpKind.SKIP: "cn"}


def timm_arch_def(architecture: Architecture) -> list[list[str]]:
    """Return timm's `arch_def` for `architecture`: its block strings, a list for each stage.

    Raises:
        BadRequest: timm cannot express it; the details say why.
    """
    space = architecture.space
    lacking = [
        f"layer {number} is {choice}: 1x1 convolutions in groups"
        for number, choice in enumerate(architecture.choices, 1)
        if choice.groups > 1
    ]
    lacking += [
        f"layer {number} is {choice}: two depthwise convolutions"
        for number, choice in enumerate(architecture.choices, 1)
        if choice.separable
    ]
    if space.macro.stem_stride != 2:
        lacking.append(f"a stem of stride {space.macro.stem_stride}")
    if lacking:
        raise BadRequest("timm's block strings cannot express this network:", details=lacking)
    stages: dict[int, list[OpSpec]] = {}
    for layer, op in zip(space.layers, architecture.layer_ops, strict=True):
        if op is not None:
            stages.setdefault(layer.stage, []).append(op)
    return [_strings(ops) for ops in stages.values()]


def timm_file(architecture: Architecture) -> str:
    """Return JSON with the `arch_def` and the other arguments of timm's EfficientNet.

    Raises:
        BadRequest: as `timm_arch_def`.
    """
    space = architecture.space
    content: dict[str, Any] = {
        "arch_def": timm_arch_def(architecture),
        "stem_size": space.stem.out_channels,
        "fix_stem": True,
        "num_features": architecture.head,
        "num_classes": space.classes,
        "act_layer": "relu",
        "input_size": [3, space.input_size, space.input_size],
    }
    return json.dumps(content, indent=1) + "\n"


def _strings(ops: list[OpSpec]) -> list[str]:
    """One string for each run of equal blocks; only the first block of a run has the stride."""
    runs: list[tuple[OpSpec, int]] = []
    for op in ops:
        if runs and op.stride == 1 and _kind(op) == _kind(runs[-1][0]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((op, 1))
    return [_string(op, count) for op, count in runs]


def _string(op: OpSpec, count: int) -> str:
    expansion = "" if op.kind is OpKind.SKIP else f"_e{op.expansion}"
    return f"{_KINDS[op.kind]}_r{count}_k{op.kernel}_s{op.stride}{expansion}_c{op.out_channels}"


def _kind(op: OpSpec) -> tuple[OpKind, int, int, int]:
    return op.kind, op.kernel, op.expansion, op.out_channels
