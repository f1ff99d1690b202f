"""The runner protocol on the wire, as docs/runner-protocol.md has it: without our client."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinymodels import Models, write_wide_onnx

from latbench.device.host.device import HostDevice
from latbench.device.protocol.client import RunnerClient
from latbench.device.protocol.messages import MAX_REQUEST_BYTES, REQUESTS, Hello, RunReply
from latbench.device.protocol.transport import ProcessTransport
from latbench.errors import RunnerFailed
from latbench.runtime.registry import HOST_RUNTIMES, load_model
from latbench.target import Runtime

WORKER = [sys.executable, "-m", "latbench.device.host.worker"]
DOCUMENT = Path(__file__).parents[2] / "docs" / "runner-protocol.md"

Worker = subprocess.Popen[bytes]


@pytest.fixture
def start() -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def begin(*options: str) -> Worker:
        pipe = subprocess.PIPE
        worker = subprocess.Popen([*WORKER, *options], stdin=pipe, stdout=pipe, stderr=pipe)
        workers.append(worker)
        return worker

    yield begin
    for worker in workers:
        worker.kill()
        worker.communicate()


def ask(worker: Worker, line: bytes | dict[str, Any]) -> dict[str, Any]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    data = line if isinstance(line, bytes) else json.dumps(line).encode()
    worker.stdin.write(data + b"\n")
    worker.stdin.flush()
    reply = json.loads(worker.stdout.readline())
    assert isinstance(reply, dict)
    return reply


def refusal(reply: dict[str, Any]) -> tuple[str, str]:
    assert reply["ok"] is False
    assert reply["error"]["kind"] == "refused"
    return reply["error"]["stage"], reply["error"]["message"]


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
        (b'{"id": 7, "op": "load", "runtime": "onnx"}', "load", "field path: Field required"),
        (b'{"id": 7, "op": "load", "path": "x", "runtime": "caffe"}', "load", "field runtime"),
        (b'{"id": 7, "op": "run", "handle": "m1", "seconds": NaN}', "run", "field seconds"),
        (b'{"id": 7, "op": "run", "handle": "m1", "max_samples": 1e9}', "run", "field max_samples"),
        (b'{"id": 7, "op": "unload", "handle": "m1"}', "unload", "unknown handle 'm1'"),
        (b'{"id": 7, "op": "hello", "versions": [99]}', "hello", "no protocol version in common"),
        (b"x" * (MAX_REQUEST_BYTES + 10), "request", "longer than 65536 bytes"),
        (b"x" * (5 * MAX_REQUEST_BYTES), "request", "longer than 65536 bytes"),
    ],
)
def test_bad_requests_are_refused_and_nothing_else_happens(
    start: Callable[..., Worker], line: bytes, stage: str, message: str
) -> None:
    worker = start()
    reply = ask(worker, line)
    told_stage, told = refusal(reply)
    assert told_stage == stage
    assert message in told
    assert reply["id"] == (7 if b'"id": 7' in line else None)
    assert ask(worker, {"id": "next", "op": "hello", "versions": [1]})["id"] == "next"


def test_unknown_fields_are_ignored_and_ids_come_back(start: Callable[..., Worker]) -> None:
    worker = start()
    reply = ask(worker, {"id": {"a": 1}, "op": "hello", "versions": [1, 2], "colour": "blue"})
    assert reply["ok"] is True
    assert reply["id"] == {"a": 1}
    assert reply["version"] == 1


def test_a_whole_conversation_in_one_pipe(start: Callable[..., Worker], models: Models) -> None:
    worker = start()
    path = str(models.of[Runtime.TFLITE])
    requests = [
        {"id": 1, "op": "hello", "versions": [1]},
        {"id": 2, "op": "load", "path": path, "runtime": "tflite"},
        {"id": 3, "op": "run", "handle": "m1", "min_samples": 3, "max_samples": 3},
        {"id": 4, "op": "conditions"},
        {"id": 5, "op": "unload", "handle": "m1"},
    ]
    sent = "".join(json.dumps(request) + "\n\n" for request in requests)
    output, _ = worker.communicate(sent.encode(), timeout=30)
    replies = [json.loads(line) for line in output.splitlines()]
    assert [reply["id"] for reply in replies] == [1, 2, 3, 4, 5]
    assert all(reply["ok"] for reply in replies)
    assert len(replies[2]["samples_ns"]) == 3
    assert worker.returncode == 0


def test_the_companion_app_may_tell_of_core_ml() -> None:
    """runner/ios/shell/engines.m has it in every build, so that every iPhone's `hello` does."""
    told = {"version": 1, "runner": "app", "pid": 1, "os": "ios", "abi": "arm64-v8a"}
    engine = {"runtime": "coreml", "version": "Version 16.7.10"}
    assert Hello.model_validate({**told, "engines": [engine]}).engines[0].runtime is Runtime.COREML


@pytest.mark.parametrize("runtime", HOST_RUNTIMES)
def test_inputs_come_from_the_seed_and_outputs_are_told(
    runtime: Runtime, start: Callable[..., Worker], models: Models
) -> None:
    worker = start()
    run = {"id": 2, "op": "run", "max_samples": 1}
    told = []
    for seed in (0, 0, 2**53):
        load = {"op": "load", "path": str(models.of[runtime]), "runtime": runtime, "seed": seed}
        handle = ask(worker, {"id": 1} | load)["handle"]
        assert ask(worker, run | {"handle": handle})["outputs"] is None
        reply = RunReply.model_validate(ask(worker, run | {"handle": handle, "outputs": True}))
        assert reply.outputs is not None
        (output,) = reply.outputs
        assert output.name == "result"
        told.append(output.array)
    model = load_model(runtime, models.of[runtime])
    model.set_inputs([model.inputs[0].sample(2**53)])
    model.run()
    np.testing.assert_array_equal(told[2], model.get_outputs()[0])
    np.testing.assert_array_equal(told[0], told[1])
    assert not np.array_equal(told[0], told[2])
    for field, value in (("seed", -1), ("seed", 2**53 + 2), ("seed", 0.5)):
        assert refusal(ask(worker, load | {field: value}))[1].startswith(f"field {field}: ")
    assert refusal(ask(worker, run | {"handle": handle, "outputs": 1}))[1].startswith("field outp")


def test_a_reply_that_is_too_long_is_refused(start: Callable[..., Worker], tmp_path: Path) -> None:
    worker = start()
    load = {"op": "load", "path": str(write_wide_onnx(tmp_path / "wide.onnx")), "runtime": "onnx"}
    assert ask(worker, {"id": 1} | load)["ok"]
    run = {"op": "run", "handle": "m1", "max_samples": 1}
    stage, message = refusal(ask(worker, {"id": 2, "outputs": True} | run))
    assert (stage, message) == ("run", "the reply would take more than 16777216 bytes")
    assert ask(worker, {"id": 3} | run)["ok"]


def test_the_reference_needs_no_load(start: Callable[..., Worker]) -> None:
    worker = start()
    assert ask(worker, {"id": 1, "op": "hello"})["reference"] == HostDevice.reference
    run = {"op": "run", "handle": "reference", "max_samples": 1, "outputs": True}
    reply = ask(worker, {"id": 2} | run)
    assert (len(reply["samples_ns"]), reply["threads_observed"]) == (1, 1)
    assert reply["outputs"] == []
    stage, message = refusal(ask(worker, {"id": 3, "op": "unload", "handle": "reference"}))
    assert (stage, message.partition(";")[0]) == ("unload", "unknown handle 'reference'")


def test_quit_ends_with_status_zero(start: Callable[..., Worker]) -> None:
    worker = start()
    assert ask(worker, {"id": 1, "op": "quit"}) == {"id": 1, "ok": True}
    assert worker.wait(timeout=10) == 0


def test_the_end_of_the_input_ends_the_runner(start: Callable[..., Worker]) -> None:
    worker = start()
    ask(worker, {"id": 1, "op": "hello"})
    output, _ = worker.communicate(b'{"id": 2, "op": "hel', timeout=10)  # a line that is cut off
    assert output == b""
    assert worker.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no alarm and no poll")
def test_a_lost_host_ends_a_runner_whose_model_never_ends(
    start: Callable[..., Worker], models: Models
) -> None:
    worker = start()
    loading = {"op": "load", "path": str(models.endless), "runtime": "torchscript"}
    assert ask(worker, {"id": 1, "input_shapes": [[1]]} | loading)["ok"]
    worker.communicate(b'{"id": 2, "op": "run", "handle": "m1"}\n', timeout=40)
    assert worker.returncode == 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no alarm")
def test_an_orphan_ends_after_max_seconds(start: Callable[..., Worker]) -> None:
    worker = start("--max-seconds", "1")
    ask(worker, {"id": 1, "op": "hello"})
    assert worker.wait(timeout=20) == -signal.SIGALRM


# Our client, against runners that do not keep to it


def client_of(program: str) -> RunnerClient:
    return RunnerClient(ProcessTransport([sys.executable, "-c", program], {}))


HELLO = (
    '{"id":1,"ok":true,"version":1,"runner":"r","pid":1,"os":"linux","abi":"arm64",'
    '"engines":[],"from the future":[]}'
)


def test_lines_that_are_no_replies_are_passed_over() -> None:
    program = (
        "import sys, time\n"
        "print('WARNING: linker: unused DT entry')\n"
        'print(\'{"id": 99, "ok": true}\')\n'
        "print('[]')\n"
        f"text = '''{HELLO}'''\n"
        "for part in (text[:20], text[20:], '\\n'):\n"  # a reply that comes in pieces
        "    sys.stdout.write(part); sys.stdout.flush(); time.sleep(0.05)\n"
        "input()\n"
    )
    client = client_of(program)
    assert client.hello().runner == "r"
    client.kill()


@pytest.mark.parametrize(
    ("program", "kind", "reason"),
    [
        ("while True: print('hello, who are you?')", "refused", "does not speak the runner prot"),
        ("print('x' * (17 << 20)); input()", "refused", "longer than 16 MiB"),
        ('print(\'{"id":1,"ok":true}\'); input()', "refused", "not of the protocol: version"),
        ('print(\'{"id":1,"ok":false}\'); input()', "refused", "did not say why"),
        (
            f"print('''{HELLO}'''.replace('version\":1', 'version\":7')); input()",
            "refused",
            "speaks version 7",
        ),
        ("import sys; sys.exit('no engine here')", "crashed", r"status 1; .*: no engine here"),
        ("import os; os.close(1); os.close(2); input(); input()", "crashed", "ended with exit"),
        ("import os; os.abort()", "crashed", "ended by SIGABRT"),
        ("import time; time.sleep(60)", "hung", r"no answer within 0\.5 s"),
    ],
)
def test_a_runner_that_breaks_the_protocol_is_told_clearly(
    program: str, kind: str, reason: str
) -> None:
    with client_of(program) as client, pytest.raises(RunnerFailed, match=reason) as raised:
        client.hello(timeout_s=0.5 if kind == "hung" else 20)
    assert (raised.value.stage, raised.value.kind) == ("hello", kind)


@pytest.mark.parametrize("samples", ["[]", "[5, 0]", "[-1]", "[9223372036854775808]", "[1.5]"])
def test_samples_that_no_clock_tells_are_refused(samples: str) -> None:
    told = f'print(\'{{"id":1,"ok":true,"samples_ns":{samples}}}\'); input()'
    with client_of(told) as client, pytest.raises(RunnerFailed, match="samples_ns") as raised:
        client.run("m1")
    assert (raised.value.stage, raised.value.kind) == ("run", "refused")


def test_waiting_costs_no_cpu_time() -> None:
    with client_of("import time; time.sleep(60)") as client:
        before = time.process_time()
        with pytest.raises(RunnerFailed):
            client.hello(timeout_s=1)
        # A busy loop would have used the whole second.
        assert time.process_time() - before < 0.5


def test_the_document_names_every_request_and_field() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for op, model in REQUESTS.items():
        (section,) = re.findall(rf"^### `{op}`\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
        for field in model.model_fields:
            assert f"`{field}`" in section or field == "op", f"{op}.{field} is not documented"
