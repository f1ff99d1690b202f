"""Write a trained network: weights, `network.py`, the file of each runtime, timm's notation."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from fbnet_search.data.batches import batches
from fbnet_search.data.images import ImageData
from fbnet_search.run.checkpoint import save_tensors
from fbnet_search.training.standalone import standalone_source
from fbnet_search.training.timm_arch import timm_file
from latbench.errors import BadRequest, LatbenchError
from latbench.files import write_atomically
from latbench.runtime.registry import HOST_RUNTIMES, descriptor
from latbench.space import Architecture, read_architecture
from latbench.target import Precision

_SAMPLES = 32  # images on which the numerics of an export are checked


def write_network(
    network: nn.Module, architecture: Architecture, data: ImageData, out: Path
) -> None:
    """Write `weights.pth`, `architecture.json` and `network.py` to `out`.

    Args:
        architecture: as it was found, in the space of its LUT.

    Raises:
        OutputFailed: a file cannot be written.
    """
    save_tensors(out / "weights.pth", network.state_dict())
    _keep_architecture(architecture, out / "architecture.json")
    write_atomically(
        out / "network.py", standalone_source(deployed(architecture, data), data.classes)
    )


def deployed(architecture: Architecture, data: ImageData) -> Architecture:
    """The trained network: `architecture` with the input size and the classes of the data."""
    space = architecture.space.at(input_size=data.image_size, classes=len(data.classes))
    return replace(architecture, space=space)


def write_formats(
    network: nn.Module, architecture: Architecture, data: ImageData, out: Path
) -> dict[str, Path]:
    """Export `network` in fp32 for every runtime of the host; returns the files by runtime.

    Args:
        architecture: as it was found, in the space of its LUT.
        data: its test images check the numerics.

    Raises:
        ExportFailed: a file's outputs on test images differ from PyTorch's.
        OutputFailed: a file cannot be written.
    """
    numbers = torch.arange(min(_SAMPLES, len(data.test)))
    samples, _ = next(batches(data.test, numbers, _SAMPLES))
    return export_formats(network, deployed(architecture, data), out, samples)


def export_formats(
    network: nn.Module, architecture: Architecture, out: Path, samples: Tensor
) -> dict[str, Path]:
    """Export `network`, an `architecture`, in fp32 for every runtime of the host, to `out`.

    Args:
        samples: real images (N, 3, S, S), which check the numerics.

    Raises:
        ExportFailed: a file's outputs on `samples` differ from PyTorch's.
        OutputFailed: a file cannot be written.
    """
    from latbench.export import export_module

    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    images = [image[None] for image in samples.contiguous()]
    artifacts = {}
    for runtime in HOST_RUNTIMES:
        path = out / f"network{descriptor(runtime).suffix}"
        export_module(network, architecture, runtime, Precision.FP32, path, samples=images)
        artifacts[runtime.value] = path
    return artifacts


def write_timm(architecture: Architecture, path: Path) -> str:
    """Write the network in timm's notation, and return what the model card says of the file.

    Raises:
        OutputFailed: the file cannot be written.
    """
    try:
        write_atomically(path, timm_file(architecture))
    except BadRequest as error:
        path.unlink(missing_ok=True)
        return f"not written: {error.message} {'; '.join(error.details)}"
    return "block strings and head for timm's EfficientNet"


def _keep_architecture(architecture: Architecture, path: Path) -> None:
    """Write architecture.json, unless the existing one, of a search, has the same architecture."""
    try:
        if read_architecture(str(path)) == architecture:
            return
    except LatbenchError:  # missing, or not an architecture
        pass
    write_atomically(path, json.dumps(architecture.to_dict(), indent=1) + "\n")
