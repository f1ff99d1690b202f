"""What a shell offers after TAB for arguments that are no plain choice; docs/scripting.md installs it.

Each function is the `shell_complete` of a click parameter: it takes what was typed of the word, and
returns what it may become. click itself completes commands and options, and talks to bash, zsh and fish.
"""

from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem


def complete_files(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell offer files."""
    return [CompletionItem(incomplete, type="file")]


def complete_folders(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell offer folders."""
    return [CompletionItem(incomplete, type="dir")]


def complete_architectures(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the published networks, and files where none is meant."""
    from latbench.space.shipped import PUBLISHED

    named = _starting(PUBLISHED, incomplete)
    return named or complete_files(context, parameter, incomplete)


def complete_devices(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the devices of the catalogue."""
    from latbench.device.catalogue import load_catalogue

    return _starting(load_catalogue(), incomplete)


def complete_runtimes(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the runtimes."""
    from latbench.target import Runtime

    return _starting(Runtime, incomplete)


def complete_precisions(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the precisions."""
    from latbench.target import Precision

    return _starting(Precision, incomplete)


def _starting(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(str(word)) for word in words if word.startswith(incomplete)]
