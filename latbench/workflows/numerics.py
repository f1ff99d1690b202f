"""Whether ops compute on a unit what they compute in PyTorch: `latbench profile --verify`.

Every artifact is checked on this machine when it is exported. That a phone's engine, or an accelerator,
computes the same is another question: a LUT of wrong results would be worthless. So the runner is asked
for what an op gives for inputs that both sides make from one seed (docs/runner-protocol.md), and that is
compared with PyTorch's eager output, by the bounds that exports are held to (`latbench.export.check`).
"""

import math
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
from latbench.export.check import FP32_RELATIVE_ERROR, INT8_SNR_NETWORK, INT8_SNR_OP
from latbench.export.exporter import reproducible_module
from latbench.space.opspec import OpSpec
from latbench.target import Precision, Runtime, Target

_SEED = 1  # not that of timed inputs
_SHOWN = 12

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Verified:
    """What an op must compute: its key, the ops in sequence that its artifact holds, and that file."""

    key: str
    ops: tuple[OpSpec, ...]
    path: Path


@dataclass(frozen=True)
class Verification:
    """What a unit computed, against PyTorch in fp32.

    Args:
        errors: by key; fp32: the largest deviation over the largest value; int8: the signal-to-noise
            ratio in dB.
        worst: the key of the worst of them.
    """

    unit: str
    errors: Mapping[str, float]
    worst: str


def require_verifiable(target: Target) -> None:
    """Make sure that what a target computes can be compared.

    Raises:
        BadRequest: it is int8 in ONNX: its inputs do not say what their integers stand for, so that
            runners fill them with zeros, of which nothing can be learnt.
    """
    if (target.runtime, target.precision) == (Runtime.ONNX, Precision.INT8):
        raise BadRequest(
            "what int8 models in ONNX compute on a device cannot be compared with PyTorch",
            hint="leave out --verify, or verify fp32, or int8 with --runtime tflite",
        )


def verify(
    device: Device,
    target: Target,
    ops: Sequence[Verified],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verification:
    """Compare what every op computes on a unit with what PyTorch computes.

    Raises:
        BadRequest: as `require_verifiable`.
        LatbenchError: some are beyond their bounds, or do not run; they are listed.
        DeviceUnavailable: the unit cannot be reached.
    """
    require_verifiable(target)
    errors: dict[str, float] = {}
    wrong: dict[str, str] = {}
    places = device.send([op.path for op in ops])
    with device.open_runner() as runner:
        for number, op in enumerate(ops):
            try:
                errors[op.key] = _error_of(runner, target, op, places[op.path])
            except RunnerFailed as error:
                if not runner.alive:
                    raise
                wrong[op.key] = error.message
            else:
                if not _within(errors[op.key], target, op):
                    wrong[op.key] = _shown(errors[op.key], target)
            progress(number + 1, len(ops))
    if wrong:
        details = [f"{key}: {said}" for key, said in list(wrong.items())[:_SHOWN]]
        more = len(wrong) - len(details)
        raise LatbenchError(
            f"{len(wrong)} of {len(ops)} ops do not compute on {device.unit} what PyTorch computes:",
            details=[*details, f"… and {more} more"] if more else details,
            hint="another version of the engine may: latbench runner install --replace --engine FILE",
        )
    worst = min if target.precision is Precision.INT8 else max
    return Verification(device.unit, errors, worst(errors, key=lambda key: errors[key]))


def bound_of(target: Target, op: Verified) -> float:
    """What an op's error may be: at most, in fp32; at least, in int8."""
    if target.precision is Precision.FP32:
        return FP32_RELATIVE_ERROR
    return INT8_SNR_OP if len(op.ops) == 1 else INT8_SNR_NETWORK


def _within(error: float, target: Target, op: Verified) -> bool:
    bound = bound_of(target, op)
    return error < bound if target.precision is Precision.FP32 else error >= bound


def _shown(error: float, target: Target) -> str:
    if target.precision is Precision.FP32:
        return f"off by {error:.1e}"
    return f"a signal-to-noise ratio of {error:.1f} dB"


def _error_of(runner: RunnerClient, target: Target, op: Verified, place: str) -> float:
    loaded = runner.load(
        place,
        target.runtime,
        threads=target.threads,
        cores=target.cores,
        accelerator=target.accelerator,
        seed=_SEED,
    )
    reply = runner.run(loaded.handle, warmups=0, min_samples=1, max_samples=1, outputs=True)
    runner.unload(loaded.handle)
    if not reply.outputs:
        raise RunnerFailed("run", "refused", "it does not tell outputs")
    actual = _real(reply.outputs[0], target.runtime)
    expected = _expected(op.ops, _input(loaded, target.runtime))
    if actual.shape != expected.shape:
        raise RunnerFailed("run", "refused", f"its output is {actual.shape}, not {expected.shape}")
    noise = actual.astype(np.float64) - expected
    if target.precision is Precision.FP32:
        return float(np.abs(noise).max() / max(float(np.abs(expected).max()), 1e-12))
    power = float((expected.astype(np.float64) ** 2).mean())
    return 10 * math.log10(max(power, 1e-30) / max(float((noise**2).mean()), 1e-30))


def _input(loaded: Loaded, runtime: Runtime) -> Floats:
    """What the runner filled the model's input with, as PyTorch takes it."""
    info = loaded.inputs[0]
    stored = info.sample(_SEED)
    if info.scale is not None:
        stored = info.scale * (stored.astype(np.float64) - (info.zero_point or 0))
    return _channels_first(stored, runtime)


def _real(output: Output, runtime: Runtime) -> Floats:
    """What the runner says a model gave, as PyTorch gives it."""
    values = output.array
    if output.scale is not None:
        values = output.scale * (values.astype(np.float64) - (output.zero_point or 0))
    return _channels_first(values, runtime)


def _channels_first(values: NDArray[np.generic], runtime: Runtime) -> Floats:
    if runtime is Runtime.TFLITE and values.ndim == 4:
        values = values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values, dtype=np.float32)


def _expected(ops: tuple[OpSpec, ...], given: Floats) -> Floats:
    """What PyTorch computes for `given`, with the weights that the artifact has."""
    module, _ = reproducible_module(ops)
    with torch.inference_mode():
        output: Floats = module(torch.from_numpy(given)).numpy()
    return output
