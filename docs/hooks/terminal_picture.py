"""Run as a program: type the README's commands on this machine, and draw what they print as an SVG.

    python docs/hooks/terminal_picture.py docs/terminal.svg

It takes about a minute. `tests/docs/test_picture.py` compares the lines with the first tutorial's.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

COMMANDS = (
    "latbench profile --device host --space fbnet-cifar --input 16 --width 0.35",
    "latbench build-lut",
    "latbench predict luts/host.json fbnet_b",
    "latbench measure fbnet_b --lut luts/host.json",
)
#: Rich's page without the fonts that a browser would fetch from somebody else's server.
_PAGE = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def main() -> None:
    """Run the commands in an empty folder, and write the picture."""
    (out,) = map(Path, sys.argv[1:])
    lines: list[Text] = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        environment = os.environ | {"LATBENCH_HOME": str(home), "PYTHONPATH": str(Path.cwd())}
        for command in COMMANDS:
            done = subprocess.run(
                [sys.executable, "-m", *shlex.split(command)],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            lines.append(Text.assemble(("$ ", "bold green"), (command, "bold")))
            for line in done.stdout.splitlines():
                # The journal's folder as it is without LATBENCH_HOME.
                shown = line.replace(str(home), "~/.local/share/latbench")
                label, gap, value = re.fullmatch(r"(\S[\w ]*?(?=  )|)(\s*)(.*)", shown).groups()
                lines.append(Text.assemble((label, "cyan"), gap, value))
    width = max(map(len, lines))
    with Path(os.devnull).open("w") as nowhere:
        picture = Console(record=True, width=width, file=nowhere)
        for line in lines:
            picture.print(line)
    svg = picture.export_svg(title="latbench", code_format=_PAGE, unique_id="latbench")
    out.write_text(re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE), encoding="utf-8")


if __name__ == "__main__":
    main()
