"""The flags of LUT entries, and their distance to the roofline."""

import pytest

from latbench.files import shipped
from latbench.lut import Lut
from latbench.lut.flags import FLAGS, best_rates, bytes_of, flagged_entries
from latbench.measure.diagnostics import WARNINGS
from latbench.space import parse_key
from latbench.target import Precision
from tests.lut.test_lut import SPACE, make_lut

LAYER = next(layer for layer in SPACE.layers if layer.stride == 1)


def _key(token: str) -> str:
    op = SPACE.op(LAYER, SPACE.candidate(token))
    assert op is not None
    return op.key


K3, K5, E6 = _key("k3e3"), _key("k5e3"), _key("k3e6")


def _with(key: str, ms: float, half: float, **changes: object) -> Lut:
    lut = make_lut()
    entry = lut.entries[key].model_copy(
        update={"ms": ms, "ci95": (ms - half, ms + half)} | changes  # type: ignore[arg-type]
    )
    return lut.model_copy(update={"entries": lut.entries | {key: entry}})


def _flags(lut: Lut, key: str) -> tuple[str, ...]:
    return next(one.flags for one in flagged_entries(lut) if one.key == key)


def test_a_clean_entry_has_no_flags() -> None:
    assert _flags(make_lut(), K3) == ()


def test_a_wide_interval_is_flagged() -> None:
    assert _flags(_with(K3, 1.0, 0.06), K3) == ("wide",)
    assert "wide" not in _flags(_with(K3, 1.0, 0.04), K3)


def test_warnings_are_flags() -> None:
    assert _flags(_with(K3, 1.0, 0.01, warnings=("bimodal",)), K3) == ("bimodal",)


def test_tainted_trials_are_flagged_only_where_they_outnumber_the_trusted() -> None:
    assert _flags(_with(K3, 1.0, 0.01, rounds=8, tainted=8), K3) == ()
    assert _flags(_with(K3, 1.0, 0.01, rounds=8, tainted=9), K3) == ("tainted 9 of 17",)


def test_an_entry_of_tainted_trials_alone_is_distrusted_and_no_more() -> None:
    lut = _with(K3, 1.0, 0.01, rounds=6, tainted=8, warnings=("distrusted",))
    assert _flags(lut, K3) == ("distrusted",)


def test_the_shipped_luts_repeated_their_tainted_trials() -> None:
    lut = Lut.load(shipped("luts") / "host-amd-epyc.json")
    assert sum(entry.tainted > 0 for entry in lut.entries.values()) == 97
    assert not any("tainted" in one.names for one in flagged_entries(lut))


def test_every_flag_has_a_name_that_is_explained() -> None:
    assert {*WARNINGS, "unresolved", "distrusted"} < set(FLAGS)
    for lut in (
        _with(K5, 0.001, 0.0001, tainted=99, warnings=("step", "trend")),
        make_lut(provenance="imported"),
        make_lut(provenance="modelled"),
    ):
        names = {name for one in flagged_entries(lut) for name in one.names}
        assert names
        assert names <= set(FLAGS)


def test_modelled_entries_are_flagged() -> None:
    lut = make_lut(provenance="modelled")
    assert all(one.flags == ("modelled",) for one in flagged_entries(lut))


@pytest.mark.parametrize(("key", "flag"), [(K5, "faster than k3"), (E6, "faster than e3")])
def test_a_block_faster_than_a_smaller_one_is_flagged_beyond_noise(key: str, flag: str) -> None:
    k3 = make_lut()[K3]
    much = k3.ms / 2
    assert flag in _flags(_with(key, much, much / 100), key)
    assert flag not in _flags(_with(key, k3.ms * 0.99, k3.ms * 0.02), key)  # within noise


def test_the_best_entries_touch_the_roofline() -> None:
    examined = flagged_entries(make_lut())
    assert min(one.over_roofline for one in examined) == pytest.approx(1.0)
    assert all(one.over_roofline > 1 - 1e-9 for one in examined)


def test_the_roofline_is_not_moved_by_a_slow_entry() -> None:
    lut = make_lut()
    worst = max(flagged_entries(lut), key=lambda one: one.over_roofline)
    slow = _with(worst.key, worst.entry.ms * 10, worst.entry.ms / 10)
    assert best_rates(slow) == best_rates(lut)
    now = next(one.over_roofline for one in flagged_entries(slow) if one.key == worst.key)
    assert now == pytest.approx(10 * worst.over_roofline)


def test_unresolved_entries_do_not_move_the_roofline() -> None:
    unresolved = _with(K3, 1e-6, 1e-7, warnings=("unresolved",))
    assert best_rates(unresolved) == best_rates(make_lut())
    assert best_rates(_with(K3, 1e-6, 1e-7)) != best_rates(make_lut())


def test_bytes_are_those_of_input_output_and_weights() -> None:
    op = parse_key("classifier_i1984_o1000")
    assert bytes_of(op, Precision.FP32) == 4 * (1984 + 1000 + 1984 * 1000)
    assert bytes_of(op, Precision.INT8) == 1984 + 1000 + 1984 * 1000
