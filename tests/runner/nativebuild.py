"""Builds the native runner, and finds the engines that it loads."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latbench.device.protocol.client import RunnerClient
from latbench.device.protocol.transport import ProcessTransport
from latbench.target import Runtime

Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Built:
    """A build of the runner, and the engines of this Python's wheels."""

    folder: Path
    engines: dict[Runtime, Path]

    @property
    def program(self) -> Path:
        return self.folder / "latbench-runner"

    def command(self, *options: str) -> list[str]:
        """The command that starts it with every engine."""
        return [
            str(self.program),
            "--onnxruntime",
            str(self.engines[Runtime.ONNX]),
            "--litert",
            str(self.engines[Runtime.TFLITE]),
            *options,
        ]

    def client(self, *options: str) -> RunnerClient:
        """A conversation with a new runner."""
        return RunnerClient(ProcessTransport(self.command(*options), dict(os.environ)))


def ask(process: Process, line: bytes | dict[str, Any]) -> dict[str, Any]:
    """Send one line to a runner without our client, and return its reply."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")
    process.stdin.flush()
    reply = json.loads(process.stdout.readline())
    assert isinstance(reply, dict)
    return reply
