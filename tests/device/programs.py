"""Programs that print like the real programs that time models, with invented figures."""

import sys
from pathlib import Path

from latbench.measure.plan import Settings

SCRIPT = """#!{python} -IS
import json, os, sys, zlib
asked = sys.argv[1:]
with open({log!r}, "a") as log:
    print(json.dumps([sorted(os.sched_getaffinity(0)), *asked]), file=log)
reported = [word for word in asked if "/" in word][0].rpartition("=")[2]
us = 1000 + zlib.crc32(os.path.basename(reported).encode()) % 4000
{body}
"""

BODIES = {
    "benchmark_model": """
print("INFO: count=2 first=9 curr=9 min=9 max=9 avg=9.5 std=0")
print(f"INFO: count=8 first=1 curr=1 min=1 max=1 avg={us}.25 std=1")
""",
    "speed_benchmark_torch": """
for _ in range(8):
    print('PyTorchObserver {"type": "NET", "unit": "us", "metric": "latency", "value": "%d"}' % us)
""",
    "executor_runner": """
(asked_runs,) = [word for word in asked if word.startswith("--num_executions=")]
runs = int(asked_runs.rpartition("=")[2])
for run in range(runs):
    ms = us / 1e3 if run >= 2 else us / 100  # the warm-ups
    place = "I 00:00:00.%06u executorch:executor_runner.cpp:599] " % run
    print(place + "Iteration %u of %u: %f ms" % (run + 1, runs, ms), file=sys.stderr)
total = runs * us / 1e3
print(place + "Model executed successfully %u time(s) in %f ms." % (runs, total), file=sys.stderr)
print("OutputX 0: tensor(sizes=[1, 4, 8, 8], [1., 1.])")
""",
    "onnxruntime_perf_test": """
with open(asked[-1], "a") as results:
    for run in range(8):
        print(f"model.onnx,{us / 1e6},48234496,98,{run}", file=results)
""",
}


#: What a visit to a network tells of a program that runs as often as it is asked; others here run 8 times.
SAMPLES = {"executor_runner": Settings().network_min_samples}

#: As executor_runner was before it told of every run.
OLD_EXECUTOR_RUNNER = "\n".join(
    line for line in BODIES["executor_runner"].splitlines() if "Iteration" not in line
)


def program(folder: Path, name: str, body: str | None = None) -> tuple[Path, Path]:
    """A program that prints what the one called `name` prints, and where it notes its arguments."""
    path, log = folder / name, folder / f"{name}.log"
    text = SCRIPT.format(python=sys.executable, log=str(log), body=body or BODIES[name])
    path.write_text(text)
    path.chmod(0o755)
    return path, log
