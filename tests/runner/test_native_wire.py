"""The native runner on the wire, its ends, and its errors for broken engines and models."""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from nativebuild import Built, Process, ask
from onnx import TensorProto, helper
from tinymodels import Models

from latbench.device.protocol.messages import MAX_REQUEST_BYTES
from latbench.errors import RunnerFailed
from latbench.target import Runtime

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def endless_model(folder: Path) -> Path:
    """An ONNX file that never ends: a loop whose condition stays true."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still"]),
            helper.make_node("Add", ["x", "x"], ["y"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [4]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [4]),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["", "flag", "start"], ["end"], body=body)],
        "graph",
        [
            helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
            helper.make_tensor_value_info("start", TensorProto.FLOAT, [4]),
        ],
        [helper.make_tensor_value_info("end", TensorProto.FLOAT, [4])],
    )
    path = folder / "endless.onnx"
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), str(path))
    return path


@pytest.mark.parametrize(
    ("line", "stage", "message"),
    [
        (b"load the model please", "request", "not JSON"),
        (b"[" * 30_000, "request", "not JSON"),
        (b"\xff\xfe\x00", "request", "not JSON"),
        (b"[1, 2]", "request", "not a JSON object"),
        (b'{"id": 7}', "request", "unknown op None"),
        (b'{"id": 7, "op": ["load"]}', "request", "unknown op"),
        (b'{"id": 7, "op": "explode"}', "request", "unknown op 'explode'; known: hello, load"),
        (b'{"id": 7, "op": "load", "runtime": "onnx"}', "load", "field path: "),
        (b'{"id": 7, "op": "run", "handle": "m1"}', "run", "unknown handle 'm1'"),
        (b'{"id": 7, "op": "unload"}', "unload", "field handle"),
        (b'{"id": 7, "op": "hello", "versions": [99]}', "hello", "no protocol version in common"),
        (b"x" * (MAX_REQUEST_BYTES + 10), "request", "longer than 65536 bytes"),
        (b"x" * (5 * MAX_REQUEST_BYTES), "request", "longer than 65536 bytes"),
    ],
)
def test_bad_requests_are_refused_and_nothing_else_happens(
    start: Callable[..., Process], line: bytes, stage: str, message: str
) -> None:
    process = start()
    reply = ask(process, line)
    assert (reply["ok"], reply["error"]["kind"]) == (False, "refused")
    assert reply["error"]["stage"] == stage
    assert message in reply["error"]["message"]
    assert reply["id"] == (7 if b'"id": 7' in line else None)
    assert ask(process, {"id": "next", "op": "conditions", "new": 1})["id"] == "next"


def test_the_longest_request_is_taken(start: Callable[..., Process]) -> None:
    process = start()
    line = b'{"id": 1, "op": "conditions", "padding": "'
    line += b"x" * (MAX_REQUEST_BYTES - 1 - len(line) - 2) + b'"}'
    assert ask(process, line)["ok"] is True


# What ends it


def test_a_whole_conversation_in_one_pipe(start: Callable[..., Process], models: Models) -> None:
    process = start()
    path = str(models.of[Runtime.TFLITE])
    requests = [
        {"id": 1, "op": "hello", "versions": [1]},
        {"id": 2, "op": "load", "path": path, "runtime": "tflite"},
        {"id": 3, "op": "run", "handle": "m1", "min_samples": 3, "max_samples": 3},
        {"id": 4, "op": "conditions"},
        {"id": 5, "op": "unload", "handle": "m1"},
    ]
    sent = "".join(json.dumps(request) + "\n\n" for request in requests) + '{"id": 6, "op": "hel'
    output, _ = process.communicate(sent.encode(), timeout=30)
    replies = [json.loads(line) for line in output.splitlines()]
    assert [reply["id"] for reply in replies] == [1, 2, 3, 4, 5]
    assert all(reply["ok"] for reply in replies)
    assert process.returncode == 0


def test_quit_ends_with_status_zero(start: Callable[..., Process]) -> None:
    process = start()
    assert ask(process, {"id": 1, "op": "quit"}) == {"id": 1, "ok": True}
    assert process.wait(timeout=10) == 0


def test_ctrl_c_is_the_clients(start: Callable[..., Process]) -> None:
    process = start()
    ask(process, {"id": 1, "op": "conditions"})
    process.send_signal(signal.SIGINT)
    assert ask(process, {"id": 2, "op": "conditions"})["ok"]


def test_it_ends_where_nobody_reads(start: Callable[..., Process]) -> None:
    process = start()
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.close()
    process.stdin.write(b'{"id": 1, "op": "conditions"}\n')
    process.stdin.flush()
    assert process.wait(timeout=10) == 0


def load_endless(process: Process, folder: Path) -> None:
    # The output's shape is known, so loading runs nothing; the flag is filled with true.
    load = {"op": "load", "path": str(endless_model(folder)), "runtime": "onnx"}
    reply = ask(process, {"id": 1} | load)
    assert reply["ok"], reply


def test_a_lost_client_ends_a_runner_whose_model_never_ends(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    process = start()
    load_endless(process, tmp_path)
    process.communicate(b'{"id": 2, "op": "run", "handle": "m1"}\n', timeout=40)
    assert process.returncode == 3


def test_an_orphan_ends_after_max_seconds_whatever_it_does(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    process = start("--max-seconds", "3")
    load_endless(process, tmp_path)
    assert process.stdin is not None
    process.stdin.write(b'{"id": 2, "op": "run", "handle": "m1"}\n')
    process.stdin.flush()
    assert process.wait(timeout=20) == -signal.SIGALRM


def test_a_model_that_crashes_costs_one_runner_and_names_the_op(
    built: Built, models: Models, tmp_path: Path
) -> None:
    broken = bytearray(models.of[Runtime.TFLITE].read_bytes())
    # The offsets in the flatbuffer's root table, each far behind the end: LiteRT follows them.
    root = int.from_bytes(broken[:4], "little")
    broken[root + 4 : root + 16] = (0x40000000).to_bytes(4, "little") * 3
    path = tmp_path / "broken.tflite"
    path.write_bytes(broken)
    with built.client() as client:
        with pytest.raises(RunnerFailed, match=r"killed by SIG(SEGV|BUS)") as raised:
            client.load(str(path), Runtime.TFLITE)
        assert (raised.value.stage, raised.value.kind) == ("load", "crashed")
        (report,) = re.findall(r'\{"id":null.*\}\}', str(raised.value))
        error = json.loads(report)["error"]
        assert (error["stage"], error["kind"]) == ("load", "crashed")
        assert not client.alive


def test_unknown_options_are_refused(built: Built) -> None:
    for options in (["--colour", "blue"], ["--max-seconds"], ["--listen", "x"], ["-h"]):
        done = subprocess.run(
            [built.program, *options], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert "usage: latbench-runner" in done.stderr


# Engines that are not what they should be


def test_an_old_and_noisy_engine_is_refused_and_not_heard(
    built: Built, models: Models, tmp_path: Path
) -> None:
    source = tmp_path / "old.c"
    source.write_text(
        """#include <stdio.h>
        static void *const *get_api(unsigned v) {
            (void)v; printf("{\\"id\\": 1, \\"ok\\": true}\\n"); fflush(stdout); return NULL;
        }
        static const char *get_version(void) { return "1.2.3"; }
        const struct { void *const *(*a)(unsigned); const char *(*v)(void); }
            base = {get_api, get_version};
        const void *OrtGetApiBase(void) { return &base; }"""
    )
    library = tmp_path / "libonnxruntime.so"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    not_a_library = tmp_path / "libLiteRt.so"
    not_a_library.write_bytes(b"not an ELF file")
    command = [str(built.program), "--engine-dir", str(tmp_path)]
    path = str(models.of[Runtime.ONNX])
    requests = [
        {"id": 1, "op": "hello"},
        {"id": 2, "op": "load", "path": path, "runtime": "onnx"},
        {"id": 3, "op": "load", "path": path, "runtime": "tflite"},
    ]
    sent = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run(command, input=sent, capture_output=True, text=True, check=True)
    hello, old, broken = map(json.loads, done.stdout.splitlines())
    assert hello["engines"] == []
    assert old["error"]["message"] == "ONNX Runtime 1.2.3 is older than 1.12"
    assert "cannot be loaded" in broken["error"]["message"]
    assert done.stderr.count('"ok": true') == 1


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (
            "other",
            "is neither LiteRT 2.1.6 or later nor TensorFlow Lite: it has no LiteRtCreateMod",
        ),
        ("TfLiteInterpreterCreate", "has no TfLiteVersion"),
        ("LiteRtCreateModelFromFd", "has no LiteRtCreateEnvironment"),
    ],
)
def test_what_a_library_exports_decides_who_speaks_to_it(
    function: str, problem: str, built: Built, models: Models, tmp_path: Path
) -> None:
    """Here libraries that are no engines; tests/rigs/test_ios_tflite.py has a TensorFlow Lite."""
    source, library = tmp_path / "some.c", tmp_path / "some.so"
    source.write_text(f"void {function}(void) {{}}")
    subprocess.run(
        [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", library, source], check=True
    )
    request = {"op": "load", "path": str(models.of[Runtime.TFLITE]), "runtime": "tflite"}
    command = [str(built.program), "--litert", str(library)]
    sent = json.dumps(request) + "\n"
    done = subprocess.run(command, input=sent, capture_output=True, text=True, check=True)
    assert problem in json.loads(done.stdout)["error"]["message"]


@pytest.mark.parametrize(
    "more", ["", "unsigned long latbench_engine_bytes(void) { return 96; }"], ids=["none", "less"]
)
def test_an_engine_of_another_runner_is_refused(more: str, built: Built, tmp_path: Path) -> None:
    """What it says of itself would be read as what it is not."""
    source, library = tmp_path / "some.c", tmp_path / "some.so"
    source.write_text(f"void *latbench_engine(void) {{ return 0; }}\n{more}\n")
    subprocess.run(
        [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", library, source], check=True
    )
    command = [str(built.program), "--torchscript", str(library)]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "was built for another version of the runner" in done.stderr
    assert "latbench runner build --torchscript" in done.stderr


def test_routine_lines_do_not_displace_the_last_message(
    start: Callable[..., Process], models: Models
) -> None:
    process = start()
    load = {"op": "load", "path": str(models.of[Runtime.TFLITE]), "runtime": "tflite"}
    for number in range(3):
        assert ask(process, {"id": number} | load)["ok"]
    _, said = process.communicate(timeout=20)
    # TensorFlow Lite inside LiteRT has one of its own; there were 15.
    assert len(said.splitlines()) <= 1


# Over TCP


def converse(port: int, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall("".join(json.dumps(request) + "\n" for request in requests).encode())
        lines = connection.makefile("rb")
        return [json.loads(lines.readline()) for _ in requests]


def test_one_client_after_another_over_tcp(start: Callable[..., Process], models: Models) -> None:
    process = start("--listen", "0")
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    matched = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line)
    assert matched, line
    port = int(matched[1])
    load = {"op": "load", "path": str(models.of[Runtime.ONNX]), "runtime": "onnx"}
    first = converse(port, [{"id": 1} | load | {"cores": [CORES[0]]}, {"id": 2, "op": "run"}])
    assert first[0]["handle"] == "m1"
    assert first[0]["cores_observed"] == [CORES[0]]
    assert first[1]["error"]["stage"] == "run"
    # Another client, another target; nothing of the first one's is left.
    second = converse(
        port,
        [
            {"id": 1} | load | {"threads": 2},
            {"id": 2, "op": "run", "handle": "m1"},
            {"id": 3, "op": "quit"},
        ],
    )
    assert second[0]["handle"] == "m2"
    assert second[0]["cores_observed"] == CORES
    assert second[1]["error"]["message"] == "unknown handle 'm1'"
    assert second[2]["ok"]
    assert process.wait(timeout=10) == 0
