"""A found network in the notation of timm's EfficientNet family, where timm can express it.

timm (Wightman, "PyTorch Image Models") builds such networks from block strings, a list for each stage:
`ir_r2_k3_s1_e6_c24` is two inverted residuals of kernel 3, stride 1, expansion 6 and 24 channels;
`ds` lacks the first 1x1; `cn` is convolution, BN and ReLU, as is a skip that changes the shape. Identity
skips are omitted. timm cannot express grouped 1x1 convolutions, nor a stem with another stride than 2.
"""

import json
from typing import Any

from latbench.errors import BadRequest
from latbench.space import Architecture, OpSpec
from latbench.space.opspec import Activation


def timm_arch_def(architecture: Architecture) -> list[list[str]]:
    """Return timm's `arch_def` for `architecture`: its block strings, a list for each stage.

    Raises:
        BadRequest: timm cannot express it; the details say why.
    """
    space = architecture.space
    lacking = [
        f"layer {number} is {choice}: {what}"
        for number, (choice, op) in enumerate(
            zip(architecture.choices, architecture.layer_ops, strict=True), 1
        )
        if op is not None
        for what in op.timm.lacking
    ]
    if space.stem.stride != 2:
        lacking.append(f"a stem of stride {space.stem.stride}")
    if space.stem.kernel != 3:
        lacking.append(f"a stem of kernel {space.stem.kernel}")
    if space.definition.stem.blocks:
        lacking.append("blocks of the stem")
    if not space.definition.head.channels or space.definition.head.hidden is not None:
        lacking.append("a head that is not one convolution")
    for what, activation in (
        ("stem", space.stem.activation),
        ("head", space.definition.head.activation),
    ):
        if activation is not Activation.RELU:
            lacking.append(f"a {what} with {activation}, where blocks say their own activations")
    if lacking:
        raise BadRequest("timm's block strings cannot express this network:", details=lacking)
    stages: dict[int, list[OpSpec]] = {}
    for layer, op in zip(architecture.layers, architecture.layer_ops, strict=True):
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
        if runs and op.stride == 1 and op.timm == runs[-1][0].timm:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((op, 1))
    return [_string(op, count) for op, count in runs]


def _string(op: OpSpec, count: int) -> str:
    words = op.timm
    return f"{words.kind}_r{count}_{words.kernel}_s{op.stride}{words.rest}"
