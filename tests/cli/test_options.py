"""Values of options: what is typed, what a command gets, and the command that repeats it."""

import click
import pytest
from click.testing import CliRunner

from latbench.cli.again import RepeatableCommand, command_again
from latbench.cli.options import core_list, duration, percentage, shape
from latbench.errors import BadRequest


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (percentage, "1%", 0.01),
        (percentage, "12.5%", 0.125),
        (percentage, "0.05", 0.05),
        (duration, "90", 90),
        (duration, "90s", 90),
        (duration, "10m", 600),
        (duration, "1.5h", 5400),
        (core_list, "4,5", (4, 5)),
        (core_list, "4-7", (4, 5, 6, 7)),
        (core_list, "0,2-3,2", (0, 2, 3)),
        (shape, "1x3x224x224", (1, 3, 224, 224)),
    ],
)
def test_a_value_has_its_unit(kind: object, text: str, value: object) -> None:
    assert kind.convert(text, None, None) == pytest.approx(value)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (percentage, "0%"),
        (percentage, "100%"),
        (percentage, "1"),
        (percentage, "-1%"),
        (duration, "0s"),
        (duration, "1d"),
        (core_list, "7-4"),
        (core_list, "4-"),
        (shape, "0x3"),
        (shape, ""),
    ],
)
def test_what_is_out_of_range_is_refused(kind: object, text: str) -> None:
    with pytest.raises(BadRequest, match="must be"):
        kind.convert(text, None, None)  # type: ignore[attr-defined]


@click.command("measure", cls=RepeatableCommand)
@click.argument("model")
@click.option("--fresh", is_flag=True)
@click.option("--cores")
def _again(model: str, fresh: bool, cores: str | None) -> None:
    click.echo(command_again("--allow-partial", without=("--fresh",)))


def test_a_repeated_command_has_all_that_was_typed_but_what_is_left_out() -> None:
    words = ["my model.onnx", "--fresh", "--cores", "4-7"]
    done = CliRunner().invoke(_again, words)
    assert done.output == "measure 'my model.onnx' --cores 4-7 --allow-partial\n"
