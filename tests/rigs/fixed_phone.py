"""Phones whose runner reports fixed times and fails on demand, behind the real `DeviceDaemon`.

Everything is real but the runner, which is this file, run as a program on the phone. What it tells is a
latency that an artifact's hash alone determines, with a little noise from a seeded generator; how long
it takes, which a bench may say, has nothing to do with that. So what comes of a run can be checked
against the truth, however often it was disturbed, and however busy this machine is.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time
import zlib
from hashlib import sha256
from pathlib import Path

NOISE = 0.002

#: Below the phone's root: what the runner is to do wrong, what it tells of itself, and who runs.
FAULT, TELLS, PIDS, STRUCK = "rig/fault.json", "rig/tells.json", "rig/pids", "rig/struck"


def latency_ns(place: str) -> int:
    """What a run of the artifact takes that lies at `place`, on a phone of slowness 1: 1 to 9 ms."""
    return 1_000_000 + zlib.crc32(place.rpartition("/")[2].encode()) % 8_000_000


# On the phone


def serve(root: Path) -> None:
    """Answer requests until the input ends."""
    (root / PIDS).mkdir(exist_ok=True)
    (root / PIDS / str(os.getpid())).write_text(_alive_since(os.getpid()) or "")
    rng = random.Random(f"{root.name}:{len(list((root / PIDS).iterdir()))}")
    loaded: dict[str, str] = {}
    tensor = {"name": "x", "shape": [1], "dtype": "float32"}
    engine = {"runtime": "onnx", "version": "1.0", "library": "libonnxruntime.so"}
    for line in sys.stdin:
        request = json.loads(line)
        tells = _read(root / TELLS)
        answer = {"id": request["id"], "ok": True}
        path = request.get("path") or loaded.get(request.get("handle", ""), "")
        _misbehave(root, request["op"], path)
        match request["op"]:
            case "hello":
                answer |= {"version": 1, "runner": "fixed", "pid": 1, "os": "android"}
                answer |= {"abi": "arm64-v8a", "engines": [engine]}
            case "load":
                handle = f"m{len(loaded)}"
                loaded[handle] = path
                answer |= {"handle": handle, "load_ms": 0.0, "inputs": [tensor], "engine": engine}
                answer["coverage"] = tells.get("coverage", {}).get(path.rpartition("/")[2], {})
            case "run":
                base = tells.get("slowness", 1.0) * latency_ns(path)
                count = request["min_samples"]
                time.sleep(count * tells.get("sleep_s", 0.0))
                answer["samples_ns"] = [
                    round(base * rng.normalvariate(1, NOISE)) for _ in range(count)
                ]
            case "conditions":
                answer |= {"load_average": 0.0, **tells.get("conditions", {})}
        print(json.dumps(answer), flush=True)
        if request["op"] == "quit":
            break


def _read(path: Path) -> dict:
    with contextlib.suppress(FileNotFoundError):
        return json.loads(path.read_text())
    return {}


def _misbehave(root: Path, op: str, path: str) -> None:
    """Do what was ordered, if this is the request that it was ordered for."""
    fault = _read(root / FAULT)
    if fault.get("op") != op or fault.get("artifact", "") not in path:
        return
    if fault["once"]:
        (root / FAULT).unlink()
    (root / STRUCK).touch()
    if fault["do"] == "hang":
        while True:
            time.sleep(60)
    os.kill(os.getpid(), getattr(signal, fault["do"]))


# For the test


def equip(home: Path, abi: str = "arm64-v8a", *, runner: bytes | None = None) -> None:
    """Let latbench's home hold a runner, by default this one, and a library that it says it opens."""
    folder = home / "runners" / abi
    folder.mkdir(parents=True, exist_ok=True)
    own = f"#!{sys.executable} -IS\n{Path(__file__).read_text()}".encode()
    pins = {}
    for name, content in (("latbench-runner", runner or own), ("libonnxruntime.so", b"library")):
        (folder / name).write_bytes(content)
        digest = sha256(content).hexdigest()
        pins[name] = {"sha256": digest, "source": "a rig", "version": "1.0", "libc": "android"}
    (folder / "pins.json").write_text(json.dumps(pins))


def order(root: Path, do: str, *, op: str = "run", artifact: str = "", once: bool = True) -> None:
    """Have the runner of the phone at `root` do something wrong at its next request.

    Args:
        do: "hang", or the name of a signal that it sends itself.
        artifact: only at an artifact in whose path this stands.
        once: only the first time.
    """
    scratch = root / "rig/fault.part"
    scratch.write_text(json.dumps({"op": op, "do": do, "artifact": artifact, "once": once}))
    scratch.replace(root / FAULT)


def tell(
    root: Path,
    slowness: float = 1.0,
    *,
    coverage: dict[str, dict[str, int]] | None = None,
    sleep_s: float = 0.0,
    **conditions: object,
) -> None:
    """Have the runner of the phone at `root` be so slow, and say this of the phone's state.

    Args:
        coverage: what it says of an artifact, by hash, when it loads it.
        sleep_s: what a run really takes.
    """
    scratch = root / "rig/tells.part"
    reported = {"slowness": slowness, "sleep_s": sleep_s, "conditions": conditions}
    scratch.write_text(json.dumps(reported | {"coverage": coverage or {}}))
    scratch.replace(root / TELLS)


def running(root: Path) -> list[int]:
    """The runners on the phone at `root` that have not ended."""
    return [
        int(pid.name)
        for pid in (root / PIDS).glob("*")
        if (since := _alive_since(int(pid.name))) is not None and since == pid.read_text()
    ]


def await_end(root: Path, within_s: float = 30.0) -> None:
    """Wait until no runner is left on the phone at `root`: adbd ends it a moment after its connection."""
    deadline = time.monotonic() + within_s
    while left := running(root):
        assert time.monotonic() < deadline, f"runners {left} are left on the phone"
        time.sleep(0.01)


def _alive_since(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; None if it has ended. Numbers are used again."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]  # field 22 of proc_pid_stat(5)


if __name__ == "__main__":
    serve(Path(os.environ["TMPDIR"]).parents[2])
