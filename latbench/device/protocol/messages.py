"""The requests and replies of the runner protocol, version 1.

docs/runner-protocol.md is the specification; the Python worker and the client share these models. Both sides
ignore unknown fields, so that new fields need no new version. Messages are validated strictly, by
`read_message`: a boolean or a string is no number.
"""

import base64
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from latbench.record import Record
from latbench.runtime.base import Array, TensorInfo
from latbench.target import Runtime

VERSIONS = (1,)

#: Bytes of the longest line, newline included, that a runner must accept.
MAX_REQUEST_BYTES = 64 * 1024
#: Bytes of the longest line, newline included, that a client must accept.
MAX_REPLY_BYTES = 16 * 1024 * 1024
#: The largest number of samples of one `run`: they must fit in a reply.
MAX_SAMPLES = 500_000
#: The largest seed: every JSON parser represents integers up to it exactly.
MAX_SEED = 2**53

#: A duration. Zero is refused: slowdowns are estimated from logarithms, so one zero would spoil a run.
Nanoseconds = Annotated[int, Field(gt=0, lt=2**63)]

#: The handle of the reference workload, for runners that have one; it is not loaded first.
REFERENCE_HANDLE = "reference"

Stage = Literal["start", "request", "hello", "load", "run", "conditions", "unload", "quit"]


M = TypeVar("M", bound=BaseModel)


class _Message(Record, extra="ignore"):
    pass


class HelloRequest(_Message):
    """Identify the runner. `versions` are the protocol versions of the client."""

    op: Literal["hello"] = "hello"
    versions: tuple[int, ...] = VERSIONS


class LoadRequest(_Message):
    """Load the artifact at `path` into an engine. Without `cores` the scheduler chooses them.

    `seed` is that of the inputs, as `TensorInfo.sample` generates them. With `again` the runner may keep
    what it computes from the file until the end of the run, and load from that the next time.
    """

    op: Literal["load"] = "load"
    path: str
    runtime: Runtime
    threads: int = Field(default=1, ge=1, le=1024)
    cores: tuple[int, ...] = ()
    accelerator: str = "cpu"
    input_shapes: tuple[tuple[int, ...], ...] | None = None
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    again: bool = Field(default=False, strict=True)


class RunRequest(_Message):
    """Time a loaded model.

    Warm up for at least `warmups` runs and `warmup_seconds`; then sample until there are
    `min_samples` and `seconds` have passed, or there are `max_samples`. Sleep `idle_ms` before
    each sample. With `outputs`, the reply contains the outputs of the last run.
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
    """Report the state of the unit."""

    op: Literal["conditions"] = "conditions"


class UnloadRequest(_Message):
    """Unload a model."""

    op: Literal["unload"] = "unload"
    handle: str


class QuitRequest(_Message):
    """End the runner."""

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
    """An inference engine of the runner. `sha256` is absent if it was not computed."""

    runtime: Runtime
    version: str
    library: str | None = None
    sha256: str | None = None


class Hello(_Message):
    """The runner, and the protocol version that the conversation uses.

    `reference` names the workload of the handle `reference`; None if the runner has none.
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

    `cores_observed` are the cores that the runner's threads may use, None if the system does not
    report them; `threads_observed` is the number of threads that the engine computes on.
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
    """The values of one output; `values` is base64 of little-endian numbers in C order."""

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
            ValueError: they are not base64, or their number does not match `shape`.
            TypeError: there is no such dtype.
        """
        stored = np.dtype(self.dtype).newbyteorder("<")
        data = base64.b64decode(self.values, validate=True)
        return np.frombuffer(data, stored).astype(self.dtype).reshape(self.shape)


class RunReply(_Message):
    """Every sample in order, ns, and the clock before each, kHz, if it can be read.

    `waited_ms` is how long, warm-ups included, threads of the runner were ready to run while something
    else used their core; None if the system does not report it. `outputs` are present on request.
    """

    samples_ns: list[Nanoseconds] = Field(min_length=1)
    clocks_khz: list[int] | None = None
    cores_observed: tuple[int, ...] | None = None
    threads_observed: int | None = None
    waited_ms: float | None = None
    outputs: tuple[Output, ...] | None = None


class Done(_Message):
    """A reply without fields."""


class Failure(_Message):
    """Why a runner refused a request."""

    stage: str
    kind: str = "refused"
    message: str
    details: tuple[str, ...] = ()
    hint: str | None = None


def as_fields(message: BaseModel) -> dict[str, Any]:
    """A message as JSON data."""
    return message.model_dump(mode="json")


def read_message(model: type[M], line: bytes) -> M:
    """Parse and validate one line.

    Raises:
        ValueError: it is not JSON, or a field is missing or has another type; the message names it.
    """
    try:
        return model.model_validate_json(line, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ValueError(f"field {field}: {first['msg']}") from None
