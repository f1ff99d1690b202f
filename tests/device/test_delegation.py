"""An accelerator that leaves ops in part to the CPU is refused, or reported."""

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from latbench.cli import main
from latbench.errors import LatbenchError
from latbench.files import sha256_of
from latbench.measure import Plan
from latbench.workflows.delegation import require_delegation

pytest.importorskip("adb_shell", reason="pip install adb-shell")
from tests.rigs import fixed_phone
from tests.rigs.device_daemon import DeviceDaemon
from tests.rigs.fault_bench import FaultBench
from tests.rigs.profiles import GALAXY_S8

# The small models that tests/measure has are good here too.
sys.path.append(str(Path(__file__).parents[1] / "measure"))
from measuring import write_model

WHOLE = {"ops": 4, "delegate_nodes": 1, "ops_outside_delegates": 0}
IN_PART = {"ops": 4, "delegate_nodes": 2, "ops_outside_delegates": 2}


@pytest.fixture
def bench(_own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultBench]:
    fixed_phone.equip(_own_home)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    with DeviceDaemon(tmp_path / "phone", GALAXY_S8, map_input=True) as phone:
        yield FaultBench(tmp_path / "bench", phone.address, phone.phone.root)


def covering(bench: FaultBench, plan: Plan, **others: dict[str, int]) -> None:
    """Have the runner say that all workloads but `others` are taken wholly."""
    assert bench.root is not None
    reported = {one.sha256: others.get(one.key, WHOLE) for one in plan.all_workloads}
    fixed_phone.tell(bench.root, coverage=reported)


def test_what_is_left_to_the_cpu_is_refused_or_reported(bench: FaultBench) -> None:
    plan = bench.plan()
    target = plan.target.model_copy(update={"accelerator": "nnapi"})
    part, silent = plan.workloads[1].key, plan.workloads[4].key
    with closing(bench.open()) as device:
        covering(bench, plan)
        whole = require_delegation(device, target, plan.all_workloads, allow_partial=False)
        assert (whole.subjects, whole.fell_back) == (7, {})
        covering(bench, plan, **{part: IN_PART, silent: {}})
        with pytest.raises(
            LatbenchError, match="2 of 7 artifacts do not run wholly on nnapi"
        ) as left:
            require_delegation(device, target, plan.all_workloads, allow_partial=False)
        assert list(left.value.details) == [
            f"{part}: 2 nodes of 4 are left to the CPU",
            f"{silent}: the engine does not report what runs where",
        ]
        assert "--allow-partial" in str(left.value.hint)
        reported = require_delegation(device, target, plan.all_workloads, allow_partial=True)
        assert set(reported.fell_back) == {part, silent}
    bench.require_quiet()


def test_one_model_is_refused_or_measured_likewise(bench: FaultBench) -> None:
    assert bench.root is not None
    model = write_model(bench.root.parent / "model.onnx", 4, 12)
    fixed_phone.tell(bench.root, coverage={sha256_of(model.read_bytes()): IN_PART})

    def measure(*words: str) -> Result:
        command = ["measure", str(model), "--device", "galaxy-s8", "--unit", bench.address]
        return CliRunner().invoke(main, [*command, *words, "--accelerator", "nnapi", "--ci", "5%"])

    refused = measure()
    assert refused.exit_code == 1
    assert "1 of 1 artifacts do not run wholly on nnapi" in refused.output
    assert "2 nodes of 4 are left to the CPU" in refused.output
    done = measure("--allow-partial")
    assert done.exit_code == 0, done.output
    assert "onnx fp32 on nnapi" in done.output
    assert (
        f"fell back on {bench.address}: model.onnx: 2 nodes of 4 are left to the CPU" in done.output
    )
    reported = json.loads(measure("--allow-partial", "--json").output)
    assert reported["target"]["accelerator"] == "nnapi"
    assert list(reported["delegated"][0]["fell_back"]) == ["model.onnx"]
    bench.require_quiet()
