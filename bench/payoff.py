"""Does a search pay off? `python bench/payoff.py --data FOLDER --out runs/payoff` (about 3 hours, 2 cores).

FOLDER is an image folder with train/ and test/, such as CIFAR-10's. On this host it measures LUTs of a
small space at 32x32, then

    worth      searched networks against random ones (without grouped blocks and skips), uniform ones,
               a MobileNetV2-style one, and the one with the largest sum of log MACs, which needs no
               training: all measured to be of the same latency to 2 %, trained alike with the same
               seeds; at three quarters of the middle latency of random networks, with two seeds, and
               at all of it, with one
    transfer   networks searched for each runtime, at half and three quarters of its own middle latency,
               trained, and timed on every runtime: is each the fastest of its accuracy class on its
               own target, and by how much? Around each of its own networks, the fastest own one of the
               class is held against the fastest one for each other runtime. Networks are of one class
               if their accuracies differ by no more than two standard errors, by what trainings of one
               network with other seeds differ
    ranking    Kendall's tau between accuracies in the supernet and of networks trained alone: those that
               searched ones are compared with at three quarters, and some more random ones

and prints the course of each search: entropy of theta, expected latency and accuracy over the epochs.

`--part NAME` does one of these, by itself; without it they are done in this order. Everything done is kept
in OUT/journal.json, parts take from it what another has done, and the same command goes on from
there. `--quick` goes the same way in a few minutes, and proves nothing.
"""

import argparse
import functools
import json
import math
import multiprocessing
import os
import statistics
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau

from fbnet_search import Recipe, TrainRecipe, train
from fbnet_search.choose.derive import architecture_of
from fbnet_search.choose.finalists import best_finalist, verify_finalists
from fbnet_search.choose.program import Budget, most_probable_first
from fbnet_search.choose.ranking import shared_weight_accuracies
from fbnet_search.cost.latency import LatencyModel, latency_model
from fbnet_search.data.datasets import open_data
from fbnet_search.data.images import ImageData, Split
from fbnet_search.engine import search_front
from fbnet_search.supernet.network import Supernet
from latbench.errors import LatbenchError
from latbench.files import write_atomically
from latbench.lut import Lut
from latbench.runtime.registry import HOST_RUNTIMES
from latbench.space import CANDIDATES, Architecture, SearchSpace
from latbench.space.design import SENTINEL
from latbench.space.macro import MacroArchitecture, Stage
from latbench.space.shipped import MACRO_ARCHITECTURES, PUBLISHED
from latbench.target import Runtime
from latbench.workflows.build_lut import build_lut
from latbench.workflows.networks import measure_networks
from latbench.workflows.profile import profile
from latbench.workflows.target import TargetRequest
from latbench.workflows.validate import validate

STAGES = tuple(
    map(Stage, (8, 12, 16, 32, 56, 92, 176), (1, 2, 2, 2, 2, 2, 1), (1, 2, 1, 1, 1, 2, 1))
)
SMALL = MacroArchitecture("fbnet-small", (32,), 8, 8, 2, STAGES, (256,), 10)
FORBIDDEN = -1e3
ATTEMPTS = 3  # at a LUT
FINALISTS = 5  # of a search, of which measuring picks one
SHARES = (0.75, 1.0)  # of the middle latency, for which every search of worth finds a network
TRANSFER_SHARES = (0.5, 0.75)  # lower, since trainings of five epochs make no use of more
ALTERNATIVES = 6  # of a rival network, of which measuring picks one
EQUAL_MS = 0.02  # what measured latencies may differ by, to be called equal
NEAR = (0.975, 1.005)  # of the target: what a rival is measured to take, if one of its kind does


@dataclass(frozen=True)
class Scale:
    """How much is done.

    `mape` is the mean error that the LUT may have for which networks are compared, per cent;
    `transfer_mape` that of the others, whose networks differ by more than a tenth.
    """

    searches: int = 3
    transfer_searches: int = 1
    search_epochs: int = 6
    random: int = 12
    ranked: int = 20
    train_epochs: int = 5
    train_seeds: int = 2
    images: int | None = None
    ci: float = 0.01
    measuring_s: float = 120.0
    network_s: float = 15.0
    runtimes: tuple[Runtime, ...] = HOST_RUNTIMES
    mape: float = 2.0
    transfer_mape: float = 4.0


QUICK = Scale(1, 1, 2, 3, 8, 1, 1, 320, 0.05, 5.0, 1.0, (Runtime.TFLITE, Runtime.ONNX), 50.0, 50.0)


def space() -> SearchSpace:
    """The small space; networks and LUTs can name it from now on, in this process.

    The network that every measurement times is cut to the layers there are.
    """
    if SMALL.name not in MACRO_ARCHITECTURES:
        MACRO_ARCHITECTURES[SMALL.name] = SMALL
        published = PUBLISHED[SENTINEL]
        cut = [
            " ".join(stage.split()[: here.layers])
            for stage, here in zip(published.layers["2020"].split("|"), STAGES, strict=True)
        ]
        PUBLISHED[SENTINEL] = replace(published, layers={"2020": "|".join(cut)})
    return SearchSpace.named(SMALL.name)


#: What is to be done, by its name in the journal.
Tasks = dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]


class Journal:
    """What was done, by name; each result is computed once and kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def keep(self, key: str, result: Any) -> Any:
        self.results[key] = result
        write_atomically(self._path, json.dumps(self.results, indent=1, sort_keys=True) + "\n")
        print(f"{key}: {json.dumps(result)[:150]}", flush=True)
        return result

    def once(self, key: str, compute: Callable[[], Any]) -> Any:
        if key in self.results:
            return self.results[key]
        return self.keep(key, compute())

    def all(self, jobs: int, tasks: Tasks) -> None:
        """Do the tasks that are not done, `jobs` at a time, each in a process with one thread.

        Raises:
            LatbenchError: one failed; what the others did is kept.
        """
        left = {key: task for key, task in tasks.items() if key not in self.results}
        if not left:
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, context, initializer=_started) as pool:
            doing = {pool.submit(_done, *task): key for key, task in left.items()}
            failed: list[BaseException] = []
            for done in as_completed(doing):
                error = done.exception()
                if error is None:
                    self.keep(doing[done], done.result())
                else:
                    failed.append(error)
        if failed:
            raise failed[0]


def _started() -> None:
    torch.set_num_threads(1)
    space()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)  # two benches must not write to one folder

    threading.Thread(target=follow, daemon=True).start()


def _done(work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What the work returns; its error is made one that reaches another process."""
    try:
        return work(*arguments)
    except LatbenchError as error:
        raise LatbenchError(error.message) from None


# Networks of one latency


def most_of(
    scores: Sequence[Sequence[float]], model: LatencyModel, target: float
) -> list[Architecture]:
    """The networks of the largest sums of scores that take [0.98, 1] of the target, largest first."""
    logits = np.array(scores, dtype=np.float64)
    budget = Budget(target, 0.98 * target)
    first = islice(most_probable_first(logits, model, budget, budget.least_ms), ALTERNATIVES)
    return [architecture_of(space(), choices) for choices in first]


def by_candidate(prefer: dict[str, float]) -> list[list[float]]:
    """The same scores in every layer: those of the named candidates; the others are forbidden."""
    row = [prefer.get(str(candidate), FORBIDDEN) for candidate in CANDIDATES]
    return [row for _ in space().layers]


def log_macs() -> list[list[float]]:
    """The logarithm of every candidate's MACs; an identity, which has none, counts as one."""
    ops = [[space().op(layer, candidate) for candidate in CANDIDATES] for layer in space().layers]
    return [[math.log(op.macs) if op else 0.0 for op in row] for row in ops]


def random_networks(
    model: LatencyModel, target: float, count: int, seed: int
) -> list[Architecture]:
    """Networks without grouped blocks and skips that take [0.98, 1] of the target."""
    plain = [n for n, one in enumerate(CANDIDATES) if one.kernel and one.groups == 1]
    drawn = np.random.default_rng(seed).choice(plain, size=(200_000, len(space().layers)))
    times = model.fixed_ms + model.layer_ms.numpy()[np.arange(drawn.shape[1]), drawn].sum(1)
    within = drawn[(times <= target) & (times >= 0.98 * target)]
    return [architecture_of(space(), row.tolist()) for row in within[:count]]


def middle(model: LatencyModel) -> float:
    """The median latency of networks without grouped blocks and skips, ms."""
    plain = [n for n, one in enumerate(CANDIDATES) if one.kernel and one.groups == 1]
    drawn = np.random.default_rng(0).choice(plain, size=(20_000, len(space().layers)))
    times = model.layer_ms.numpy()[np.arange(drawn.shape[1]), drawn].sum(1)
    return float(model.fixed_ms + np.median(times))


# What workers do


@functools.lru_cache(maxsize=1)
def data_of(name: str, images: int | None) -> ImageData:
    data = open_data(name, 32)
    if images is None:
        return data

    def some(split: Split, count: int) -> Split:
        step = max(1, len(split) // count)
        numbers = torch.arange(0, len(split), step)
        pixels = split.images.read(numbers.tolist())
        return Split(_Pixels(pixels), split.labels[numbers])

    return replace(data, train=some(data.train, images), test=some(data.test, images))


class _Pixels:
    def __init__(self, pixels: torch.Tensor) -> None:
        self.pixels = pixels

    @property
    def size(self) -> int:
        return self.pixels.shape[-1]

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, numbers: Sequence[int], boxes: Any = None) -> torch.Tensor:
        assert boxes is None
        return self.pixels[list(numbers)]


def searched(
    lut: str, data: str, out: str, scale: Scale, seed: int, shares: Sequence[float]
) -> dict[str, Any]:
    """Search at some shares of the LUT's middle latency; what is found, and the course of it."""
    loaded = Lut.load(lut)
    recipe = replace(Recipe.named("budget").stretched(scale.search_epochs), threads=1)
    folder = Path(out)
    middle_ms = middle(latency_model(loaded))
    results = search_front(
        loaded, data_of(data, scale.images), folder, recipe=recipe, seed=seed,
        targets_ms=[share * middle_ms for share in shares],
        resume=(folder / "checkpoint.pt").exists(), checkpoint_s=60.0,
    )  # fmt: skip
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    course = [event for event in events if event["event"] == "epoch"]
    judged = [event["networks"] for event in events if event["event"] == "judged"]
    names = ("epoch", "phase", "w_loss", "seconds")
    of_each = ("theta_accuracy", "expected_ms", "entropy")
    return {
        "found": {
            str(share): {
                "layers": result.architecture.notation,
                "predicted_ms": result.prediction.ms,
                "target_ms": result.target_ms,
                "finalists": [layers for layers, _ in networks[:FINALISTS]],
                "course": [
                    {name: event.get(name) for name in names}
                    | {name: event.get(f"{name}@{result.target_ms:g}ms") for name in of_each}
                    for event in course
                ],
            }
            for share, result, networks in zip(shares, results, judged[-len(shares) :], strict=True)
        }
    }


def trained(layers: str, data: str, out: str, scale: Scale, seed: int) -> float:
    """The test accuracy of a network that was trained alone."""
    network = Architecture.parse(layers, space())
    recipe = replace(TrainRecipe.named("budget").stretched(scale.train_epochs), threads=1)
    images = data_of(data, scale.images)
    begun = (Path(out) / "training" / "checkpoint.pt").exists()
    result = train(network, images, out, recipe=recipe, seed=seed, export=False, resume=begun)
    return result.test_accuracy


def ranked(layers: Sequence[str], data: str, checkpoint: str, scale: Scale) -> list[float]:
    """The accuracies of networks on test images, with the weights of a supernet."""
    images = data_of(data, scale.images)
    supernet = Supernet(space(), len(images.classes), len(SHARES))
    state = torch.load(checkpoint, weights_only=True)["module"]
    supernet.load_state_dict(state)
    networks = [Architecture.parse(one, space()) for one in layers]
    return shared_weight_accuracies(supernet, networks, images.test, torch.arange(len(images.test)))


# The bench


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="an image folder with train/ and test/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2, help="searches and trainings at a time")
    parser.add_argument("--part", choices=sorted(PARTS), help="only this one")
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
    _course(bench.journal)


@dataclass(frozen=True)
class Bench:
    """Where the parts of the bench find what they have in common."""

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
        """What searches found at a share of the middle latency, by names that begin with theirs.

        The finalists of each are timed now that no other search computes beside, as `--verify` does.
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
        """The mean over trainings of one network."""
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
            print(f"\nat {share:g} of the middle latency, {seeds} trainings a network")
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
    """A LUT that holds: it is measured anew until it predicts networks that it was not made from.

    What is searched for with a wrong one is worth nothing, and the networks that its errors make look
    fast, first of all those that no training found, would not be equal in latency.
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
        except LatbenchError as error:  # never quiet enough
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
            left.unlink()  # else the next try would take it for done
    raise SystemExit(f"this machine is too restless for a LUT of {runtime}; try again later")


def _rivals(bench: Bench, share: float) -> dict[str, Architecture]:
    """The networks to compare with those found, measured to take this share of the middle latency.

    More are measured of each kind than are kept: the first that are near the target, as a search's
    finalists are measured before one is kept. A LUT's errors of a few per cent are not compared then.
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
    """Measure networks on a LUT's target, in the same rounds; milliseconds at its level."""
    budget_s = scale.measuring_s + len(networks) * scale.network_s
    together = measure_networks(networks, lut, ci=scale.ci, budget_s=budget_s)
    return [one.ms / one.level for one in together.measurements]


def _time(
    journal: Journal, networks: dict[str, Architecture], runtime: Runtime, lut: Lut, scale: Scale
) -> dict[str, float]:
    """What networks take on a runtime, by their names; see `_ms`."""

    def measured() -> dict[str, float]:
        return dict(zip(networks, _ms(list(networks.values()), lut, scale), strict=True))

    told: dict[str, float] = journal.once(f"ms {runtime}: {', '.join(networks)}", measured)
    return told


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
            f"{group:12} {len(names):4}   {statistics.mean(means[group]):.1%} ± {_sd(means[group]):.1%}"
            f"   {max(means[group]):.1%}   {min(own):.3f} to {max(own):.3f}"
        )
    every = times.values()
    apart = (max(every) - min(every)) / (max(every) + min(every))
    told = "equal" if apart <= EQUAL_MS else f"NOT equal to {EQUAL_MS:.0%}"
    print(f"measured latencies are {told}: all lie within ±{apart:.1%} of their middle")
    pooled = math.sqrt((_sd(means["searched"]) ** 2 + _sd(means["random"]) ** 2) / 2)
    ahead = statistics.mean(means["searched"]) - statistics.mean(means["random"])
    passed = ahead >= 2 * pooled and statistics.mean(means["searched"]) > max(means["random"])
    print(
        f"searched - random: {ahead:+.1%}, pooled s.d. {pooled:.1%}: "
        f"{'pass' if passed else 'no pass'}; searched - log macs: "
        f"{statistics.mean(means['searched']) - means['log macs'][0]:+.1%}"
    )


def _sd(values: Iterable[float]) -> float:
    known = list(values)
    return statistics.stdev(known) if len(known) > 1 else 0.0


def _transfer(
    bench: Bench, found: dict[Runtime, list[str]], times: dict[Runtime, dict[str, float]]
) -> None:
    """Print what every network takes on every runtime, and whether its own is where it is ahead."""
    results, seeds = bench.journal.results, bench.scale.train_seeds
    print(f"\nmeasured ms of each network on each runtime, and accuracy ({seeds} trainings each)")
    print(f"{'':29}" + "".join(f"{runtime!s:>13}" for runtime in found) + f"{'accuracy':>13}")
    for names in found.values():
        for name in names:
            row = [times[runtime][name] for runtime in found]
            told = "".join(f"{ms:13.4f}" for ms in row)
            print(f"{name:29}{told}{bench.accuracy(name, seeds):13.1%}")
    of_each = [
        [results[f"train {name} {seed}"] for seed in range(seeds)]
        for names in found.values()
        for name in names
    ]
    # Of one training, with another seed; None where every network was trained once.
    spread = math.sqrt(statistics.mean(_sd(one) ** 2 for one in of_each)) if seeds > 1 else None
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


@dataclass(frozen=True)
class Group:
    """Networks searched for one runtime: their accuracies, and their latencies in ms on every one."""

    accuracies: Sequence[float]
    ms: dict[Runtime, Sequence[float]]


def verdict(target: Runtime, groups: dict[Runtime, Group], error: float | None) -> str:
    """Whether the networks searched for `target` are the fastest of their accuracy class there.

    Args:
        target: the runtime in question.
        groups: the networks searched for each runtime.
        error: the standard error of one network's accuracy; None if it is not known.
    """
    own = groups[target]
    # Of the difference of two networks' accuracies.
    allowed = None if error is None else 2 * error * math.sqrt(2)

    def fastest(group: Group, accuracy: float) -> float:
        """In the class around `accuracy`; infinite where the group has none in it."""
        pairs = zip(group.accuracies, group.ms[target], strict=True)
        within = [ms for one, ms in pairs if allowed is None or abs(one - accuracy) <= allowed]
        return min(within, default=math.inf)

    lines: list[str] = []
    behind: list[Runtime] = []
    level: list[Runtime] = []
    ahead: list[Runtime] = []
    for runtime, other in groups.items():
        if runtime is target:
            continue
        pairs = [(fastest(other, one), fastest(own, one)) for one in own.accuracies]
        ratios = [theirs / mine for theirs, mine in pairs if theirs < math.inf]
        if not ratios:
            lines.append(f"  none of those for {runtime} is of the accuracy of an own one")
            continue
        told = ", ".join(f"{ratio:.2f}x" for ratio in ratios)
        lines.append(
            f"  the fastest for {runtime} takes {told} as long there, in {len(ratios)} of "
            f"{len(own.accuracies)} classes around own ones"
        )
        ratio = statistics.geometric_mean(ratios)
        if ratio < 1 - EQUAL_MS:
            behind.append(runtime)
        else:
            (ahead if ratio > 1 + EQUAL_MS else level).append(runtime)
    if allowed is None:
        head = "whether accuracies match is not known"
    elif behind:
        head = f"NOT the fastest of their accuracy class: {', '.join(map(str, behind))}"
    elif level:
        head = f"as fast as those for {', '.join(map(str, level))}, to {EQUAL_MS:.0%}"
    elif ahead:
        head = f"the fastest of their accuracy class, against {len(ahead)} of {len(groups) - 1}"
    else:
        head = "no other networks are of the accuracy class of its own"
    within = "" if allowed is None else f" (accuracies match within {allowed:.1%})"
    return "\n".join([f"networks searched for {target}, on it: {head}{within}", *lines])


def _course(journal: Journal) -> None:
    for key, result in sorted(journal.results.items()):
        if key.startswith(("search ", "transfer ")):
            for found in result["found"].values():
                _told(key, found)


def _told(search: str, found: dict[str, Any]) -> None:
    print(f"\n{search}: target {found['target_ms']:.4f} ms, found {found['predicted_ms']:.4f}")
    for one in found["course"]:
        accuracy = one["theta_accuracy"]
        print(
            f"  epoch {one['epoch']:2} {one['phase']:8} w loss {one['w_loss']:.2f}, "
            f"theta's accuracy {'-' if accuracy is None else f'{accuracy:.1%}'}, E[LAT] "
            f"{one['expected_ms']:.4f} ms, entropy {one['entropy']:.2f}"
        )


if __name__ == "__main__":
    main()
