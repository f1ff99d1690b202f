"""Recipes: all settings of a search and of a training; `recipes/` holds the shipped ones.

A recipe is a TOML file whose tables `[search]` and `[train]` give every setting by its name here.
`paper` is FBNet's (Wu et al., CVPR 2019, section 4.1); `budget` meets a latency target on small
photographs; `digits` is for small images on a CPU. The schedules of each stretch to any number of epochs.
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
    """Progress of a search or a training: `done` of `total` steps, and a description of the current one.

    `total` is None for work after the last step.
    """

    done: int
    total: int | None
    doing: str


#: Called after every step; it must return quickly.
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Recipe:
    """The settings of a search; `recipes/paper.toml` explains each.

    Raises:
        BadRequest: a value is of the wrong type or out of range.
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
        _require_types(self)
        if self.epochs < 1:
            raise BadRequest(f"epochs must be at least 1, got {self.epochs}")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise BadRequest(
                f"warmup_epochs must be from 0 to below epochs, {self.epochs}, got {self.warmup_epochs}"
            )
        if self.batch < 2:
            raise BadRequest(f"batch must be at least 2 images, got {self.batch}")
        if not 0 < self.weight_share < 1:
            raise BadRequest(f"weight_share must be above 0 and below 1, got {self.weight_share:g}")
        for name in ("paths", "last_paths", "warmup_paths", "changing_paths"):
            if getattr(self, name) < 1:
                raise BadRequest(
                    f"{name} must be at least 1 candidate of a layer, got {getattr(self, name)}"
                )
        if self.judged < 1:
            raise BadRequest(f"judged must be at least 1, got {self.judged}")
        if self.drawn < 0 or (self.drawn and self.judged == 1):
            raise BadRequest(
                f"drawn must be 0 where judged is 1, else at least 0, got {self.drawn}",
                hint="judged = 1, drawn = 0 takes the most probable network",
            )
        for name in ("theta_beta1", "theta_beta2", "target_share"):
            if not 0 <= getattr(self, name) < 1:
                raise BadRequest(f"{name} must be from 0 to below 1, got {getattr(self, name):g}")
        _require_crop_area(self.crop_area)
        if self.classes == 1:
            raise BadRequest("classes must be at least 2, or 0 for all, got 1")
        if not self.temperature > 0:
            raise BadRequest(f"temperature must be above 0, got {self.temperature:g}")

    @classmethod
    def named(cls, recipe: str) -> "Recipe":
        """The `[search]` table of a shipped recipe, or of a TOML file.

        Raises:
            UnknownName: it is neither a shipped recipe nor a .toml file.
            BadRequest: the file cannot be read, or a setting is missing, unknown or out of range.
        """
        return cls(**_settings(recipe, "search", cls))

    @classmethod
    def for_data(cls, data: str) -> "Recipe":
        """The default recipe of a data set by its name: `digits` for digits, else `paper`."""
        return cls.named(_default_recipe(data))

    def temperature_in(self, epoch: int) -> float:
        """The temperature in epoch `epoch` (from 0).

        The decay starts after a warm-up that has its own temperature.
        """
        if not self.warmup_temperature:
            return temperature_at(epoch, self.temperature, self.temperature_decay)
        searched = epoch - self.warmup_epochs
        if searched < 0:
            return self.warmup_temperature
        return temperature_at(searched, self.temperature, self.temperature_decay)

    def paths_in(self, epoch: int) -> int:
        """The number of candidates that a layer computes in epoch `epoch` (from 0).

        It changes linearly from `paths` after the warm-up to `last_paths` in the last epoch.
        """
        searched = epoch - self.warmup_epochs
        if searched < 0:
            return self.warmup_paths
        steps = max(self.epochs - self.warmup_epochs - 1, 1)
        return round(self.paths + (self.last_paths - self.paths) * searched / steps)

    def stretched(self, epochs: int) -> "Recipe":
        """This recipe over another number of epochs, with the same share of warm-up and the same
        final temperature.

        Raises:
            BadRequest: `epochs` is below 1.
        """
        if epochs < 1:
            raise BadRequest(f"epochs must be at least 1, got {epochs}")
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
    """The settings of a training; `recipes/paper.toml` explains each.

    Raises:
        BadRequest: a value is of the wrong type or out of range.
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
        _require_types(self)
        if self.epochs < 1:
            raise BadRequest(f"epochs must be at least 1, got {self.epochs}")
        if self.batch < 2:
            raise BadRequest(f"batch must be at least 2 images, got {self.batch}")
        if not 0 < self.momentum < 1:
            raise BadRequest(f"momentum must be above 0 and below 1, got {self.momentum:g}")
        if not 0 <= self.label_smoothing < 1:
            raise BadRequest(
                f"label_smoothing must be from 0 to below 1, got {self.label_smoothing:g}"
            )
        _require_crop_area(self.crop_area)

    @classmethod
    def named(cls, recipe: str) -> "TrainRecipe":
        """The `[train]` table of a recipe; see `Recipe.named`."""
        return cls(**_settings(recipe, "train", cls))

    @classmethod
    def for_data(cls, data: str) -> "TrainRecipe":
        """The default recipe of a data set by its name; see `Recipe.for_data`."""
        return cls.named(_default_recipe(data))

    def stretched(self, epochs: int) -> "TrainRecipe":
        """This recipe over another number of epochs, with the same share of warm-up.

        Raises:
            BadRequest: `epochs` is below 1.
        """
        warmup_epochs = min(round(self.warmup_epochs * epochs / self.epochs), max(epochs - 1, 0))
        return replace(self, epochs=epochs, warmup_epochs=warmup_epochs)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON data."""
        return asdict(self)


def _require_types(recipe: Recipe | TrainRecipe) -> None:
    """Refuse values that are not numbers of their field's type; a bool is none."""
    for field in fields(recipe):
        value: object = getattr(recipe, field.name)
        problem = _type_problem(field.name, value, field.type)
        if problem:
            raise BadRequest(problem)


def _type_problem(name: str, value: object, kind: Any) -> str | None:
    """What is wrong with a value whose field is of type `kind`, int or float; None if nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{name} must be a number, got {value!r}"
    if kind is int and not isinstance(value, int):
        return f"{name} must be a whole number, got {value:g}"
    if not (math.isfinite(value) and value >= 0):
        return f"{name} must be finite and at least 0, got {value:g}"
    return None


def _require_crop_area(area: float) -> None:
    if not 0 < area <= 1:
        raise BadRequest(
            f"crop_area must be above 0 and at most 1, got {area:g}",
            hint="0.08 is usual for ImageNet; 1 takes no random crops",
        )


def temperature_at(epoch: int, start: float = 5.0, decay: float = 0.045) -> float:
    """The temperature in epoch `epoch` (from 0): start * exp(-decay * epoch), as in the paper."""
    return start * math.exp(-decay * epoch)


def shipped_recipes() -> tuple[str, ...]:
    """The names of the shipped recipes."""
    folder = resources.files("fbnet_search") / "recipes"
    return tuple(
        sorted(
            file.name[: -len(".toml")] for file in folder.iterdir() if file.name.endswith(".toml")
        )
    )


def _default_recipe(data: str) -> str:
    return "digits" if data == "digits" else "paper"


def _settings(recipe: str, table: str, kind: type) -> dict[str, Any]:
    """The settings in `table` of a recipe, each checked to be a number of its field's type."""
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
        elif problem := _type_problem(name, value, types[name]):
            problems.append(problem)
    if problems:
        raise BadRequest(
            f"invalid settings in [{table}] of the recipe {where}:", details=problems, hint=_COPY
        )
    return {name: types[name](given[name]) for name in types}


_COPY = (
    f"copy and edit {resources.files('fbnet_search') / 'recipes' / 'paper.toml'}, which has every \
setting"
)
