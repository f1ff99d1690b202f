"""The published JSON Schemas are those of the models, and the files that latbench writes obey them."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from latbench.cli import main
from latbench.report.json_schemas import PUBLISHED_MODELS, json_schema, write_schemas
from tests.docs.pages import DOCS, ROOT

LUTS = sorted((ROOT / "luts").glob("*.json"))


def check(name: str, document: Any) -> None:
    """Validate against the published file."""
    schema = json.loads((DOCS / "schemas" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(document)


@pytest.mark.parametrize("name", PUBLISHED_MODELS)
def test_published_schemas_are_those_of_the_models(name: str) -> None:
    published = json.loads((DOCS / "schemas" / f"{name}.schema.json").read_text())
    assert published == json_schema(name), (
        "write them again: python -m latbench.report.json_schemas docs/schemas"
    )


def test_schemas_can_be_written_again(tmp_path: Path) -> None:
    assert {path.name for path in write_schemas(tmp_path)} == {
        path.name for path in (DOCS / "schemas").iterdir()
    }


@pytest.mark.parametrize("path", LUTS, ids=lambda path: path.stem)
def test_shipped_luts_obey_their_schema(path: Path) -> None:
    document = json.loads(path.read_text())
    check("lut", document)
    with pytest.raises(jsonschema.ValidationError):
        check("lut", document | {"entries": {"op": {"ms": -1}}})


def test_shown_entries_obey_their_schema() -> None:
    lut = str(ROOT / "luts" / "host-amd-epyc.json")
    done = CliRunner().invoke(main, ["show", lut, "--json", "--sort", "ms", "--top", "5"])
    document = json.loads(done.stdout)
    assert len(document) == 5
    check("shown-entries", document)
    with pytest.raises(jsonschema.ValidationError):
        check("shown-entries", [document[0] | {"ms": "1"}])


def test_drift_reports_obey_their_schema() -> None:
    lut = str(ROOT / "luts" / "host-amd-epyc.json")
    other = str(ROOT / "luts" / "host-amd-epyc-onnx-fp32.json")
    for current in (lut, other):
        done = CliRunner().invoke(main, ["drift", lut, current, "--json"])
        check("drift-report", json.loads(done.stdout))


def test_architectures_obey_their_schema() -> None:
    done = CliRunner().invoke(main, ["arch", "show", "fbnet_a", "--json"])
    document = json.loads(done.stdout)
    check("architecture", document)
    with pytest.raises(jsonschema.ValidationError):
        check("architecture", document | {"layers": 3})
