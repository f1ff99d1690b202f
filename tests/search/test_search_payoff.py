"""What the payoff bench says of networks that were searched for several runtimes."""

import pytest

from bench.payoff import Group, verdict
from latbench.target import Runtime

TFLITE, ONNX, TORCH = Runtime.TFLITE, Runtime.ONNX, Runtime.TORCHSCRIPT


def groups(torch_accuracy: float, torch_ms: float) -> dict[Runtime, Group]:
    """Two networks for TFLite, which are right on 60 % and take 1 ms there, and two for TorchScript."""
    return {
        TFLITE: Group([0.59, 0.61], {TFLITE: [0.98, 1.02], TORCH: [3.0, 3.0]}),
        TORCH: Group([torch_accuracy, torch_accuracy], {TFLITE: [torch_ms] * 2, TORCH: [2.0, 2.0]}),
    }


def test_the_figure_is_how_much_longer_networks_of_equal_accuracy_take() -> None:
    told = verdict(TFLITE, groups(0.605, 1.5), 0.01)
    assert "the fastest of their accuracy class, against 1 of 1" in told
    assert "1.50x" in told
    assert "1.50x" in verdict(TORCH, groups(0.605, 1.5), 0.01)  # 3 ms against 2


def test_slower_networks_are_said_to_be_slower() -> None:
    told = verdict(TFLITE, groups(0.605, 0.9), 0.01)
    assert "NOT the fastest of their accuracy class: torchscript" in told


@pytest.mark.parametrize("own_ms", [0.985, 1.015])
def test_two_per_cent_are_no_difference(own_ms: float) -> None:
    told = verdict(TFLITE, groups(0.605, own_ms), 0.01)
    assert "as fast as those for torchscript, to 2%" in told
    assert "fastest" not in told


def test_accuracies_that_differ_by_more_than_seeds_do_are_not_compared() -> None:
    # Two standard errors of a difference of means over two networks each are 2 * 0.01.
    assert "accuracies match (within 2.0%)" in verdict(TFLITE, groups(0.619, 1.5), 0.01)
    told = verdict(TFLITE, groups(0.621, 1.5), 0.01)
    assert "accuracies do not match (within 2.0% they would)" in told
    assert "no other networks are of the accuracy class" in told


def test_one_training_each_does_not_tell_whether_accuracies_match() -> None:
    told = verdict(TFLITE, groups(0.6, 1.5), None)
    assert "fastest of their class is not known" in told
    assert "whether accuracies match is not known" in told
