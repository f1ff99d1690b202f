"""A found network as one Python file that needs PyTorch only.

The file builds the network from the expressions of its modules, under the names in `weights.pth`, so that the
weights load strictly. The classes that PyTorch lacks are copied into it from `latbench.space.modules`.
"""

import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from fbnet_search.result import versions
from latbench.space import Architecture
from latbench.space.blocks import build_ops

_TEMPLATE = '''"""{title}

Written by fbnet-train (latbench {version}); needs PyTorch only. With weights.pth in the same folder:

    from network import network
    model = network("weights.pth").eval()
    logits = model(images)    # float (N, 3, {size}, {size}), pixel / 127.5 - 1; logits (N, {classes})
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

CLASSES = {names}


{sources}def network(weights=None):
    """The network, with the weights of a file or with PyTorch's random ones."""
    model = nn.Sequential(
        OrderedDict(
            [
{layers}
            ]
        )
    )
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model
'''


def standalone_source(architecture: Architecture, class_names: tuple[str, ...]) -> str:
    """Return the Python source of a network with a class for each name."""
    *body, classifier = architecture.ops
    classes = len(class_names)
    with torch.device("meta"):
        modules = build_ops([*body, replace(classifier, out_channels=classes)])
    own = dict.fromkeys(type(one) for one in modules.modules() if not _is_of_torch(one))
    space = architecture.space
    return _TEMPLATE.format(
        title=f"{space.name} {architecture.notation}\n\n{space}, head {architecture.head}.",
        version=versions()["latbench"],
        size=space.input_size,
        classes=classes,
        names=list(class_names),
        sources="".join(f"{inspect.getsource(one)}\n\n" for one in own),
        layers="\n".join(
            line
            for name, module in modules.named_children()
            for line in (
                f"{_INDENT}(",
                f'{_INDENT}    "{name}",',
                *_lines(module, 5),
                f"{_INDENT}),",
            )
        ),
    )


_INDENT = " " * 16


def _is_of_torch(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.")


def _lines(module: nn.Module, depth: int) -> Iterator[str]:
    """The lines of the expression that builds `module`, with a comma at the end."""
    margin, name = "    " * depth, type(module).__name__
    if isinstance(module, nn.Sequential):
        yield f"{margin}nn.Sequential("
        for one in module:
            yield from _lines(one, depth + 1)
        yield f"{margin}),"
    elif _is_of_torch(module):
        yield f"{margin}nn.{module!r},"  # of a leaf that is the call that builds it
    else:
        yield f"{margin}{name}("
        arguments: tuple[object, ...] = cast(Any, module).arguments
        for argument in arguments:
            if isinstance(argument, nn.Module):
                yield from _lines(argument, depth + 1)
            else:
                yield f"{margin}    {argument!r},"
        yield f"{margin}),"
