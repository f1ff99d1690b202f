"""The runner protocol, version 1, as data: what is asked and what is answered.

docs/runner-protocol.md is the specification; the host worker and the client share these models.
Unknown fields are ignored on both sides, so that a version can grow without breaking.
"""

import base64
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from latbench.runtime.base import Array, TensorInfo
from latbench.target import Runtime

VERSIONS = (1,)

#: The longest line, its newline included, that a runner must take.
MAX_REQUEST_BYTES = 64 * 1024
#: The longest line, its newline included, that a client must take.
MAX_REPLY_BYTES = 16 * 1024 * 1024
#: The most samples of one `run`: they must fit in a reply.
MAX_SAMPLES = 500_000
#: The largest seed: every JSON reader holds whole numbers up to it exactly.
MAX_SEED = 2**53

#: One duration. Nothing takes no time: levels are told by logarithms, and one zero would spoil a whole run.
Nanoseconds = Annotated[int, Field(gt=0, lt=2**63)]

#: The handle under which a runner that has a reference workload runs it; nothing needs to be loaded.
REFERENCE_HANDLE = "reference"

Stage = Literal["start", "request", "hello", "load", "run", "conditions", "unload", "quit"]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class HelloRequest(_Message):
    """Who are you? `versions` are those that the client speaks."""

    op: Literal["hello"] = "hello"
    versions: tuple[int, ...] = VERSIONS


class LoadRequest(_Message):
    """Load the artifact at `path` into an engine. No `cores`: leave them to the scheduler.

    `seed` is that of the inputs, as `TensorInfo.sample` makes them.
    """

    op: Literal["load"] = "load"
    path: str
    runtime: Runtime
    threads: int = Field(default=1, ge=1, le=1024)
    cores: tuple[int, ...] = ()
    accelerator: str = "cpu"
    input_shapes: tuple[tuple[int, ...], ...] | None = None
    seed: int = Field(default=0, ge=0, le=MAX_SEED)


class RunRequest(_Message):
    """Time a loaded model.

    Warm up for at least `warmups` runs and `warmup_seconds`; then sample until there are
    `min_samples` and `seconds` have passed, or there are `max_samples`. Sleep `idle_ms` before
    each sample. With `outputs` the reply holds what the last run computed.
    """

    op: Literal["run"] = "run"
    handle: str
    warmups: int = Field(default=2, ge=0, le=MAX_SAMPLES)
    warmup_seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    min_samples: int = Field(default=8, ge=1, le=MAX_SAMPLES)
    max_samples: int = Field(default=1000, ge=1, le=MAX_SAMPLES)
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    idle_ms: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    outputs: bool = Field(default=False, strict=True)


class ConditionsRequest(_Message):
    """What state are you in?"""

    op: Literal["conditions"] = "conditions"


class UnloadRequest(_Message):
    """Free a loaded model."""

    op: Literal["unload"] = "unload"
    handle: str


class QuitRequest(_Message):
    """End."""

    op: Literal["quit"] = "quit"


Request = HelloRequest | LoadRequest | RunRequest | ConditionsRequest | UnloadRequest | QuitRequest

REQUESTS: dict[str, type[Request]] = {
    "hello": HelloRequest,
    "load": LoadRequest,
    "run": RunRequest,
    "conditions": ConditionsRequest,
    "unload": UnloadRequest,
    "quit": QuitRequest,
}


class Engine(_Message):
    """An inference engine of the runner. `sha256` is absent where it was not computed."""

    runtime: Runtime
    version: str
    library: str | None = None
    sha256: str | None = None


class Hello(_Message):
    """Who the runner is, and the protocol version it will speak.

    `reference` names the workload that the handle `reference` runs, None where there is none.
    """

    version: int
    runner: str
    pid: int
    os: str
    abi: str
    engines: tuple[Engine, ...]
    reference: str | None = None


class Loaded(_Message):
    """A model that is ready to run.

    `cores_observed` are the cores that the runner's threads may use, None where the system does not
    say; `threads_observed` is the number of threads that the engine has to compute on.
    """

    handle: str
    load_ms: float
    cores_observed: tuple[int, ...] | None = None
    threads_observed: int | None = None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...] = ()
    coverage: dict[str, int] = Field(default_factory=dict)
    engine: Engine


class Output(_Message):
    """What a model computed for one output; `values` is base64 of little-endian C order."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None
    values: str

    @property
    def array(self) -> Array:
        """The values, of `shape` and `dtype`.

        Raises:
            ValueError: they are no base64, or too many or too few.
            TypeError: there is no such dtype.
        """
        stored = np.dtype(self.dtype).newbyteorder("<")
        data = base64.b64decode(self.values, validate=True)
        return np.frombuffer(data, stored).astype(self.dtype).reshape(self.shape)


class RunReply(_Message):
    """Every sample, nanoseconds, in order; and the clock before each, kHz, where it is readable.

    `waited_ms` is how long, warm-ups included, threads of the runner were ready to run while something
    else had their core; None where the system does not tell.
    `outputs` are there if they were asked for.
    """

    samples_ns: list[Nanoseconds] = Field(min_length=1)
    clocks_khz: list[int] | None = None
    cores_observed: tuple[int, ...] | None = None
    threads_observed: int | None = None
    waited_ms: float | None = None
    outputs: tuple[Output, ...] | None = None


class Done(_Message):
    """What was asked is done; there is nothing to tell."""


class Failure(_Message):
    """Why a runner did not do what it was asked."""

    stage: str
    kind: str = "refused"
    message: str
    details: tuple[str, ...] = ()
    hint: str | None = None


def as_fields(message: BaseModel) -> dict[str, Any]:
    """A message as JSON data."""
    return message.model_dump(mode="json")
