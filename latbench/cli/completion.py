"""Shell completion of arguments: files, folders, architectures, devices, runtimes, precisions.

Each function is the `shell_complete` of a click parameter. click itself completes commands and options, in
bash, zsh and fish. docs/scripting.md shows how to install it.
"""

from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem


def complete_files(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete files."""
    return [CompletionItem(incomplete, type="file")]


def complete_folders(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete folders."""
    return [CompletionItem(incomplete, type="dir")]


def complete_architectures(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete published networks, or files if no network matches."""
    from latbench.space.shipped import published_networks

    named = _starting(published_networks(), incomplete)
    return named or complete_files(context, parameter, incomplete)


def complete_spaces(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete shipped search spaces, or files if no space matches."""
    from latbench.space.shipped import space_names

    return _starting(space_names(), incomplete) or complete_files(context, parameter, incomplete)


def complete_devices(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete devices of the catalogue."""
    from latbench.device.catalogue import load_catalogue

    return _starting(load_catalogue(), incomplete)


def complete_runtimes(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete runtimes."""
    from latbench.runtime.formats import Runtime

    return _starting(Runtime, incomplete)


def complete_precisions(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete precisions."""
    from latbench.runtime.formats import Precision

    return _starting(Precision, incomplete)


def _starting(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(str(word)) for word in words if word.startswith(incomplete)]
