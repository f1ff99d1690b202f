"""The numbers of a search and of a training, as data; `recipes/` holds those that are shipped.

A recipe is a TOML file whose tables `[search]` and `[train]` give every constant by its name here.
`paper` is FBNet's own (Wu et al., CVPR 2019, section 4.1); `budget` meets a latency budget on small
photographs; `digits` is for small images on a CPU. All stretch to another number of epochs.
"""

import difflib
import math
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from latbench.errors import BadRequest, UnknownName


@dataclass(frozen=True)
class Progress:
    """How far a search or a training is: `done` of `total` steps, and what it is doing.

    What comes after the last step has no `total`.
    """

    done: int
    total: int | None
    doing: str


#: Called after every step; it must return quickly.
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Recipe:
    """How a search goes; `recipes/paper.toml` says what each constant is.

    Raises:
        BadRequest: a number makes no sense.
    """

    classes: int
    epochs: int
    warmup_epochs: int
    batch: int
    crop_area: float
    weight_share: float
    weight_rate: float
    weight_momentum: float
    weight_decay: float
    gradient_clip: float
    theta_rate: float
    theta_decay: float
    theta_beta1: float
    theta_beta2: float
    temperature: float
    temperature_decay: float
    warmup_temperature: float
    alpha: float
    beta: float
    target_strength: float
    target_share: float
    judged: int
    drawn: int
    paths: int
    last_paths: int
    warmup_paths: int
    changing_paths: int
    threads: int

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_epochs < self.epochs:
            raise BadRequest(
                f"{self.warmup_epochs} warm-up epochs of {self.epochs} leave none to search in"
            )
        if self.batch < 2 or not 0 < self.weight_share < 1:
            raise BadRequest("a batch holds at least 2 images, and w and theta need some each")
        for name in ("paths", "last_paths", "warmup_paths", "changing_paths"):
            if not 1 <= getattr(self, name) <= 9:
                raise BadRequest(
                    f"{name} = {getattr(self, name)} makes no sense",
                    hint="a layer has 9 candidates, of which 1 to 9 can be computed",
                )
        if self.judged < 1 or self.drawn < 0 or (self.drawn and self.judged == 1):
            raise BadRequest(
                f"judged = {self.judged}, drawn = {self.drawn} makes no sense",
                hint="judged = 1, drawn = 0 takes the most probable network",
            )
        if not (0 <= self.theta_beta1 < 1 and 0 <= self.theta_beta2 < 1):
            raise BadRequest("theta_beta1 and theta_beta2 are below 1")
        _require_crops(self.crop_area)
        if self.classes == 1 or self.temperature == 0 or not self.target_share < 1:
            raise BadRequest("a search needs 2 classes, a temperature above 0, a share below 1")

    @classmethod
    def named(cls, recipe: str) -> "Recipe":
        """The `[search]` of a shipped recipe, or of a TOML file.

        Raises:
            UnknownName: it is neither shipped nor a .toml file.
            BadRequest: the file cannot be read, or a constant is missing, unknown or makes no sense.
        """
        return cls(**_constants(recipe, "search", cls))

    @classmethod
    def for_data(cls, data: str) -> "Recipe":
        """The recipe that suits a data set by its name: its own for digits, else the paper's."""
        return cls.named(_suited(data))

    def temperature_in(self, epoch: int) -> float:
        """The temperature in epoch `epoch` (from 0).

        A warm-up with a temperature of its own is not counted in the schedule of the others.
        """
        if not self.warmup_temperature:
            return temperature_at(epoch, self.temperature, self.temperature_decay)
        searched = epoch - self.warmup_epochs
        if searched < 0:
            return self.warmup_temperature
        return temperature_at(searched, self.temperature, self.temperature_decay)

    def paths_in(self, epoch: int) -> int:
        """How many candidates a layer computes in epoch `epoch` (from 0): in equal steps from
        `paths` when the warm-up is over to `last_paths` in the last."""
        searched = epoch - self.warmup_epochs
        if searched < 0:
            return self.warmup_paths
        steps = max(self.epochs - self.warmup_epochs - 1, 1)
        return round(self.paths + (self.last_paths - self.paths) * searched / steps)

    def stretched(self, epochs: int) -> "Recipe":
        """This recipe over another number of epochs: the same share of them warms up, and the
        temperature ends where it would have.

        Raises:
            BadRequest: `epochs` is below 1.
        """
        if epochs < 1:
            raise BadRequest(f"a search of {epochs} epochs makes no sense")
        ratio = epochs / self.epochs
        return replace(
            self,
            epochs=epochs,
            warmup_epochs=min(round(self.warmup_epochs * ratio), epochs - 1),
            temperature_decay=self.temperature_decay / ratio,
        )

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON data."""
        return asdict(self)


@dataclass(frozen=True)
class TrainRecipe:
    """How a found network is trained; `recipes/paper.toml` says what each constant is.

    Raises:
        BadRequest: a number makes no sense.
    """

    epochs: int
    warmup_epochs: int
    batch: int
    crop_area: float
    rate: float
    momentum: float
    decay: float
    label_smoothing: float
    threads: int

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2:
            raise BadRequest(f"{self.epochs} epochs in batches of {self.batch} make no training")
        if not (0 < self.momentum < 1 and 0 <= self.label_smoothing < 1):
            raise BadRequest("momentum is above 0 and below 1, label_smoothing from 0 to below 1")
        _require_crops(self.crop_area)

    @classmethod
    def named(cls, recipe: str) -> "TrainRecipe":
        """The `[train]` of a recipe; see `Recipe.named`."""
        return cls(**_constants(recipe, "train", cls))

    @classmethod
    def for_data(cls, data: str) -> "TrainRecipe":
        """The recipe that suits a data set by its name."""
        return cls.named(_suited(data))

    def stretched(self, epochs: int) -> "TrainRecipe":
        """This recipe over another number of epochs, the same share of which warms up.

        Raises:
            BadRequest: `epochs` is below 1.
        """
        warmup_epochs = min(round(self.warmup_epochs * epochs / self.epochs), max(epochs - 1, 0))
        return replace(self, epochs=epochs, warmup_epochs=warmup_epochs)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON data."""
        return asdict(self)


def _require_crops(area: float) -> None:
    if not 0 < area <= 1:
        raise BadRequest(
            f"crop_area = {area:g} makes no sense", hint="give 0.08 to 1; 1 is no crop"
        )


def temperature_at(epoch: int, start: float = 5.0, decay: float = 0.045) -> float:
    """The temperature in epoch `epoch` (from 0): start * exp(-decay * epoch), as the paper's."""
    return start * math.exp(-decay * epoch)


def shipped_recipes() -> tuple[str, ...]:
    """The names of the recipes that come with the package."""
    folder = resources.files("fbnet_search") / "recipes"
    return tuple(
        sorted(
            file.name[: -len(".toml")] for file in folder.iterdir() if file.name.endswith(".toml")
        )
    )


def _suited(data: str) -> str:
    return "digits" if data == "digits" else "paper"


def _constants(recipe: str, table: str, kind: type) -> dict[str, Any]:
    """The constants in `table` of a recipe, each checked to be a number of its field's type."""
    if recipe.endswith(".toml"):
        read, where = Path(recipe).read_bytes, recipe
    elif recipe in shipped_recipes():
        read, where = (
            (resources.files("fbnet_search") / "recipes" / f"{recipe}.toml").read_bytes,
            recipe,
        )
    else:
        known = (*shipped_recipes(), "PATH.toml")
        raise UnknownName("recipe", recipe, known)
    try:
        content = tomllib.loads(read().decode())
    except OSError as error:
        raise BadRequest(f"cannot read the recipe {where}: {error.strerror}") from None
    except ValueError as error:  # of TOML, or of UTF-8
        raise BadRequest(f"{where} is not TOML: {error}") from None
    given = content.get(table)
    if not isinstance(given, dict):
        raise BadRequest(f"the recipe {where} has no table [{table}]", hint=_COPY)
    types: dict[str, Any] = {field.name: field.type for field in fields(kind)}
    problems = [f"{name} is missing" for name in types if name not in given]
    for name, value in given.items():
        if name not in types:
            near = difflib.get_close_matches(name, types, n=1)
            problems.append(f"{name} is unknown" + (f"; did you mean {near[0]}?" if near else ""))
        elif isinstance(value, bool) or not isinstance(value, (int, float)):
            problems.append(f"{name} is not a number")
        elif types[name] is int and not isinstance(value, int):
            problems.append(f"{name} is not a whole number")
        elif not (math.isfinite(value) and value >= 0):
            problems.append(f"{name} is below 0, or not finite")
    if problems:
        raise BadRequest(f"[{table}] of the recipe {where}:", details=problems, hint=_COPY)
    return {name: types[name](given[name]) for name in types}


_COPY = f"copy {resources.files('fbnet_search') / 'recipes' / 'paper.toml'}, which says every \
constant, and edit it"
