"""The regression behind a LUT's correction: whole networks on what their ops and boundaries contribute.

The latency y of a network is modelled as

    y = offset + sum over its ops of scale * factor * entry.ms,   factor = 1 + d
               + sum over its boundaries of cost per value * values

with Gaussian noise of a relative standard deviation. Scale and offset have wide priors. The deviation d of an
entry is the sum of one of its own and one for each of its traits, which all ops with that trait share
(`latbench.space.traits`). The cost per value at a boundary (`latbench.space.boundaries`) has a prior of zero
mean, in units of the networks' latency for each value that enters an op. Everything is relative to the
latency, so that slow networks do not outweigh fast ones.

This is Bayesian linear regression (Bishop, "Pattern Recognition and Machine Learning", 2006, section 3.3).
How large the deviations are (`Deviations`) is not known either. They are averaged over their posterior, which
is sampled by importance: quasi-random points of the prior (Sobol), each with its marginal likelihood (section
3.5) as its weight. A deviation is exactly 0 with a prior probability of one half, and is left out unless the
networks make it more probable than not that it is there.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from latbench.lut.schema import Entry
from latbench.space.boundaries import Boundary, boundary_values
from latbench.space.opspec import OpSpec, parse_key
from latbench.space.traits import Trait

#: With fewer networks, offset and boundary costs cannot be told from a scale: affine fits predicted worse
#: than a scale alone.
MIN_AFFINE = 10

#: Prior standard deviations of the scale (around 1) and of the offset (relative to the mean latency): wide.
_SCALE_SD, _OFFSET_SD = 0.3, 0.1

#: Scales of the half-normal priors of deviations: of one entry, of a trait, of a boundary's cost.
_ENTRY, _TRAIT, _BOUNDARY = 0.05, 0.03, 0.3

#: The log-normal prior of the noise, wide: 95 % of it are between 0.25 and 6 %.
_NOISE, _NOISE_SPREAD = 0.012, 0.8

#: Points of the prior; a power of two, as Sobol's sequence needs.
_POINTS = 1024

#: The first entry among the unknowns: after scale, offset and boundary costs.
_FIRST_ENTRY = 2 + len(Boundary)

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Network:
    """A timed whole network: its ops in order, and its latency in milliseconds at batch 1."""

    ops: tuple[OpSpec, ...]
    ms: float


@dataclass(frozen=True)
class Deviations:
    """How large deviations are, as standard deviations; 0 where something does not deviate.

    Attributes:
        noise: of a network from the model, relative to its latency.
        entry: of a single entry, relative.
        traits: of all ops that share a trait, relative.
        boundary: of a boundary's cost for each value, in units of the networks' latency for each value that
            enters an op.
    """

    noise: float
    entry: float = 0.0
    traits: Mapping[Trait, float] = field(default_factory=dict)
    boundary: float = 0.0


@dataclass(frozen=True)
class Unknowns:
    """The unknowns, in this order: scale - 1, offset, boundary costs, a deviation for each entry.

    The offset is in units of `unit_ms`; the cost per value at a boundary is in units of `value_ms`, the
    networks' latency for each value that enters an op. Without `affine`, offset and boundary costs are 0.
    """

    entries: Mapping[str, Entry]
    keys: tuple[str, ...]
    unit_ms: float
    value_ms: float
    affine: bool

    @classmethod
    def of(cls, entries: Mapping[str, Entry], networks: Sequence[Network]) -> "Unknowns":
        """The unknowns of a regression on `networks`."""
        whole = sum(network.ms for network in networks)
        values = sum(math.prod(op.input_shape) for network in networks for op in network.ops)
        return cls(
            entries,
            tuple(sorted(entries)),
            _OFFSET_SD * whole / len(networks),
            whole / values,
            len(networks) >= MIN_AFFINE,
        )

    def row(self, ops: Sequence[OpSpec]) -> Vector:
        """The design row of a network: what one unit of each unknown contributes, milliseconds."""
        row = np.zeros(_FIRST_ENTRY + len(self.keys))
        crossing = boundary_values(ops)
        row[1] = self.unit_ms
        row[2:_FIRST_ENTRY] = [self.value_ms * crossing[kind] for kind in Boundary]
        for op in ops:
            row[0] += self.entries[op.key].ms
            row[self._columns[op.key]] += self.entries[op.key].ms
        return row

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {key: number for number, key in enumerate(self.keys, _FIRST_ENTRY)}

    @cached_property
    def _alike(self) -> dict[Trait, Matrix]:
        """For each trait, which entries (rows and columns) share it: 1 or 0."""
        ops = [parse_key(key) for key in self.keys]
        alike = {}
        for trait in Trait:
            numbers: dict[Hashable, int] = {}
            codes = np.array([numbers.setdefault(trait.of(op), len(numbers)) for op in ops])
            alike[trait] = (codes[:, None] == codes).astype(np.float64)
        return alike

    def prior(self, deviations: Deviations) -> Matrix:
        """The prior covariance of the unknowns."""
        count = len(self.keys)
        covariance = np.zeros((_FIRST_ENTRY + count, _FIRST_ENTRY + count))
        covariance[0, 0] = _SCALE_SD**2
        if self.affine:
            covariance[1, 1] = 1.0
            for number in range(2, _FIRST_ENTRY):
                covariance[number, number] = deviations.boundary**2
        own = covariance[_FIRST_ENTRY:, _FIRST_ENTRY:]
        own += deviations.entry**2 * np.eye(count)
        for trait, deviation in deviations.traits.items():
            own += deviation**2 * self._alike[trait]
        return covariance

    def fixed_covariance(self, rows: Matrix) -> Matrix:
        """The covariance of the networks of `rows` that scale and offset cause."""
        covariance = _SCALE_SD**2 * np.outer(rows[:, 0], rows[:, 0])
        return covariance + np.outer(rows[:, 1], rows[:, 1]) if self.affine else covariance

    def unit_covariances(self, rows: Matrix) -> dict[str, Matrix]:
        """The covariance of the networks of `rows` that each kind of deviation causes if it is 1."""
        entries = rows[:, _FIRST_ENTRY:]
        found = {"entry": entries @ entries.T}
        found |= {trait.value: entries @ alike @ entries.T for trait, alike in self._alike.items()}
        if self.affine:
            boundaries = rows[:, 2:_FIRST_ENTRY]
            found["boundary"] = boundaries @ boundaries.T
        return found


@dataclass(frozen=True)
class Fit:
    """The posterior at given deviations: mean and covariance of the unknowns."""

    unknowns: Unknowns
    deviations: Deviations
    mean: Vector
    covariance: Matrix

    @property
    def scale(self) -> float:
        """The factor common to all entries."""
        return float(1 + self.mean[0])

    @property
    def offset_ms(self) -> float:
        """The part of every network's latency that belongs to no op and no boundary, milliseconds."""
        return float(self.mean[1] * self.unknowns.unit_ms)

    @property
    def boundary_costs(self) -> dict[Boundary, float]:
        """The cost of a million values at each boundary, milliseconds; empty if boundaries cost nothing."""
        if not self.deviations.boundary:
            return {}
        million = 1e6 * self.unknowns.value_ms * self.mean[2:_FIRST_ENTRY]
        return dict(zip(Boundary, million.tolist(), strict=True))

    @property
    def factors(self) -> dict[str, float]:
        """Each entry's factor besides the scale; factors of 1 are left out."""
        deviations = self.mean[_FIRST_ENTRY:] / self.scale
        return {
            key: float(1 + deviation)
            for key, deviation in zip(self.unknowns.keys, deviations, strict=True)
            if abs(deviation) > 1e-6
        }

    def deviation(self, ops: Sequence[OpSpec], ms: float) -> float:
        """The relative standard deviation of a network whose prediction is `ms`, noise included."""
        row = self.unknowns.row(ops) / ms
        return math.sqrt(float(row @ self.covariance @ row) + self.deviations.noise**2)


def fit(entries: Mapping[str, Entry], networks: Sequence[Network], deviations: Deviations) -> Fit:
    """The posterior of the unknowns, given `networks` and how large deviations are."""
    unknowns = Unknowns.of(entries, networks)
    rows = _rows(unknowns, networks)
    prior = unknowns.prior(deviations)
    shared = rows @ prior
    factor = np.linalg.cholesky(shared @ rows.T + deviations.noise**2 * np.eye(len(rows)))
    whitened = np.linalg.solve(factor, 1 - rows[:, 0])
    gain = np.linalg.solve(factor, shared)
    return Fit(unknowns, deviations, gain.T @ whitened, prior - gain.T @ gain)


def _rows(unknowns: Unknowns, networks: Sequence[Network]) -> Matrix:
    """The design matrix, shape (networks, unknowns), each row relative to its network's latency."""
    return np.array([unknowns.row(network.ops) / network.ms for network in networks])


@dataclass(frozen=True)
class Learnt:
    """What networks show of deviations.

    Attributes:
        deviations: their root mean squares over the posterior.
        left_out: for each network, the error of its prediction by the others, in standard deviations of that
            prediction.
    """

    deviations: Deviations
    left_out: Vector


def learn_deviations(
    entries: Mapping[str, Entry], networks: Sequence[Network], kinds: Iterable[str]
) -> Learnt:
    """Learn from `networks` how large the deviations are.

    Args:
        kinds: which of them may be there: "entry", "boundary", or the value of a trait. "boundary" needs
            `MIN_AFFINE` networks.
    """
    unknowns = Unknowns.of(entries, networks)
    rows = _rows(unknowns, networks)
    units = unknowns.unit_covariances(rows)
    used = [kind for kind in kinds if kind in units]
    deviations, noise = _points(used)
    covariance = unknowns.fixed_covariance(rows) + noise[:, None, None] ** 2 * np.eye(len(rows))
    for kind, values in deviations.items():
        covariance += values[:, None, None] ** 2 * units[kind]
    unexplained = 1 - rows[:, 0]
    factor = np.linalg.cholesky(covariance)
    inverse = np.linalg.inv(covariance).astype(np.float64, copy=False)
    whitened = inverse @ unexplained
    log_weights = -0.5 * whitened @ unexplained
    log_weights -= np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
    weights = _normalised(log_weights)
    means = {
        kind: math.sqrt(float(weights @ values**2)) if float(weights @ (values > 0)) >= 0.5 else 0.0
        for kind, values in deviations.items()
    }
    learnt = Deviations(
        noise=math.sqrt(float(weights @ noise**2)),
        entry=means.get("entry", 0.0),
        traits={trait: means[trait] for trait in Trait if means.get(trait)},
        boundary=means.get("boundary", 0.0),
    )
    return Learnt(learnt, _left_out(whitened, inverse, log_weights))


def _points(kinds: Sequence[str]) -> tuple[dict[str, Vector], Vector]:
    """Points of the prior: the deviations of each of `kinds`, and the noise."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    scales = {"entry": _ENTRY, "boundary": _BOUNDARY}
    unit = qmc.Sobol(len(kinds) + 1, scramble=False).random(_POINTS).clip(1e-6, 1 - 1e-6)
    found = {}
    for number, kind in enumerate(kinds):
        half_normal = ndtri(unit[:, number].clip(min=0.5))  # 0 for the lower half
        found[kind] = scales.get(kind, _TRAIT) * half_normal
    return found, _NOISE * np.exp(_NOISE_SPREAD * ndtri(unit[:, -1]))


def _left_out(whitened: Matrix, inverse: Matrix, log_weights: Vector) -> Vector:
    """The standardised errors of all networks, each predicted by the others.

    At one point, the prediction of a network from the others follows from the inverse covariance (Rasmussen
    and Williams, "Gaussian Processes for Machine Learning", 2006, section 5.4.2). The weight of a point
    without the network is its weight over the likelihood of the network given the others.
    """
    precisions = np.diagonal(inverse, axis1=1, axis2=2)
    errors, variances = whitened / precisions, 1 / precisions
    found = np.empty(errors.shape[1])
    for number in range(found.size):
        error, variance = errors[:, number], variances[:, number]
        likelihood = -0.5 * (error**2 / variance + np.log(variance))
        weights = _normalised(log_weights - likelihood)
        mean = float(weights @ error)
        spread = float(weights @ (variance + error**2)) - mean**2
        found[number] = mean / math.sqrt(spread)
    return found


def _normalised(log_weights: Vector) -> Vector:
    weights = np.exp(log_weights - log_weights.max())
    normalised: Vector = weights / weights.sum()
    return normalised
