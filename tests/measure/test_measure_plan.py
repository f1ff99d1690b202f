import dataclasses
from pathlib import Path

import pytest
from measuring import QUICK

from latbench.errors import BadRequest
from latbench.measure import Plan, Role, Settings, Workload
from latbench.target import Precision, Runtime, Target

TARGET = Target(device="host", runtime=Runtime.ONNX, precision=Precision.FP32)
OPS = tuple(Workload(f"op{n}", Role.OP, Path(f"op{n}.onnx"), f"{n:064x}") for n in range(50))
NETWORK = Workload("network", Role.SENTINEL, Path("network.onnx"), "f" * 64)
PLAN = Plan(TARGET, OPS, NETWORK)


def test_identity_depends_on_everything_that_results_depend_on() -> None:
    moved = tuple(dataclasses.replace(op, path=Path("/elsewhere") / op.path) for op in OPS[::-1])
    same = [
        Plan(TARGET, moved, NETWORK),
        Plan(TARGET, OPS, NETWORK, Settings(budget_s=5)),
        Plan(TARGET, OPS, NETWORK, Settings(timeout_s=5)),
    ]
    assert {plan.identity for plan in same} == {PLAN.identity}
    others = [
        Plan(TARGET.model_copy(update={"threads": 2}), OPS, NETWORK),
        Plan(TARGET.model_copy(update={"cores": (1,)}), OPS, NETWORK),
        Plan(TARGET, OPS[1:], NETWORK),
        Plan(TARGET, OPS),
        Plan(TARGET, (dataclasses.replace(OPS[0], sha256="e" * 64), *OPS[1:]), NETWORK),
        Plan(TARGET, (dataclasses.replace(OPS[0], input_shapes=((1, 3),)), *OPS[1:]), NETWORK),
        Plan(TARGET, OPS, NETWORK, Settings(ci=0.02)),
        Plan(TARGET, OPS, NETWORK, Settings(seed=1)),
        Plan(TARGET, OPS, NETWORK, QUICK),
    ]
    assert len({PLAN.identity, *(plan.identity for plan in others)}) == 1 + len(others)


def test_identity_does_not_change_between_releases_by_accident() -> None:
    # A changed identity makes every journal there is start anew: change it knowingly.
    assert PLAN.identity == "9fd862fed21be87b2a45235ec535a22e92906b859fe030108314a5a95bb265e2"


def test_each_round_has_its_own_reproducible_order() -> None:
    orders = [PLAN.order(number) for number in range(20)]
    assert orders == [PLAN.order(number) for number in range(20)]
    assert all(sorted(op.key for op in order) == sorted(op.key for op in OPS) for order in orders)
    assert len(set(orders)) == 20
    assert Plan(TARGET, OPS[::-1], NETWORK).order(3) == orders[3]
    assert Plan(TARGET, OPS, NETWORK, Settings(seed=1)).order(3) != orders[3]


def test_over_many_rounds_every_workload_comes_early_and_late() -> None:
    places = [PLAN.order(number).index(OPS[0]) for number in range(400)]
    # Uniform on 0..49: mean 24.5, standard deviation 14.4; four standard errors of 400.
    assert sum(places) / 400 == pytest.approx(24.5, abs=4 * 14.4 / 20)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ci": 0},
        {"ci": 1.5},
        {"min_rounds": 3},
        {"max_rounds": 5},
        {"max_retakes": 0},
        {"warmups": -1},
        {"network_min_samples": 0},
        {"runners": 17},
        {"budget_s": 0},
        {"min_samples": 0},
        {"min_samples": 300},
        {"sentinel_every": 0},
        {"seconds": -1},
        {"timeout_s": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadRequest, match=f"^{next(iter(wrong))} must be .*, got"):
        Settings(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_invalid_plans_are_refused() -> None:
    with pytest.raises(BadRequest, match="at least 1 workload, got 0"):
        Plan(TARGET, ())
    with pytest.raises(BadRequest, match="two are 'op0'"):
        Plan(TARGET, (OPS[0], OPS[0]))
    with pytest.raises(BadRequest, match="role"):
        Plan(TARGET, (NETWORK,))
    with pytest.raises(BadRequest, match="role"):
        Plan(TARGET, OPS[1:], OPS[0])
