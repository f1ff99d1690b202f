"""Does a search pay? `python bench/payoff.py --data FOLDER --out runs/payoff` (about 3 hours, 2 cores).

FOLDER is an image folder with train/ and test/, such as CIFAR-10's. The bench measures LUTs of a small space
at 32x32 on this host, then runs three parts:

    worth      searched networks against random ones (without grouped blocks and skips), uniform ones, a
               MobileNetV2-style one, and the one with the largest sum of log MACs, which needs no training.
               All are measured to have the same latency to 2 % and trained alike with the same seeds: at
               three quarters of the median latency of random networks, with two seeds, and at the median,
               with one
    transfer   networks searched for each runtime, at half and three quarters of its median latency, trained,
               and timed on every runtime: is each the fastest of its accuracy class on its own target, and
               by how much? For each of the target's own networks, the fastest own one of the class is
               compared with the fastest one for each other runtime. Networks are of one class if their
               accuracies differ by at most two standard errors, as estimated from trainings of one network
               with several seeds
    ranking    Kendall's tau between accuracies with the supernet's weights and of networks trained alone:
               those that searched networks are compared with at three quarters, and more random ones

and prints entropy of theta, expected latency and accuracy over the epochs of each search.

`--part NAME` runs one part; without it they run in this order. Results are kept in OUT/journal.json, which
the parts share, and the same command continues from there. `--quick` takes a few minutes and proves nothing.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import kendalltau

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.payoff_networks import by_candidate, log_macs, middle, most_of, random_networks, space
from bench.payoff_tables import EQUAL_MS, Group, deviation, print_course, verdict
from bench.payoff_work import (
    QUICK,
    SHARES,
    Journal,
    Scale,
    Tasks,
    ranked,
    searched,
    trained,
)
from fbnet_search.choose.finalists import best_finalist, verify_finalists
from fbnet_search.cost.latency import latency_model
from latbench.errors import LatbenchError
from latbench.lut import Lut
from latbench.space import Architecture
from latbench.target import Runtime
from latbench.workflows.build_lut import build_lut
from latbench.workflows.networks import measure_networks
from latbench.workflows.profile import profile
from latbench.workflows.target import TargetRequest
from latbench.workflows.validate import validate

ATTEMPTS = 3  # to measure a LUT
TRANSFER_SHARES = (0.5, 0.75)  # lower, since trainings of five epochs do not profit from more
NEAR = (
    0.975,
    1.005,
)  # of the target: measured latencies of rivals, if any of their kind is so close


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="an image folder with train/ and test/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2, help="searches and trainings at a time")
    parser.add_argument("--part", choices=sorted(PARTS), help="run only this part")
    parser.add_argument("--quick", action="store_true", help="a few minutes; proves nothing")
    options = parser.parse_args()
    scale = QUICK if options.quick else Scale()
    out = options.out / "quick" if options.quick else options.out
    out.mkdir(parents=True, exist_ok=True)
    space()
    data = f"imagefolder:{Path(options.data).resolve()}"
    bench = Bench(data, out, scale, options.jobs, Journal(out / "journal.json"))
    for part in [options.part] if options.part else PARTS:
        PARTS[part](bench)
    print_course(bench.journal.results)


@dataclass(frozen=True)
class Bench:
    """The state that the parts of the bench share."""

    data: str
    out: Path
    scale: Scale
    jobs: int
    journal: Journal

    @property
    def home(self) -> Runtime:
        """The runtime for which searched networks are compared with others."""
        return self.scale.runtimes[0]

    def lut(self, runtime: Runtime) -> Lut:
        mape = self.scale.mape if runtime is self.home else self.scale.transfer_mape
        return _lut(runtime, self.out, self.scale, mape)

    def do(self, *tasks: Tasks) -> None:
        self.journal.all(self.jobs, {key: task for part in tasks for key, task in part.items()})

    def searches(
        self,
        runtime: Runtime,
        seeds: int,
        *,
        kind: str = "search",
        shares: Sequence[float] = SHARES,
    ) -> Tasks:
        def arguments(seed: int) -> tuple[Any, ...]:
            lut, out = _file(runtime, self.out), self.out / f"{kind}-{runtime}-{seed}"
            return str(lut), self.data, str(out), self.scale, seed, shares

        return {f"{kind} {runtime} {seed}": (searched, arguments(seed)) for seed in range(seeds)}

    def trainings(self, networks: dict[str, Architecture], seed: int) -> Tasks:
        def folder(name: str) -> str:
            return str(self.out / f"train-{name.replace(' ', '-')}-{seed}")

        return {
            f"train {name} {seed}": (
                trained,
                (one.notation, self.data, folder(name), self.scale, seed),
            )
            for name, one in networks.items()
        }

    def found(
        self, runtime: Runtime, seeds: int, share: float, *, kind: str = "search"
    ) -> dict[str, Architecture]:
        """The networks that searches found at a share of the median latency, by name.

        The finalists of each are verified now, as by `--verify`, while no search is running.
        """
        lut = self.lut(runtime)
        networks = {}
        for search in [f"{kind} {runtime} {seed}" for seed in range(seeds)]:
            one = self.journal.results[search]["found"][str(share)]
            finalists = [Architecture.parse(layers, space()) for layers in one["finalists"]]

            def picked(
                finalists: Sequence[Architecture] = finalists, target_ms: float = one["target_ms"]
            ) -> str:
                return best_finalist(
                    verify_finalists(finalists, [lut]), target_ms
                ).architecture.notation

            name = f"{search} at {share:g}"
            layers = self.journal.once(f"picked {name}", picked)
            networks[name] = Architecture.parse(layers, space())
        return networks

    def accuracy(self, name: str, seeds: int) -> float:
        """The mean accuracy over trainings of one network."""
        accuracies: list[float] = [
            self.journal.results[f"train {name} {seed}"] for seed in range(seeds)
        ]
        return statistics.mean(accuracies)


def worth(bench: Bench) -> None:
    scale, home = bench.scale, bench.home
    lut = bench.lut(home)
    rivals = {share: _rivals(bench, share) for share in SHARES}
    bench.do(bench.searches(home, scale.searches), bench.trainings(rivals[SHARES[0]], 0))
    for seeds in range(1, scale.train_seeds + 1):
        for share in SHARES if seeds == 1 else SHARES[:1]:
            networks = bench.found(home, scale.searches, share) | rivals[share]
            bench.do(bench.trainings(networks, seeds - 1))
            times = _time(bench.journal, networks, home, lut, scale)
            print(f"\nat {share:g} of the median latency, trainings of each network: {seeds}")
            _worth(bench, times, seeds)


def transfer(bench: Bench) -> None:
    scale = bench.scale
    luts = {runtime: bench.lut(runtime) for runtime in scale.runtimes}
    count, kind = scale.transfer_searches, "transfer"
    bench.do(
        *(bench.searches(one, count, kind=kind, shares=TRANSFER_SHARES) for one in scale.runtimes)
    )
    found = {
        runtime: {
            name: one
            for share in TRANSFER_SHARES
            for name, one in bench.found(runtime, count, share, kind=kind).items()
        }
        for runtime in luts
    }
    networks = {name: one for part in found.values() for name, one in part.items()}
    bench.do(*(bench.trainings(networks, seed) for seed in range(scale.train_seeds)))
    times = {
        runtime: _time(bench.journal, networks, runtime, lut, scale)
        for runtime, lut in luts.items()
    }
    _transfer(bench, {runtime: list(part) for runtime, part in found.items()}, times)


def ranking(bench: Bench) -> None:
    scale, home = bench.scale, bench.home
    lut = bench.lut(home)
    model = latency_model(lut)
    share = SHARES[0]
    networks = _rivals(bench, share)
    count = max(scale.ranked - len(networks), 0)
    more = random_networks(model, share * middle(model), count, 1)
    networks |= {f"ranked {n}": one for n, one in enumerate(more)}
    bench.do(bench.searches(home, 1), bench.trainings(networks, 0))
    notations = [one.notation for one in networks.values()]
    checkpoint = str(bench.out / f"search-{home}-0" / "checkpoint.pt")
    shared = bench.journal.once("ranking", lambda: ranked(notations, bench.data, checkpoint, scale))
    tau = kendalltau(shared, [bench.accuracy(name, 1) for name in networks])
    print(
        f"\nKendall's tau over {len(networks)} networks: {tau.statistic:.2f} (p {tau.pvalue:.2g})"
    )


PARTS = {"worth": worth, "transfer": transfer, "ranking": ranking}


def _file(runtime: Runtime, out: Path) -> Path:
    return out / f"{runtime}.json"


def _lut(runtime: Runtime, out: Path, scale: Scale, mape: float) -> Lut:
    """A validated LUT: it is measured again until it predicts unseen networks.

    A search with a wrong LUT is worthless, and networks chosen by its errors, above all those that no
    training found, would not be equal in latency.
    """
    path = _file(runtime, out)
    if path.exists():
        return Lut.load(path)
    for attempt in range(ATTEMPTS):
        measured = out / f"{runtime}-{attempt}.sqlite"
        profile(
            TargetRequest(runtime=runtime),
            space(),
            ci=scale.ci,
            budget_s=5 * scale.measuring_s,
            journal=measured,
        )
        lut = build_lut(measured, partial=scale is QUICK)
        try:
            judged = validate(lut, networks=12, ci=scale.ci, budget_s=scale.measuring_s)
        except LatbenchError as error:  # the machine was never quiet enough
            print(f"{runtime}: {error.message}", flush=True)
        else:
            figures = judged.figures
            print(
                f"{runtime}: mean error {figures.mape:.1f} %, worst {figures.worst:.1f} %",
                flush=True,
            )
            if figures.mape <= mape:
                judged.validated_lut.save(path)
                return Lut.load(path)
        for left in out.glob(f"{measured.name}*"):
            left.unlink()  # else the next attempt would continue it
    raise SystemExit(f"this machine is too busy to measure a LUT of {runtime}; try again later")


def _rivals(bench: Bench, share: float) -> dict[str, Architecture]:
    """The networks to compare with those found, measured to take this share of the median latency.

    More of each kind are measured than are kept, and the first that are near the target are chosen, as a
    search's finalists are. So a LUT's errors of a few per cent do not matter.
    """
    lut, scale = bench.lut(bench.home), bench.scale
    model = latency_model(lut)
    target = share * middle(model)
    kinds = {
        "log macs": most_of(log_macs(), model, target),
        "uniform k3e3": most_of(by_candidate({"k3e3": 0, "k3e1": -1, "k3e6": -1}), model, target),
        "uniform k5e3": most_of(by_candidate({"k5e3": 0, "k5e1": -1, "k5e6": -1}), model, target),
        "mobilenetv2": most_of(
            by_candidate({"k3e6": 0, "skip": -1, "k3e3": -1.1, "k3e1": -1.2}), model, target
        ),
        "random": random_networks(model, target, 3 * scale.random, 0),
    }

    def picked() -> dict[str, str]:
        together = iter(_ms([one for kind in kinds.values() for one in kind], lut, scale))

        def miss(ms: float) -> float:
            return max(NEAR[0] - ms / target, ms / target - NEAR[1], 0.0)

        kept: dict[str, str] = {}
        for kind, networks in kinds.items():
            missed = [miss(next(together)) for _ in networks]
            order = sorted(range(len(networks)), key=missed.__getitem__)
            some = order[: scale.random] if kind == "random" else order[:1]
            for number, one in enumerate(some):
                name = f"random {number}" if kind == "random" else kind
                kept[f"{name} at {share:g}"] = networks[one].notation
        return kept

    layers: dict[str, str] = bench.journal.once(f"rivals at {share:g}", picked)
    return {name: Architecture.parse(one, space()) for name, one in layers.items()}


def _ms(networks: Sequence[Architecture], lut: Lut, scale: Scale) -> list[float]:
    """Measure networks on a LUT's target, in the same rounds; milliseconds normalised to its run."""
    budget_s = scale.measuring_s + len(networks) * scale.network_s
    together = measure_networks(networks, lut, ci=scale.ci, budget_s=budget_s)
    return [one.ms / one.slowdown for one in together.measurements]


def _time(
    journal: Journal, networks: dict[str, Architecture], runtime: Runtime, lut: Lut, scale: Scale
) -> dict[str, float]:
    """The latencies of networks on a runtime, ms, by name; see `_ms`."""

    def measured() -> dict[str, float]:
        return dict(zip(networks, _ms(list(networks.values()), lut, scale), strict=True))

    times: dict[str, float] = journal.once(f"ms {runtime}: {', '.join(networks)}", measured)
    return times


def _worth(bench: Bench, times: dict[str, float], seeds: int) -> None:
    """Print the accuracies of every group of networks; each network's is the mean over `seeds`."""
    home = bench.home
    groups = {"searched": f"search {home}", "random": "random", "uniform": "uniform",
              "mobilenetv2": "mobilenetv2", "log macs": "log macs"}  # fmt: skip
    print(f"{'':12} nets   accuracy (mean ± s.d. over nets)   best   measured ms")
    means: dict[str, list[float]] = {}
    for group, prefix in groups.items():
        names = [name for name in times if name.startswith(prefix)]
        means[group] = [bench.accuracy(name, seeds) for name in names]
        own = [times[name] for name in names]
        print(
            f"{group:12} {len(names):4}   {statistics.mean(means[group]):.1%} ± {deviation(means[group]):.1%}"
            f"   {max(means[group]):.1%}   {min(own):.3f} to {max(own):.3f}"
        )
    every = times.values()
    apart = (max(every) - min(every)) / (max(every) + min(every))
    equal = "equal" if apart <= EQUAL_MS else f"NOT equal to {EQUAL_MS:.0%}"
    print(f"measured latencies are {equal}: all are within ±{apart:.1%} of their centre")
    pooled = math.sqrt((deviation(means["searched"]) ** 2 + deviation(means["random"]) ** 2) / 2)
    ahead = statistics.mean(means["searched"]) - statistics.mean(means["random"])
    passed = ahead >= 2 * pooled and statistics.mean(means["searched"]) > max(means["random"])
    print(
        f"searched - random: {ahead:+.1%}, pooled s.d. {pooled:.1%}: "
        f"{'pass' if passed else 'no pass'}; searched - log macs: "
        f"{statistics.mean(means['searched']) - means['log macs'][0]:+.1%}"
    )


def _transfer(
    bench: Bench, found: dict[Runtime, list[str]], times: dict[Runtime, dict[str, float]]
) -> None:
    """Print the latency of every network on every runtime, and the verdict on each target."""
    results, seeds = bench.journal.results, bench.scale.train_seeds
    print(f"\nmeasured ms of each network on each runtime, and accuracy ({seeds} trainings each)")
    print(f"{'':29}" + "".join(f"{runtime!s:>13}" for runtime in found) + f"{'accuracy':>13}")
    for names in found.values():
        for name in names:
            row = [times[runtime][name] for runtime in found]
            columns = "".join(f"{ms:13.4f}" for ms in row)
            print(f"{name:29}{columns}{bench.accuracy(name, seeds):13.1%}")
    of_each = [
        [results[f"train {name} {seed}"] for seed in range(seeds)]
        for names in found.values()
        for name in names
    ]
    # The standard deviation over seeds; None if every network was trained once.
    spread = (
        math.sqrt(statistics.mean(deviation(one) ** 2 for one in of_each)) if seeds > 1 else None
    )
    print("spread of seeds: " + ("not known" if spread is None else f"{spread:.1%}"))
    groups = {
        runtime: Group(
            [bench.accuracy(name, seeds) for name in names],
            {on: [times[on][name] for name in names] for on in found},
        )
        for runtime, names in found.items()
    }
    for target in groups:
        print(verdict(target, groups, None if spread is None else spread / math.sqrt(seeds)))


if __name__ == "__main__":
    main()
