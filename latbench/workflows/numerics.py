"""Check numerics on a unit: `latbench profile --verify`.

Every artifact is checked on this machine when it is exported. Whether a phone's engine or an accelerator
computes the same is another question, and a LUT of wrong results would be worthless. So the runner returns
the outputs of each op for inputs that both sides make from one seed (docs/runner-protocol.md), and they are
compared with PyTorch's eager outputs, within the same bounds as exports (`latbench.export.check`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from latbench.device.base import Device
from latbench.device.protocol.client import Loaded, RunnerClient
from latbench.device.protocol.messages import Output
from latbench.errors import BadRequest, LatbenchError, RunnerFailed
from latbench.export.check import Bound, output_error
from latbench.export.exporter import reproducible_module
from latbench.runtime.descriptor import RuntimeDescriptor
from latbench.runtime.registry import descriptor
from latbench.space.opspec import OpSpec
from latbench.target import Precision, Runtime, Target

_SEED = 1  # timed inputs have another
_SHOWN = 12

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Verified:
    """An op to check: its key, the ops in sequence that its artifact contains, and that file."""

    key: str
    ops: tuple[OpSpec, ...]
    path: Path


@dataclass(frozen=True)
class Verification:
    """The numerics of a unit, against PyTorch in fp32.

    Args:
        errors: by key; floats: the relative error; int8: the signal-to-noise ratio in dB.
        worst: the key of the worst of them.
    """

    unit: str
    errors: Mapping[str, float]
    worst: str


def require_verifiable(target: Target) -> None:
    """Check that the outputs of a target can be compared with PyTorch's.

    Raises:
        BadRequest: its int8 models declare no scales for their inputs, so that runners fill them with
            zeros, which test nothing.
    """
    if target.precision is Precision.INT8 and not descriptor(target.runtime).declares_scales:
        able = next(
            runtime
            for runtime in Runtime
            if descriptor(runtime).declares_scales
            and Precision.INT8 in descriptor(runtime).precisions
        )
        raise BadRequest(
            f"cannot check numerics of {descriptor(target.runtime).files} in int8 on a device: "
            "their inputs declare no scales",
            hint=f"leave out --verify, or use --precision fp32 or --runtime {able}",
        )


def verify(
    device: Device,
    target: Target,
    ops: Sequence[Verified],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verification:
    """Compare the outputs of every op on a unit with PyTorch's.

    Raises:
        BadRequest: as `require_verifiable`.
        LatbenchError: some are beyond their bounds or do not run; they are listed.
        DeviceUnavailable: the unit cannot be reached.
    """
    require_verifiable(target)
    errors: dict[str, float] = {}
    wrong: dict[str, str] = {}
    paths = device.send([op.path for op in ops])
    with device.open_runner() as runner:
        for number, op in enumerate(ops):
            try:
                errors[op.key] = _error_of(runner, target, op, paths[op.path])
            except RunnerFailed as error:
                if not runner.alive:
                    raise
                wrong[op.key] = error.message
            else:
                bound = Bound.of(target.precision, ops=len(op.ops))
                if not bound.holds(errors[op.key]):
                    wrong[op.key] = bound.describe(errors[op.key])
            progress(number + 1, len(ops))
    if wrong:
        details = [f"{key}: {reason}" for key, reason in list(wrong.items())[:_SHOWN]]
        more = len(wrong) - len(details)
        raise LatbenchError(
            f"outputs of {len(wrong)} of {len(ops)} ops on {device.unit} deviate from PyTorch's:",
            details=[*details, f"… and {more} more"] if more else details,
            hint="try another version of the engine: "
            "latbench runner install --replace --engine FILE",
        )
    worst = min if target.precision is Precision.INT8 else max
    return Verification(device.unit, errors, worst(errors, key=lambda key: errors[key]))


def _error_of(runner: RunnerClient, target: Target, op: Verified, path: str) -> float:
    loaded = runner.load(
        path,
        target.runtime,
        threads=target.threads,
        cores=target.cores,
        accelerator=target.accelerator,
        seed=_SEED,
    )
    reply = runner.run(loaded.handle, warmups=0, min_samples=1, max_samples=1, outputs=True)
    runner.unload(loaded.handle)
    if not reply.outputs:
        raise RunnerFailed("run", "refused", "it does not return outputs")
    described = descriptor(target.runtime)
    actual = _output(reply.outputs[0], described)
    expected = _expected(op.ops, _input(loaded, described))
    try:
        return output_error(actual, expected, target.precision)
    except ValueError as differs:
        raise RunnerFailed("run", "refused", str(differs)) from None


def _input(loaded: Loaded, described: RuntimeDescriptor) -> Floats:
    """The real values that the runner filled the model's input with, NCHW."""
    info = loaded.inputs[0]
    values = info.sample(_SEED)
    if info.scale is not None:
        values = info.scale * (values.astype(np.float64) - (info.zero_point or 0))
    return np.ascontiguousarray(described.to_nchw(values), dtype=np.float32)


def _output(output: Output, described: RuntimeDescriptor) -> Floats:
    """The real values of an output, NCHW."""
    values = output.array
    if output.scale is not None:
        values = output.scale * (values.astype(np.float64) - (output.zero_point or 0))
    return np.ascontiguousarray(described.to_nchw(values), dtype=np.float32)


def _expected(ops: tuple[OpSpec, ...], given: Floats) -> Floats:
    """PyTorch's output for `given`, with the weights of the artifact."""
    module, _ = reproducible_module(ops)
    with torch.inference_mode():
        output: Floats = module(torch.from_numpy(given)).numpy()
    return output
