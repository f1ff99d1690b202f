"""Core ML packages have the graph's structure; on a Mac they also compute what the graph does.

coremltools is an optional extra: without it all this is skipped. On Linux it cannot run a model.
"""

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latbench.errors import ExportFailed
from latbench.graph.lowering import lower
from latbench.graph.nodes import Graph
from latbench.runtime.coreml.writer import unpack, write_coreml
from latbench.space import parse_key
from latbench.space.blocks import build_op

pytestmark = pytest.mark.rig

HERE = importlib.util.find_spec("coremltools") is not None
needed = pytest.mark.skipif(not HERE, reason="pip install latbench[coreml]")
BLOCK = "ir_k5_e6_g2_s1_i16_o16_h14_w14"


def graph_of(key: str) -> tuple[torch.nn.Module, Graph]:
    op = parse_key(key)
    torch.manual_seed(0)
    module = build_op(op).eval()
    return module, lower(module, (1, 16, 14, 14))


@needed
def test_a_package_has_the_graphs_structure(tmp_path: Path) -> None:
    import coremltools

    _, graph = graph_of(BLOCK)
    package = write_coreml(graph, {"op": BLOCK})
    assert (unpack(package, tmp_path) / "Manifest.json").is_file()
    model = coremltools.models.MLModel(str(tmp_path / "model.mlpackage"), skip_model_load=True)
    specification = model.get_spec()
    ends = [*specification.description.input, *specification.description.output]
    assert [end.name for end in ends] == ["input", "output"]
    assert list(ends[0].type.multiArrayType.shape) == [1, 16, 14, 14]
    assert json.loads(model.user_defined_metadata["latbench"]) == {"op": BLOCK}
    (block,) = specification.mlProgram.functions["main"].block_specializations.values()
    kinds: Counter[str] = Counter(operation.type for operation in block.operations)
    assert kinds["conv"] == sum(type(node).__name__ == "Conv" for node in graph.nodes) == 3
    assert kinds["transpose"] == sum(type(node).__name__ == "Shuffle" for node in graph.nodes)
    assert kinds["add"] == 1
    assert kinds["cast"] == 0, "it stays in 32-bit floats"


@needed
@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML runs on a Mac")
def test_a_package_computes_what_the_graph_does(tmp_path: Path) -> None:
    import coremltools

    module, graph = graph_of(BLOCK)
    path = unpack(write_coreml(graph, {}), tmp_path)
    model = coremltools.models.MLModel(str(path), compute_units=coremltools.ComputeUnit.CPU_ONLY)
    given = torch.randn(1, 16, 14, 14)
    with torch.no_grad():
        expected: Any = module(given).numpy()
    (made,) = model.predict({"input": given.numpy()}).values()
    np.testing.assert_allclose(made, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(HERE, reason="coremltools is here")
def test_without_coremltools_the_extra_is_named() -> None:
    with pytest.raises(ExportFailed, match="coremltools") as raised:
        write_coreml(graph_of(BLOCK)[1], {})
    assert "latbench[coreml]" in str(raised.value.hint)
