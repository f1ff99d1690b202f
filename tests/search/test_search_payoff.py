"""The verdict of the payoff bench on networks that were searched for several runtimes."""

import pytest

from bench.payoff_tables import Group, verdict
from latbench.target import Runtime

TFLITE, ONNX, TORCH = Runtime.TFLITE, Runtime.ONNX, Runtime.TORCHSCRIPT


def groups(torch_accuracy: float, torch_ms: float) -> dict[Runtime, Group]:
    """Two networks for TFLite, of which the more accurate takes 1 ms there, and one for TorchScript."""
    return {
        TFLITE: Group([0.55, 0.60], {TFLITE: [0.5, 1.0], TORCH: [2.5, 3.0]}),
        TORCH: Group([torch_accuracy], {TFLITE: [torch_ms], TORCH: [2.0]}),
    }


def test_the_figure_is_how_much_longer_the_fastest_of_the_class_takes() -> None:
    told = verdict(TFLITE, groups(0.605, 1.5), 0.005)
    assert "the fastest of their accuracy class, against 1 of 1" in told
    assert "takes 1.50x as long there, in 1 of 2 classes" in told  # 0.55 is another class
    told = verdict(TORCH, groups(0.605, 1.5), 0.005)
    assert "takes 1.50x as long there, in 1 of 1 classes" in told  # 3 ms against 2


def test_in_one_class_the_fastest_of_each_count() -> None:
    told = verdict(TFLITE, groups(0.58, 1.2), 0.05)
    assert "takes 2.40x, 2.40x as long there" in told
    assert "takes 1.25x as long there" in verdict(TORCH, groups(0.58, 1.2), 0.05)


def test_slower_networks_are_said_to_be_slower() -> None:
    told = verdict(TFLITE, groups(0.605, 0.9), 0.01)
    assert "NOT the fastest of their accuracy class: torchscript" in told


@pytest.mark.parametrize("other_ms", [0.985, 1.015])
def test_two_per_cent_are_no_difference(other_ms: float) -> None:
    told = verdict(TFLITE, groups(0.605, other_ms), 0.01)
    assert "as fast as those for torchscript, to 2%" in told
    assert "the fastest of their" not in told


def test_accuracies_that_differ_by_more_than_seeds_do_are_not_compared() -> None:
    # Two standard errors of a difference are 2 * sqrt(2) * 0.01.
    assert "match within 2.8%" in verdict(TFLITE, groups(0.628, 1.5), 0.01)
    assert "against 1 of 1" in verdict(TFLITE, groups(0.628, 1.5), 0.01)
    told = verdict(TFLITE, groups(0.629, 1.5), 0.01)
    assert "no network for torchscript has the accuracy" in told
    assert "no other network is in the accuracy class" in told


def test_one_training_each_does_not_tell_whether_accuracies_match() -> None:
    told = verdict(TFLITE, groups(0.6, 1.5), None)
    assert "unknown whether accuracies match" in told
    assert "3.00x" in told  # than the fastest of all own ones
