"""The measuring loop, on one unit of a device or on several at once.

Interleaved rounds, a sentinel between them, until every interval is narrow. Everything is decided from
the journal's trials alone; so a run that was killed continues as if it had not been.

Each unit has a thread of its own. They share the rounds (`latbench.measure.scheduler`), the journal and
the ledger; runners, sentinel visits and conditions are each unit's own (`latbench.measure.unit_worker`).
A unit that drops out leaves its visit to the others, and is asked again and again whether it is back.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from latbench._version import __version__
from latbench.device.base import Device
from latbench.errors import BadRequest, DeviceLost, DeviceUnavailable, LatbenchError, RunnerFailed
from latbench.measure.coordinator import RunCoordinator
from latbench.measure.journal import Journal
from latbench.measure.plan import Plan
from latbench.measure.records import Run, RunState
from latbench.measure.report import Progress, RunReport, report_of
from latbench.measure.unit_worker import UnitWorker

#: The first pause before a unit that dropped out is asked whether it is back, seconds; each further one
#: is twice as long.
_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = 60.0

#: How often progress is told.
_LOOK_EVERY_S = 0.1

#: How long the units may take to end what they are doing once a run is given up, seconds.
_GRACE_S = 3.0


def measure_fleet(
    plan: Plan,
    devices: Sequence[Device],
    journal: Journal,
    *,
    progress: Callable[[Progress], None] | None = None,
    about: Mapping[str, Any] | None = None,
    fresh: bool = False,
) -> RunReport:
    """Measure `plan` on all `devices` together until every workload is settled or the budget ends.

    They are units of one device. Each visit goes to the next unit that is free, and what is made of the
    trials is levelled by each unit's sentinel (`latbench.measure.ledger`). A run of the same plan in the
    journal that any of the units takes part in is continued: what it holds is not measured again, units
    that are new join it, and if nothing is left no runner is started.

    Args:
        progress: is told how far the run is, about ten times a second, in this thread.
        about: what the caller wants to find in the run's record again, as JSON data.
        fresh: start a new run, whatever the journal holds.

    Raises:
        BadRequest: there are no devices, they are not of one name, or two are the same unit.
        DeviceUnavailable: the only unit cannot be reached; `DeviceLost` if it went away meanwhile, or if
            all of several are gone; every trial before is kept.
        RunnerFailed: no runner can be started. What a running one fails at is journalled instead.
        OutputFailed: the journal cannot be written.
        JournalRefused: the run in the journal was measured with another version of the runtime.
    """
    described = _described(devices)
    run = None if fresh else journal.find_run(plan.identity, *described["units"])
    if run is None:
        run = journal.start_run(plan, device=described, about=about or {}, tool=__version__)
    else:
        run = replace(run, device=_joined(run, described))
        journal.update_run(run.id, about=about, device=run.device)
    shared = RunCoordinator(plan, journal, run, progress)
    state = _measured(shared, devices) if shared.pending else RunState.FINISHED
    journal.update_run(run.id, state=state, wall_s=shared.wall_s)
    shared.report("done")
    return report_of(
        plan,
        journal.run(run.id),
        shared.ledger,
        first=shared.first,
        runners_started=shared.runners_started,
        wall_s=shared.elapsed_s,
    )


def _described(devices: Sequence[Device]) -> dict[str, Any]:
    """The devices as `Run.device` has them."""
    names = sorted({device.name for device in devices})
    if len(names) != 1:
        raise BadRequest(
            f"a run has units of one device, not of {', '.join(names) or 'none'}",
            hint="profile each device by itself",
        )
    units = sorted(device.unit for device in devices)
    if len(set(units)) < len(units):
        raise BadRequest("a unit takes part in a run once", hint=f"named: {', '.join(units)}")
    return {
        "name": names[0],
        "unit": ", ".join(units),
        "description": devices[0].description,
        "emulated": any(device.emulated for device in devices),
        "units": {
            device.unit: {"description": device.description, "dropped_out": 0} for device in devices
        },
    }


def _joined(run: Run, described: Mapping[str, Any]) -> dict[str, Any]:
    """What `run` says of its device, with the units that are new."""
    alone = {
        unit: {"description": run.device["description"], "dropped_out": 0} for unit in run.units
    }
    units = dict(described["units"]) | alone | dict(run.device.get("units", {}))
    emulated = run.device["emulated"] or described["emulated"]
    return dict(run.device) | {
        "unit": ", ".join(sorted(units)),
        "emulated": emulated,
        "units": units,
    }


def _measured(shared: RunCoordinator, devices: Sequence[Device]) -> RunState:
    """Measure what is pending."""
    shared.report("prepare")
    shared.journal.update_run(shared.run.id, state=RunState.RUNNING)
    try:
        if len(devices) == 1:
            UnitWorker(shared, devices[0], lambda: shared.report("measure")).work()
        else:
            _work_together(shared, [UnitWorker(shared, one, lambda: None) for one in devices])
    except BaseException as error:
        # Ctrl-C comes by here too. What ended the run matters more than a note of it that cannot be
        # written either.
        with contextlib.suppress(LatbenchError):
            shared.journal.update_run(shared.run.id, state=RunState.FAILED, wall_s=shared.wall_s)
        if isinstance(error, DeviceLost):
            raise _lost(error, len(shared.ledger.trials())) from None
        raise
    return RunState.STOPPED if shared.pending else RunState.FINISHED


def _lost(error: DeviceLost, trials: int) -> DeviceLost:
    kept = f"the {trials} trials so far are kept"
    message = error.message.removesuffix(":")
    return DeviceLost(
        f"{message}; {kept}:" if error.details else f"{message}; {kept}",
        details=error.details,
        hint="check the cable and that the device is on, then type the same command again: it goes on "
        "from there",
    )


# Several units


def _work_together(shared: RunCoordinator, units: Sequence[UnitWorker]) -> None:
    """Let every unit work in a thread of its own, and end them all, whatever happens."""
    threads = {
        unit: threading.Thread(
            target=_keep_at_work, args=(shared, unit, len(units)), name=unit.name, daemon=True
        )
        for unit in units
    }
    with _ended(shared, threads):
        for thread in threads.values():
            thread.start()
        for thread in threads.values():
            while thread.is_alive():
                thread.join(_LOOK_EVERY_S)
                shared.report("measure")
    if shared.error is not None:
        raise shared.error


@contextlib.contextmanager
def _ended(
    shared: RunCoordinator, threads: Mapping[UnitWorker, threading.Thread]
) -> Iterator[None]:
    """End the threads and their runners in the end: once they have done what they are at, or by force."""
    try:
        yield
    except BaseException as error:
        shared.finish(error)
        raise
    finally:
        running = [(unit, thread) for unit, thread in threads.items() if thread.is_alive()]
        try:
            _join([thread for _, thread in running])
        finally:  # who presses Ctrl-C twice does not want to wait
            for unit, thread in running:
                if thread.is_alive():
                    unit.abandon()
            _join([thread for _, thread in running])


def _join(threads: Sequence[threading.Thread]) -> None:
    until = time.monotonic() + _GRACE_S
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _keep_at_work(shared: RunCoordinator, unit: UnitWorker, units: int) -> None:
    """Let `unit` work, and come back whenever it drops out, until the run is over."""
    try:
        pause = _FIRST_RETRY_S
        while True:
            worked = unit.begun
            try:
                unit.work()
            except (DeviceUnavailable, RunnerFailed) as error:
                if shared.over:
                    return
                pause = _FIRST_RETRY_S if unit.begun > worked else min(2 * pause, _LONGEST_RETRY_S)
                shared.drop_out(unit.name, error)
                shared.require_some(units)
                shared.pause(pause)
                if shared.over_budget:
                    return
            else:
                return
    except BaseException as error:  # noqa: BLE001  it goes on in the thread that waits for this one
        shared.finish(error)
