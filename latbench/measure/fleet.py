"""The measuring loop, on one unit of a device or on several.

Rounds over all unfinished workloads, with visits to the sentinel in between, until every interval is narrow
enough. All decisions follow from the trials in the journal, so an interrupted run continues as if it had
not been interrupted.

Each unit has its own thread, runners, sentinel visits and conditions (`latbench.measure.unit_worker`); the
units share the rest (`latbench.measure.coordinator`). A unit that drops out leaves its visit to the others
and is tried again until it is back.
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
from latbench.measure.clock import Clock
from latbench.measure.coordinator import RunCoordinator
from latbench.measure.journal import Journal
from latbench.measure.plan import Plan
from latbench.measure.progress import Progress
from latbench.measure.records import Run, RunNote, RunState
from latbench.measure.report import RunReport
from latbench.measure.unit_worker import UnitWorker

#: The first pause before a unit that dropped out is tried again, seconds; each further pause is twice as
#: long.
_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = 60.0

#: How often the main thread checks the progress of several units, seconds.
_CHECK_EVERY_S = 0.1

#: How long units may take to complete their visits once a run has failed, seconds.
_GRACE_S = 3.0


def measure_fleet(
    plan: Plan,
    devices: Sequence[Device],
    journal: Journal,
    *,
    progress: Callable[[Progress], None] | None = None,
    note: RunNote | None = None,
    fresh: bool = False,
    clock: Clock | None = None,
) -> RunReport:
    """Measure `plan` on all `devices` together until every workload is finished or the budget ends.

    A run of the same plan in the journal in which any of the units took part is continued: its trials are
    not repeated, new units join it, and if nothing is left no runner is started. The trials of each unit
    are normalised by its sentinel (`latbench.measure.slowdown`).

    Args:
        devices: units of one device. Each visit goes to the next free one.
        progress: called about ten times a second in this thread.
        note: what the run was for; kept in the journal.
        fresh: start a new run even if the journal holds one of the same plan.
        clock: what the run goes by; by default this machine's.

    Raises:
        BadRequest: there are no devices, they differ in name, or two are the same unit.
        DeviceUnavailable: the only unit cannot be reached; `DeviceLost` if it went away meanwhile, or if
            all of several are gone. Every trial before is kept.
        RunnerFailed: no runner can be started. Failures of a running one are journalled instead.
        OutputFailed: the journal cannot be written.
        JournalRefused: the run in the journal was measured with another version of the runtime.
    """
    coordinator = RunCoordinator(
        plan, journal, _run_of(plan, devices, journal, note, fresh), progress, clock or Clock()
    )
    state = _measured(coordinator, devices) if coordinator.pending else RunState.FINISHED
    coordinator.save(state)
    coordinator.tell_progress("done")
    return coordinator.report()


def _run_of(
    plan: Plan, devices: Sequence[Device], journal: Journal, note: RunNote | None, fresh: bool
) -> Run:
    """The run to continue, or a new one."""
    described = _described(devices)
    run = None if fresh else journal.find_run(plan.identity, *described["units"])
    if run is None:
        return journal.start_run(plan, device=described, note=note or RunNote(), tool=__version__)
    run = replace(run, device=_joined(run, described))
    journal.update_run(run.id, note=note, device=run.device)
    return run


def _described(devices: Sequence[Device]) -> dict[str, Any]:
    """The devices as in `Run.device`."""
    names = sorted({device.name for device in devices})
    if len(names) != 1:
        raise BadRequest(
            f"all units of a run must be of one device, got {', '.join(names) or 'no device'}",
            hint="profile each device separately",
        )
    units = sorted(device.unit for device in devices)
    if len(set(units)) < len(units):
        raise BadRequest(
            f"each unit may take part in a run only once, got {', '.join(units)}",
            hint="give each --unit once",
        )
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
    """The description of the devices of `run`, with the new units added."""
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


def _measured(run: RunCoordinator, devices: Sequence[Device]) -> RunState:
    """Measure what is pending."""
    run.tell_progress("prepare")
    run.save(RunState.RUNNING)
    try:
        if len(devices) == 1:
            UnitWorker(run, devices[0], lambda: run.tell_progress("measure")).work()
        else:
            _work_together(run, [UnitWorker(run, device, lambda: None) for device in devices])
    except BaseException as error:  # Ctrl-C included
        # If the state cannot be written either, the first error matters more.
        with contextlib.suppress(LatbenchError):
            run.save(RunState.FAILED)
        if isinstance(error, DeviceLost):
            raise _lost(error, run.trials) from None
        raise
    return RunState.STOPPED if run.pending else RunState.FINISHED


def _lost(error: DeviceLost, trials: int) -> DeviceLost:
    kept = "the 1 trial so far is kept" if trials == 1 else f"the {trials} trials so far are kept"
    message = error.message.removesuffix(":")
    return DeviceLost(
        f"{message}; {kept}:" if error.details else f"{message}; {kept}",
        details=error.details,
        hint="check the cable and that the device is on, then repeat the command: it continues the run",
    )


# Several units


def _work_together(run: RunCoordinator, workers: Sequence[UnitWorker]) -> None:
    """Let every unit work in its own thread; all threads have ended when this returns or raises."""
    threads = {
        worker: threading.Thread(
            target=_keep_at_work, args=(run, worker, len(workers)), name=worker.name, daemon=True
        )
        for worker in workers
    }
    with _ending(run, threads):
        for thread in threads.values():
            thread.start()
        for thread in threads.values():
            while thread.is_alive():
                thread.join(_CHECK_EVERY_S)
                run.tell_progress("measure")
    if run.error is not None:
        raise run.error


@contextlib.contextmanager
def _ending(run: RunCoordinator, threads: Mapping[UnitWorker, threading.Thread]) -> Iterator[None]:
    """End the threads and their runners: after their current visits, or by force after `_GRACE_S`."""
    try:
        yield
    except BaseException as error:
        run.finish(error)
        raise
    finally:
        alive = [(worker, thread) for worker, thread in threads.items() if thread.is_alive()]
        try:
            _join([thread for _, thread in alive])
        finally:  # a second Ctrl-C ends the grace period
            for worker, thread in alive:
                if thread.is_alive():
                    worker.abandon()
            _join([thread for _, thread in alive])


def _join(threads: Sequence[threading.Thread]) -> None:
    until = time.monotonic() + _GRACE_S
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _keep_at_work(run: RunCoordinator, worker: UnitWorker, units: int) -> None:
    """Let a unit work, and start it again whenever it drops out, until the run is over."""
    try:
        pause = _FIRST_RETRY_S
        while True:
            starts = worker.starts
            try:
                worker.work()
            except (DeviceUnavailable, RunnerFailed) as error:
                if run.over:
                    return
                retried_in_vain = worker.starts == starts
                pause = min(2 * pause, _LONGEST_RETRY_S) if retried_in_vain else _FIRST_RETRY_S
                run.drop_out(worker.name, error, units)
                run.pause(pause)
                if run.clock.over_budget:
                    return
            else:
                return
    except BaseException as error:  # noqa: BLE001  raised again in the main thread
        run.finish(error)
