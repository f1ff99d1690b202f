"""Calibration with whole networks, on latencies whose truth is known."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from latbench.lut import Entry, Lut, predict_latency
from latbench.lut.calibrate import calibrate, networks_of, posterior_of
from latbench.lut.predict import predict_ops
from latbench.lut.regression import MIN_AFFINE, fit, learn_deviations
from latbench.lut.schema import TimedNetwork
from latbench.space import Architecture, SearchSpace
from latbench.space.boundaries import Boundary, boundary_values
from latbench.space.design import calibration_architectures, varied_architectures
from latbench.space.sandwich import frames_of, sandwich_of
from latbench.space.traits import Trait
from tests.lut.test_lut import make_lut

CANDIDATES = SearchSpace.named("fbnet").candidates
SENTINEL = "fbnet_b"

SPACE = SearchSpace.named("fbnet")
SCALE, OFFSET, NOISE = 1.08, 0.25, 0.005


class World:
    """A device whose networks take scale times factor times entry, an offset, boundary costs and some noise.

    `costs` is the cost of a million values at each boundary, ms; ops with an input of `slow_size` pixels take
    10 % longer than their entries say.
    """

    def __init__(
        self,
        *,
        entry_deviation: float,
        seed: int = 0,
        costs: dict[Boundary, float] | None = None,
        slow_size: int | None = None,
    ) -> None:
        self._costs = costs or {}
        self._rng = random.Random(seed)
        self.entries = {
            op.key: Entry(
                ms=(ms := 0.01 + op.macs / 4e7),
                ci95=(0.995 * ms, 1.005 * ms),
                samples=100,
                rounds=6,
                spread=0.01,
                macs=op.macs,
            )
            for op in SPACE.unique_ops
        }
        self._factors = {key: self._rng.gauss(1, entry_deviation) for key in sorted(self.entries)}
        for op in SPACE.unique_ops:
            self._factors[op.key] *= 1.1 if op.height == slow_size else 1.0

    def ms(self, network: Architecture) -> float:
        body = sum(self._factors[op.key] * self.entries[op.key].ms for op in network.ops)
        made = boundary_values(network.ops)
        passing = sum(ms * made[kind] / 1e6 for kind, ms in self._costs.items())
        return (OFFSET + SCALE * body + passing) * self._rng.gauss(1, NOISE)

    def timed(self, networks: list[Architecture]) -> list[TimedNetwork]:
        found = []
        for network in networks:
            ms = self.ms(network)
            found.append(
                TimedNetwork(layers=network.notation, head=network.head, ms=ms, ci95=(ms, ms))
            )
        return found

    def lut(self, networks: list[Architecture]) -> Lut:
        correction = calibrate(self.entries, self.timed(networks), SPACE)
        lut = make_lut(space=SPACE.to_dict(), entries=self.entries, correction=correction)
        return lut.model_copy(update={"sentinel": None})


def _errors(world: World, lut: Lut, seed: int) -> np.ndarray:
    others = varied_architectures(SPACE, 60, seed=seed)
    return np.array([predict_latency(lut, one).ms / world.ms(one) - 1 for one in others])


def test_scale_and_offset_are_found() -> None:
    world = World(entry_deviation=0.0)
    correction = world.lut(calibration_architectures(SPACE, 20)).correction
    assert correction is not None
    assert correction.networks == 20
    assert correction.scale == pytest.approx(SCALE, rel=0.01)
    assert correction.offset_ms == pytest.approx(OFFSET, abs=0.1)
    assert abs(_errors(world, world.lut(calibration_architectures(SPACE, 20)), 5)).max() < 0.03


def test_boundary_costs_are_found() -> None:
    costs = dict(zip(Boundary, (0.9, -0.5, -0.7), strict=True))
    world = World(entry_deviation=0.0, costs=costs)
    timed = calibration_architectures(SPACE, 24)
    assert all(boundary_values([op for one in timed for op in one.ops])[kind] for kind in Boundary)
    lut = world.lut(timed)
    assert lut.correction is not None
    assert lut.correction.boundary_costs == pytest.approx(costs, abs=0.4)
    without = calibrate(world.entries, lut.correction.calibration, SPACE, boundary_costs=False)
    found = abs(_errors(world, lut, 5))
    left = abs(_errors(world, lut.model_copy(update={"correction": without}), 5))
    assert found.max() < 0.03
    assert found.mean() < 0.6 * left.mean()


def test_intervals_include_the_uncertainty_of_boundary_costs() -> None:
    costs = dict(zip(Boundary, (0.9, -0.5, -0.7), strict=True))
    world = World(entry_deviation=0.0, costs=costs)
    lut = world.lut(calibration_architectures(SPACE, 12))
    assert lut.correction is not None
    (grouped,) = [n for n, one in enumerate(CANDIDATES) if str(one) == "k5e1g2"]
    widest = Architecture(SPACE, (CANDIDATES[grouped],) * len(SPACE.layers), SPACE.heads[0])
    sure = lut.correction.model_copy(update={"boundary_deviation": 0.0})
    certain, doubted = (
        predict_latency(lut.model_copy(update={"correction": one}), widest)
        for one in (sure, lut.correction)
    )
    assert certain.ms == doubted.ms
    assert doubted.high / doubted.low > 1.005 * certain.high / certain.low


def test_no_boundary_costs_are_fitted_where_there_are_none() -> None:
    for seed in range(5):
        world = World(entry_deviation=0.0, seed=seed)
        correction = world.lut(calibration_architectures(SPACE, 20)).correction
        assert correction is not None
        assert correction.boundary_costs == {}


def test_a_resolution_that_deviates_is_corrected() -> None:
    world = World(entry_deviation=0.0, slow_size=112)
    lut = world.lut(calibration_architectures(SPACE, 20))
    assert lut.correction is not None
    assert lut.correction.trait_deviations[Trait.RESOLUTION] > 0.01
    alone = calibrate(world.entries, lut.correction.calibration, SPACE, traits=False)
    found = abs(_errors(world, lut, 5)).mean()
    left = abs(_errors(world, lut.model_copy(update={"correction": alone}), 5)).mean()
    assert found < 0.8 * left


def test_traits_are_dropped_where_there_are_none() -> None:
    found = 0
    for seed in range(5):
        world = World(entry_deviation=0.0, seed=seed)
        correction = world.lut(calibration_architectures(SPACE, 20)).correction
        assert correction is not None
        found += len(correction.trait_deviations)
    # Four traits, five worlds; noise may look like one of them now and then.
    assert found <= 3


def test_intervals_are_as_wide_as_the_errors_of_networks_left_out() -> None:
    world = World(entry_deviation=0.03)
    timed = world.timed(calibration_architectures(SPACE, 16))
    networks = networks_of(timed, SPACE)
    learnt = learn_deviations(world.entries, networks, [])
    refitted = []
    for left_out in networks:
        others = [network for network in networks if network is not left_out]
        found = fit(world.entries, others, learn_deviations(world.entries, others, []).deviations)
        lut = make_lut(space=SPACE.to_dict(), entries=world.entries).model_copy(
            update={"sentinel": None}
        )
        fitted = calibrate(
            world.entries,
            [one for one, network in zip(timed, networks, strict=True) if network is not left_out],
            SPACE,
            entry_factors=False,
            traits=False,
            boundary_costs=False,
        )
        ms = lut.model_copy(update={"correction": fitted}).network_ms(left_out.ops)
        refitted.append((left_out.ms - ms) / left_out.ms / found.deviation(left_out.ops, ms))
    assert learnt.left_out == pytest.approx(np.array(refitted), abs=0.25)
    correction = calibrate(world.entries, timed, SPACE)
    assert correction is not None
    assert correction.interval_factor >= 1


def test_deviating_entries_are_corrected() -> None:
    world = World(entry_deviation=0.08)
    calibrated = abs(_errors(world, world.lut(calibration_architectures(SPACE, 20)), 5)).mean()
    scaled = abs(_errors(world, world.lut(calibration_architectures(SPACE, 1)), 5)).mean()
    # 20 networks cannot determine 109 factors, but those of the expensive entries.
    assert calibrated < 0.75 * scaled


def test_intervals_cover_networks_that_were_not_fitted() -> None:
    covered, total = 0, 0
    for seed in range(6):
        world = World(entry_deviation=0.05, seed=seed)
        lut = world.lut(calibration_architectures(SPACE, 12))
        for network in varied_architectures(SPACE, 50, seed=100 + seed):
            prediction = predict_latency(lut, network)
            covered += prediction.low <= world.ms(network) <= prediction.high
            total += 1
    # 300 draws at 95 %: five standard errors are 6 points. Few fitted networks make it wider.
    assert covered / total > 0.89
    assert math.log(prediction.high / prediction.low) < 0.25  # and are not wide for it


def test_intervals_have_students_quantile_and_a_networks_noise() -> None:
    lut = World(entry_deviation=0.02).lut(calibration_architectures(SPACE, MIN_AFFINE))
    assert lut.correction is not None
    correction = lut.correction.model_copy(update={"interval_factor": 1.3})
    lut = lut.model_copy(update={"correction": correction})
    networks = networks_of(correction.calibration, SPACE)
    posterior = posterior_of(lut.entries, correction, SPACE)
    for fitted in networks:
        ms = lut.network_ms(fitted.ops)
        deviation = posterior.deviation(fitted.ops, ms)
        # The fit of a network that it was fitted to is surer than a measurement of it.
        assert correction.residual < deviation < math.sqrt(2) * correction.residual
        prediction = predict_ops(lut, fitted.ops, "a network")
        # Student's t with 8 degrees of freedom: scale and offset cost one each.
        width = 2.306 * correction.interval_factor * math.hypot(deviation, correction.between_runs)
        assert math.log(prediction.high / ms) == pytest.approx(width, rel=1e-3)
        assert math.log(ms / prediction.low) == pytest.approx(width, rel=1e-3)


def test_the_residual_of_a_single_network_is_its_disagreement() -> None:
    world = World(entry_deviation=0.0)
    (network,) = calibration_architectures(SPACE, 1)
    correction = calibrate(world.entries, world.timed([network]), SPACE)
    assert correction is not None
    assert correction.scale > 1.05  # SCALE, and the offset's share
    assert correction.residual == pytest.approx(correction.scale - 1)


def test_the_residual_of_few_networks_is_not_believed() -> None:
    """109 free entries explain 12 networks almost perfectly; the prior of sigma corrects for that."""
    networks = calibration_architectures(SPACE, 12)
    for seed in range(4):
        correction = World(entry_deviation=0.05, seed=seed).lut(networks).correction
        assert correction is not None
        assert correction.residual > NOISE


def test_few_networks_give_a_scale_and_no_offset() -> None:
    world = World(entry_deviation=0.02)
    correction = world.lut(calibration_architectures(SPACE, MIN_AFFINE - 1)).correction
    assert correction is not None
    assert correction.offset_ms == 0


def test_the_correction_survives_the_file_and_predicts_the_same(tmp_path: Path) -> None:
    world = World(entry_deviation=0.05)
    lut = world.lut(calibration_architectures(SPACE, 12))
    lut.save(tmp_path / "lut.json")
    again = Lut.load(tmp_path / "lut.json")
    network = varied_architectures(SPACE, 1, seed=3)[0]
    assert predict_latency(again, network) == predict_latency(lut, network)


def test_corrected_entries_add_up_to_the_prediction() -> None:
    world = World(entry_deviation=0.05)
    lut = world.lut(calibration_architectures(SPACE, 15))
    for network in varied_architectures(SPACE, 5, seed=3):
        summed = lut.offset_ms + sum(lut.corrected_ms(op) for op in network.ops)
        assert predict_latency(lut, network).ms == pytest.approx(summed)


def test_a_network_whose_ops_lack_entries_is_left_out() -> None:
    world = World(entry_deviation=0.0)
    timed = world.timed(calibration_architectures(SPACE, 3))
    entries = dict(world.entries)
    del entries[SPACE.stem.key]
    assert calibrate(entries, timed, SPACE) is None


def test_the_design_opens_with_the_sentinel_and_is_reproducible() -> None:
    networks = calibration_architectures(SPACE, 12)
    assert networks[0].name == SENTINEL
    assert networks == calibration_architectures(SPACE, 20)[:12]
    assert len({network.notation for network in networks}) == 12
    sizes = [network.macs for network in networks]
    assert max(sizes) > 2.5 * min(sizes)


def test_most_calibration_networks_are_drawn_at_random() -> None:
    """So that networks left out of the fit err like other random networks."""
    networks = calibration_architectures(SPACE, 12)
    first_drawn = set(varied_architectures(SPACE, 9, seed=-1))
    assert sum(network in first_drawn for network in networks) == 9


def test_other_seeds_vary_other_networks() -> None:
    first, second = (varied_architectures(SPACE, 4, seed=seed) for seed in (0, 1))
    assert first == varied_architectures(SPACE, 4, seed=0)
    assert not set(first) & set(second)


def test_the_design_beats_chance() -> None:
    def spread(choose: Callable[[int], list[Architecture]]) -> float:
        errors = []
        for seed in range(8):
            world = World(entry_deviation=0.05, seed=seed)
            errors.append(abs(_errors(world, world.lut(choose(seed)), 50 + seed)).mean())
        return float(np.mean(errors))

    designed = spread(lambda seed: calibration_architectures(SPACE, 12))
    drawn = spread(lambda seed: varied_architectures(SPACE, 12, seed=seed))
    assert designed < drawn


def test_every_op_has_the_frames_that_its_sandwich_has() -> None:
    for op in SPACE.unique_ops:
        chain = sandwich_of(op)
        assert op in chain
        assert Counter(frames_of(op)) == Counter(other for other in chain if other != op)
        for first, second in itertools.pairwise(chain):
            assert first.output_shape == second.input_shape


def test_only_blocks_and_skips_have_a_frame_on_either_side() -> None:
    expected = {
        "stem": [False, True],
        "head": [True, False],
        "pool": [False, False],
        "classifier": [False, False],
    }
    for op in SPACE.unique_ops:
        before, after = expected.get(op.kind, [True, True])
        chain = sandwich_of(op)
        assert len(chain) == len(frames_of(op)) + 1 == before + after + 1
        assert chain[before] == op
