"""A runner whose runs take a fixed time, and units that have such runners.

As a program it speaks the runner protocol on its standard streams. What it tells is a latency that the
path alone determines, times the unit's slowness, with a little noise from a seeded generator; how
long it sleeps has nothing to do with that. So runs are repeatable however busy this machine is.
"""

import argparse
import json
import random
import sys
import time
import zlib


def latency_ns(path: str) -> int:
    """What a run of the file takes on a unit of slowness 1: 1 to 9 ms."""
    return 1_000_000 + zlib.crc32(path.rpartition("/")[2].encode()) % 8_000_000


def serve(sleep_s: float, slowness: float, noise: float, seed: str, reference_s: float) -> None:
    """Answer requests until the input ends; a visit to the reference takes `reference_s`."""
    rng = random.Random(seed)
    loaded: dict[str, str] = {}
    tensor = {"name": "x", "shape": [1], "dtype": "float32"}
    engine = {"runtime": "onnx", "version": "1.0"}
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, object] = {"id": request["id"], "ok": True}
        match request["op"]:
            case "hello":
                answer |= {"version": 1, "runner": "fixed", "pid": 1, "os": "none", "abi": "none"}
                answer |= {"engines": [engine]}
            case "load":
                handle = f"m{len(loaded)}"
                loaded[handle] = request["path"]
                answer |= {"handle": handle, "load_ms": 0.0, "inputs": [tensor], "engine": engine}
            case "run" if request["handle"] == "reference":
                time.sleep(reference_s)
                answer["samples_ns"] = [round(slowness * 10_000_000)] * request["min_samples"]
            case "run":
                runs = request["warmups"] + request["min_samples"]
                time.sleep(runs * sleep_s)
                base = slowness * latency_ns(loaded[request["handle"]])
                samples = [
                    round(base * rng.normalvariate(1, noise)) for _ in range(request["min_samples"])
                ]
                answer["samples_ns"] = samples
            case "conditions":
                answer["load_average"] = 0.0
        print(json.dumps(answer), flush=True)
        if request["op"] == "quit":
            return


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--sleep-s", type=float, required=True)
    parser.add_argument("--slowness", type=float, required=True)
    parser.add_argument("--noise", type=float, required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--reference-s", type=float, required=True)
    options = parser.parse_args()
    serve(options.sleep_s, options.slowness, options.noise, options.seed, options.reference_s)
