"""LibTorch's aarch64 wheel behind the runner's plugin, in the arm64 phone, computes what PyTorch computes.

Its libraries are a download of 440 MB, so nobody gets them unasked: `make rig-torchscript`.
"""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from latbench.device.android.adb.direct import DirectLink
from latbench.device.android.adb.keys import own_key, signer
from latbench.device.android.artifacts import send_artifacts
from latbench.device.protocol.client import RunnerClient
from latbench.export import ArtifactStore, export_op
from latbench.runtime.registry import load_model
from latbench.space import SearchSpace
from latbench.target import Precision, Runtime
from tests.rigs.parts import default_cache, parts, torch_version
from tests.rigs.phone import Phone
from tests.rigs.phone.torchscript import PLUGIN

#: Asked for before a test has a HOME of its own.
CACHE = default_cache()
PARTS = parts(CACHE)

pytestmark = [
    pytest.mark.rig,
    pytest.mark.skipif(
        not PARTS.torchscript.is_dir(), reason="440 MB: python -m tests.rigs.setup --torchscript"
    ),
]

SPACE = SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)
FOLDER, RUNNER = "/data/local/tmp/torch", "/data/local/tmp/latbench-runner"
PATIENCE_S = 600.0  # qemu translates 270 MB of LibTorch before it says hello


@pytest.fixture(params=["galaxy-s8", "current"])
def link(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DirectLink]:
    """The way to a phone that lets this test in, and has LibTorch, the plugin and the runner."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with Phone(request.param, cache=CACHE) as phone:
        signer(own_key())  # makes the key
        phone.allow(own_key().with_name("adbkey.pub").read_text())
        # To push them would show nothing that other tests do not.
        shutil.copytree(PARTS.torchscript, phone.data / "local/tmp/torch")
        with closing(DirectLink.tcp(phone.address)) as link:
            program = PARTS.runner / "runners/arm64-v8a/latbench-runner"
            link.push([(program, RUNNER)], mode=0o755)
            yield link


def test_ops_compute_what_pytorch_computes(link: DirectLink) -> None:
    store = ArtifactStore()
    ops = [
        export_op(op, Runtime.TORCHSCRIPT, Precision.FP32, store).path
        for op in SPACE.unique_ops[:3]
    ]
    places = send_artifacts(link, ops)
    stream = link.open_stream(
        f"export LD_LIBRARY_PATH={FOLDER}; exec {RUNNER} --torchscript {FOLDER}/{PLUGIN}"
    )
    with RunnerClient(stream) as runner:
        (engine,) = runner.hello(PATIENCE_S).engines
        assert (engine.runtime, engine.version) == (Runtime.TORCHSCRIPT, torch_version())
        for op in ops:
            loaded = runner.load(places[op], Runtime.TORCHSCRIPT, cores=(7,), timeout_s=PATIENCE_S)
            assert loaded.cores_observed == (7,)
            reply = runner.run(
                loaded.handle, min_samples=2, max_samples=2, outputs=True, timeout_s=PATIENCE_S
            )
            assert len(reply.samples_ns) == 2
            here = load_model(Runtime.TORCHSCRIPT, op)
            here.run()
            assert reply.outputs is not None
            np.testing.assert_allclose(
                reply.outputs[0].array, here.get_outputs()[0], rtol=1e-4, atol=1e-4
            )
