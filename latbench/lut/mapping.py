"""What tables that map a name to a latency have in common: JSON or YAML, read as data, and written as both.

What is written is JSON with one row a line and numbers without exponents, which YAML reads alike.
"""

import json
from collections.abc import Hashable, Mapping
from typing import Any, cast

import numpy as np

from latbench.lut.table import BadTable, Row


def read_mapping(text: str) -> dict[str, Any]:
    """The mapping that JSON or YAML says.

    Raises:
        BadTable: it is neither, is no mapping, or names a row twice.
    """
    try:
        data = json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise BadTable(["it is nested too deeply"]) from None
    except ValueError:
        data = _from_yaml(text)
    if not isinstance(data, dict):
        raise BadTable(["it is no mapping of names to latencies"])
    return {str(name): value for name, value in data.items()}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for name, value in pairs:
        if name in data:
            raise BadTable([f"{name} occurs twice"])
        data[name] = value
    return data


def _from_yaml(text: str) -> Any:
    import yaml

    # Safe loaders build plain data only; that in C is ten times as fast.
    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Refuses a key that occurs twice, which YAML's loaders let pass."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise BadTable([f"line {line}: {key.value} occurs twice"])
                if isinstance(key.value, str):
                    seen.add(key.value)
            return cast(dict[Hashable, Any], super().construct_mapping(node, deep))

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise BadTable([f"{where}{getattr(error, 'problem', None) or error}"]) from None
    except (RecursionError, TypeError):
        raise BadTable(["it is neither JSON nor YAML that holds plain data"]) from None


def rows_of(data: Mapping[str, Any]) -> dict[str, Row]:
    """Rows of `mean`, and of `count`, `std` and `var` where they are; or of bare numbers.

    Raises:
        BadTable: some are neither.
    """
    rows, problems = {}, []
    for name, value in data.items():
        fields = value if isinstance(value, Mapping) else {"mean": value}
        try:
            deviation = None
            if "std" in fields:
                deviation = number(fields["std"])
            elif "var" in fields:
                deviation = max(0.0, number(fields["var"])) ** 0.5
            rows[name] = Row(number(fields["mean"]), int(number(fields.get("count", 0))), deviation)
        except KeyError:
            problems.append(f"{name[:90]}: it has no mean")
        except (TypeError, ValueError, OverflowError):
            problems.append(f"{name[:90]}: mean, count, std and var must be numbers")
    if problems:
        raise BadTable(problems)
    return rows


def number(value: Any) -> float:
    """A number, or the text of one: YAML 1.1 takes 1e-05 for text.

    Raises:
        TypeError, ValueError: it is neither.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return float(value)


def mapping_text(rows: Mapping[str, Row]) -> str:
    """`rows` as JSON that is YAML too."""
    return (
        "{\n" + ",\n".join(f"{json.dumps(n)}: {_fields(row)}" for n, row in rows.items()) + "\n}\n"
    )


def _fields(row: Row) -> str:
    fields = {"count": str(row.count)} if row.count else {}
    fields["mean"] = positional(row.ms)
    if row.deviation is not None:
        fields["std"] = positional(row.deviation)
    return "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"


def positional(value: float) -> str:
    """The shortest text that is exactly `value`, without an exponent."""
    return np.format_float_positional(value, trim="0")
