"""The options that select a target, turned into one `TargetRequest`."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from latbench.cli.options import (
    accelerator_options,
    fleet_options,
    target_options,
    where_options,
)

if TYPE_CHECKING:
    from latbench.target import Precision, Runtime

F = TypeVar("F", bound=Callable[..., Any])


def target_request_options(*, several_units: bool = False) -> Callable[[F], F]:
    """Add the options that select a target and its units, passed as `target`, and `--allow-partial`."""

    def add_options(command: F) -> F:
        @functools.wraps(command)
        def called(
            *arguments: Any,
            device_name: str,
            runtime: "Runtime | None",
            precision: "Precision | None",
            accelerator: str | None,
            threads: int | None,
            cores: tuple[int, ...] | None,
            where: Any,
            **rest: Any,
        ) -> Any:
            from latbench.workflows.target import TargetRequest

            target = TargetRequest(
                device=device_name,
                runtime=runtime,
                precision=precision,
                accelerator=accelerator,
                threads=threads,
                cores=cores,
                units=where if several_units else (where,),
            )
            return command(*arguments, target=target, **rest)

        unit_options = fleet_options if several_units else where_options
        return cast(F, target_options(unit_options(accelerator_options(called))))

    return add_options
