"""A target request selects a target and its units."""

import pytest

import latbench
from latbench import TargetRequest
from latbench.device.registry import ANY_UNIT
from latbench.errors import BadRequest
from latbench.runtime.formats import Runtime
from latbench.target import Precision, Target
from latbench.workflows.target import open_target


def test_a_name_stands_for_the_defaults_of_that_device() -> None:
    with open_target("host") as named, open_target(TargetRequest(device="host")) as requested:
        assert named.target == requested.target
        assert named.entry.name == "host"
        assert named.target.accelerator == "cpu"


def test_all_fields_reach_the_target() -> None:
    request = TargetRequest(
        runtime=Runtime.ONNX, precision=Precision.INT8, threads=1, cores=(0,), accelerator="xnnpack"
    )
    with open_target(request) as opened:
        assert opened.target == Target(
            device="host",
            runtime=Runtime.ONNX,
            precision=Precision.INT8,
            accelerator="xnnpack",
            threads=1,
            cores=(0,),
        )
        assert TargetRequest.repeat(opened.target) == request


def test_a_target_without_cores_is_repeated_with_the_current_default() -> None:
    with open_target("host") as today:
        recorded = today.target.model_copy(update={"cores": ()})
        with open_target(TargetRequest.repeat(recorded)) as again:
            assert again.target == today.target


def test_a_request_selects_a_unit() -> None:
    with pytest.raises(BadRequest, match="at least 1 unit, got 0"):
        TargetRequest(units=())


def test_a_single_unit_is_required_where_one_is_measured_on() -> None:
    with (
        open_target(TargetRequest(units=(ANY_UNIT, ANY_UNIT))) as opened,
        pytest.raises(BadRequest, match="takes 1 unit, got 2") as refused,
    ):
        _ = opened.unit
    assert "--unit" in str(refused.value.hint)


def test_the_package_offers_it() -> None:
    assert latbench.TargetRequest is TargetRequest
    assert "TargetRequest" in latbench.__all__
