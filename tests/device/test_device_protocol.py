"""The runner protocol on the wire, as docs/runner-protocol.md specifies it, without our client."""

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
        (
            b'{"id": 7, "op": "load", "path": "m", "runtime": "onnx", "threads": true}',
            "load",
            "field threads",
        ),
        (
            b'{"id": 7, "op": "load", "path": "m", "runtime": "onnx", "cores": ["1"]}',
            "load",
            "field cores.0",
        ),
        (b'{"id": 7, "op": "run", "handle": "m1", "warmups": false}', "run", "field warmups"),
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
    told_stage, reported = refusal(reply)
    assert told_stage == stage
    assert message in reported
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
    reported = {"version": 1, "runner": "app", "pid": 1, "os": "ios", "abi": "arm64-v8a"}
    engine = {"runtime": "coreml", "version": "Version 16.7.10"}
    assert (
        Hello.model_validate({**reported, "engines": [engine]}).engines[0].runtime is Runtime.COREML
    )


@pytest.mark.parametrize("runtime", HOST_RUNTIMES)
def test_inputs_come_from_the_seed_and_outputs_are_returned(
    runtime: Runtime, start: Callable[..., Worker], models: Models
) -> None:
    worker = start()
    run = {"id": 2, "op": "run", "max_samples": 1}
    reported = []
    for seed in (0, 0, 2**53):
        load = {"op": "load", "path": str(models.of[runtime]), "runtime": runtime, "seed": seed}
        handle = ask(worker, {"id": 1} | load)["handle"]
        assert ask(worker, run | {"handle": handle})["outputs"] is None
        reply = RunReply.model_validate(ask(worker, run | {"handle": handle, "outputs": True}))
        assert reply.outputs is not None
        (output,) = reply.outputs
        assert output.name == "result"
        reported.append(output.array)
    model = load_model(runtime, models.of[runtime])
    model.set_inputs([model.inputs[0].sample(2**53)])
    model.run()
    np.testing.assert_array_equal(reported[2], model.get_outputs()[0])
    np.testing.assert_array_equal(reported[0], reported[1])
    assert not np.array_equal(reported[0], reported[2])
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
        ('print(\'{"id":1,"ok":true}\'); input()', "refused", "follow the protocol: field version"),
        ('print(\'{"id":1,"ok":false}\'); input()', "refused", "gave no reason"),
        (
            f"print('''{HELLO}'''.replace('version\":1', 'version\":7')); input()",
            "refused",
            "speaks version 7",
        ),
        ("import sys; sys.exit('no engine here')", "crashed", r"status 1; .*: no engine here"),
        ("import os; os.close(1); os.close(2); input(); input()", "crashed", "ended with exit"),
        ("import os; os.abort()", "crashed", "killed by SIGABRT"),
        ("import time; time.sleep(60)", "hung", r"no answer within 0\.5 s"),
    ],
)
def test_a_runner_that_breaks_the_protocol_is_reported(
    program: str, kind: str, reason: str
) -> None:
    with client_of(program) as client, pytest.raises(RunnerFailed, match=reason) as raised:
        client.hello(timeout_s=0.5 if kind == "hung" else 20)
    assert (raised.value.stage, raised.value.kind) == ("hello", kind)


def replies(*lines: str) -> RunnerClient:
    """A client of a runner that answers every request with the next of `lines`."""
    program = f"for line in {lines!r}: input(); print(line, flush=True)\ninput()"
    return client_of(program)


def test_a_refusal_of_a_request_that_could_not_be_read_ends_the_request() -> None:
    """The runner does not know the id of such a request, so its reply has none."""
    refusal = {"stage": "request", "message": "the line is not JSON", "details": ["a"], "hint": "b"}
    line = json.dumps({"id": None, "ok": False, "error": refusal})
    with replies(line, HELLO.replace('"id":1', '"id":2')) as client:
        with pytest.raises(RunnerFailed, match=r"the line is not JSON: a$") as raised:
            client.hello(timeout_s=20)
        assert (raised.value.stage, raised.value.kind) == ("request", "refused")
        assert raised.value.hint == "b"
        assert client.hello().runner == "r"  # it is still usable


@pytest.mark.parametrize(
    "other", ['"id":true', '"id":1.0', '"id":"1"', '"id":[1]', '"id":null', '"number":1']
)
def test_only_the_id_of_the_request_makes_a_line_its_reply(other: str) -> None:
    impostor = HELLO.replace('"id":1', other).replace('"runner":"r"', '"runner":"impostor"')
    with replies(f"{impostor}\n{HELLO}") as client:
        assert client.hello().runner == "r"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"version":1', '"version":true'),
        ('"version":1', '"version":"1"'),
        ('"version":1', '"version":1.0'),
        ('"pid":1', '"pid":false'),
        ('"runner":"r"', '"runner":7'),
        ('"engines":[]', '"engines":{}'),
        ('"ok":true', '"ok":1'),
        ('"ok":true', '"ok":"true"'),
    ],
)
def test_a_field_of_another_type_is_refused(old: str, new: str) -> None:
    assert old in HELLO
    with replies(HELLO.replace(old, new)) as client:
        with pytest.raises(
            RunnerFailed, match=f"field {old[1 : old.index(':') - 1]}|no reason"
        ) as raised:
            client.hello()
        assert (raised.value.stage, raised.value.kind) == ("hello", "refused")


def test_conditions_hold_numbers_only() -> None:
    line = '{"id":1,"ok":true,"clocks_khz":{"0":VALUE},"load_average":1,"screen_on":true}'
    with replies(line.replace("VALUE", "2400000")) as client:
        seen = client.conditions()
    assert (seen.clocks_khz, seen.load_average, seen.screen_on) == ({0: 2400000}, 1.0, True)
    for value in ("true", '"2400000"', "2.5"):
        with (
            replies(line.replace("VALUE", value)) as client,
            pytest.raises(RunnerFailed, match=r"field clocks_khz\.0"),
        ):
            client.conditions()


@pytest.mark.parametrize(
    ("request_of", "failure", "message"),
    [
        ("load", {"stage": "load", "message": "no"}, "cannot load the model: no"),
        ("run", {"stage": "run", "message": "no"}, "cannot run the model: no"),
        (
            "conditions",
            {"stage": "conditions", "message": "no"},
            "cannot read the state of the unit: no",
        ),
    ],
)
def test_a_refusal_says_what_could_not_be_done(
    request_of: str, failure: dict[str, str], message: str
) -> None:
    asks: dict[str, Callable[[RunnerClient], object]] = {
        "load": lambda client: client.load("/m.onnx", Runtime.ONNX),
        "run": lambda client: client.run("m1"),
        "conditions": lambda client: client.conditions(),
    }
    with replies(json.dumps({"id": 1, "ok": False, "error": failure})) as client:
        with pytest.raises(RunnerFailed) as raised:
            asks[request_of](client)
        assert raised.value.message == message
        named = raised.value.of("m.onnx")
        assert named.message == message.replace("the model", "m.onnx")
        assert (named.stage, named.kind, named.reason) == (request_of, "refused", "no")


@pytest.mark.parametrize(
    "samples", ["[]", "[5, 0]", "[-1]", "[9223372036854775808]", "[1.5]", "[true]", '["5"]']
)
def test_samples_that_no_clock_reads_are_refused(samples: str) -> None:
    reply = f'print(\'{{"id":1,"ok":true,"samples_ns":{samples}}}\'); input()'
    with client_of(reply) as client, pytest.raises(RunnerFailed, match="samples_ns") as raised:
        client.run("m1")
    assert (raised.value.stage, raised.value.kind) == ("run", "refused")


class _Noting:
    """A transport to a runner that never answers, which notes the deadlines, seconds from now."""

    alive = True

    def __init__(self) -> None:
        self.deadlines: list[float] = []

    def send(self, data: bytes, deadline: float) -> None:
        self.deadlines.append(deadline - time.monotonic())

    def receive(self, deadline: float) -> bytes:
        raise TimeoutError

    def close(self, grace_s: float) -> None:
        pass

    def post_mortem(self) -> str:
        return "it was killed"


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({}, 0),
        ({"seconds": 500.0, "warmup_seconds": 300.0}, 800),
        ({"max_samples": 2000, "idle_ms": 1500.0}, 3000),
        ({"timeout_s": 4000.0, "seconds": 500.0}, 4000 - 120),
    ],
)
def test_the_deadline_of_a_run_includes_its_seconds_and_pauses(
    settings: dict[str, Any], seconds: float
) -> None:
    transport = _Noting()
    with pytest.raises(RunnerFailed, match="no answer"):
        RunnerClient(transport).run("m1", **settings)
    (deadline,) = transport.deadlines
    # 120 s beyond its own seconds, less the moment since.
    assert seconds + 120 - 60 < deadline <= seconds + 120


def test_a_request_larger_than_a_pipe_arrives_whole() -> None:
    program = (
        "import json\n"
        "path = json.loads(input())['path']\n"
        "error = {'stage': 'load', 'message': f'a path of {len(path)} letters'}\n"
        "print(json.dumps({'id': 1, 'ok': False, 'error': error}), flush=True)\n"
        "input()\n"
    )
    with (
        client_of(program) as client,
        pytest.raises(RunnerFailed, match="a path of 1000000 letters"),
    ):
        client.load("x" * 1_000_000, Runtime.ONNX)


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
