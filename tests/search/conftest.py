"""A modelled LUT with realistic numbers, and settings in which a search takes seconds."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from PIL import Image

from fbnet_search.data.datasets import open_data
from fbnet_search.data.images import Box, ImageData, Split
from latbench.lut import Correction, Entry, Lut
from latbench.space import OpSpec, SearchSpace
from latbench.target import Precision, Runtime, Target
from tests.search import tiny

MakeLut = Callable[..., Lut]


def modelled_lut(
    space: SearchSpace,
    *,
    correction: Correction | None = None,
    without: frozenset[str] = frozenset(),
    runtime: Runtime = Runtime.TFLITE,
    factor: Callable[[OpSpec], float] = lambda op: (
        (1.3 if op.kernel == 5 else 1.0) * (1.4 if op.groups > 1 else 1.0)
    ),
) -> Lut:
    """A LUT of `space`: a fixed cost for each op, plus one for each MAC, scaled by `factor`.

    The default factor makes 5x5 and grouped blocks more expensive.
    """
    entries = {}
    for op in space.unique_ops:
        if op.kind in without:
            continue
        ms = 0.004 + 0.25e-6 * factor(op) * op.macs + 2e-7 * op.in_channels * op.height * op.width
        entries[op.key] = Entry(
            ms=ms, ci95=(ms * 0.99, ms * 1.01), samples=80, rounds=4, spread=0.02, macs=op.macs
        )
    return Lut(
        target=Target(device="host", runtime=runtime, precision=Precision.FP32),
        space=space.to_dict(),
        provenance="modelled",
        created=datetime(2026, 11, 24, tzinfo=UTC),
        tool={"latbench": "0.1.0"},
        entries=entries,
        correction=correction,
    )


@pytest.fixture(scope="session")
def make_lut() -> MakeLut:
    """`modelled_lut`, for tests that need another."""
    return modelled_lut


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    """The space of the demo: fbnet-cifar at 16x16 and width 0.35."""
    return SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)


@pytest.fixture(scope="package")
def tiny_space() -> SearchSpace:
    """The smallest space, for searches that run in a test: six layers, 8x8 images."""
    return tiny.tiny_space()


@pytest.fixture(scope="session")
def correction() -> Correction:
    """A correction as calibration gives it."""
    return Correction(scale=1.07, offset_ms=-0.011, residual=0.008, networks=20)


@pytest.fixture(scope="session")
def lut(space: SearchSpace, correction: Correction) -> Lut:
    """A LUT of the demo's space, with a correction."""
    return modelled_lut(space, correction=correction)


@pytest.fixture(scope="package")
def micro_lut(tiny_space: SearchSpace, correction: Correction) -> Lut:
    """A LUT of a space of three layers, for tests of many searches, with a correction."""
    return modelled_lut(tiny.micro_space(), correction=correction)


@pytest.fixture(scope="package")
def tiny_lut(tiny_space: SearchSpace, correction: Correction) -> Lut:
    """A LUT of the smallest space, with a correction."""
    return modelled_lut(tiny_space, correction=correction)


class _Chosen:
    """Some of another split's images."""

    def __init__(self, split: Split, numbers: torch.Tensor) -> None:
        self._split, self._numbers = split, numbers

    @property
    def size(self) -> int:
        return self._split.images.size

    def __len__(self) -> int:
        return len(self._numbers)

    def read(self, numbers: Sequence[int], boxes: Sequence[Box] | None = None) -> torch.Tensor:
        return self._split.images.read(self._numbers[list(numbers)].tolist(), boxes)


@pytest.fixture(scope="session")
def few_digits() -> ImageData:
    """120 real digits to train on and 40 to test on, at 8x8."""
    digits = open_data("digits", 8)

    def first(split: Split, count: int) -> Split:
        return Split(_Chosen(split, torch.arange(count)), split.labels[:count])

    return replace(digits, train=first(digits.train, 120), test=first(digits.test, 40))


@pytest.fixture
def digit_folder(tmp_path: Path) -> Path:
    """An image folder with eight real digits of each of three classes, as PNG files."""
    digits = open_data("digits", 8)
    folder = tmp_path / "images"
    for label in range(3):
        (folder / str(label)).mkdir(parents=True)
        numbers = torch.nonzero(digits.train.labels == label).flatten()[:8].tolist()
        for number, pixels in zip(numbers, digits.train.images.read(numbers), strict=True):
            image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
            image.save(folder / str(label) / f"{number}.png")
    return folder
