"""Both formats of apt's lists are read, for what the rigs need."""

from pathlib import Path

from tests.rigs.debian import only

LIST = """\
# deb cdrom:[Debian]/ bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] mirror:/a bookworm main contrib
deb [arch=amd64,i386] mirror:/a bookworm-updates main
deb-src mirror:/a bookworm main
deb\tmirror:/debs bookworm main
"""
SOURCES = """\
# Types: deb
Types: deb deb-src
URIs: mirror:/a
Suites: bookworm
Components: main
Architectures: amd64
Signed-By: /usr/share/keyrings/a.gpg
"""


def test_one_line_lists(tmp_path: Path) -> None:
    path = tmp_path / "sources.list"
    path.write_text(LIST)
    assert [" ".join(line.split()) for line in only("deb-src", path).splitlines()] == [
        "deb-src [ signed-by=/usr/share/keyrings/a.gpg] mirror:/a bookworm main contrib",
        "deb-src [] mirror:/a bookworm-updates main",
        "deb-src mirror:/debs bookworm main",
    ]


def test_lists_of_fields(tmp_path: Path) -> None:
    path = tmp_path / "debian.sources"
    path.write_text(SOURCES)
    expected = SOURCES.replace("\nTypes: deb deb-src", "\nTypes: deb-src")
    assert only("deb-src", path) == expected.replace("Architectures: amd64\n", "")
