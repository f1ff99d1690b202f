"""Lines of a TOML file: where each key and each element of an array is.

`tomllib` reports no positions. `lines_of` scans a text that `tomllib` has accepted, so it checks nothing.
"""

import re
from collections.abc import Iterator

#: Names of keys and indices of arrays on the way to a value, from the top of the file.
Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_KEY = re.compile(r"[ \t]*(?:\"((?:[^\"\\]|\\.)*)\"|'([^']*)'|([A-Za-z0-9_-]+))[ \t]*(\.?)")
_TEXT = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL
)
_BARE = re.compile(r"[^,\]}#\n]*")


def lines_of(text: str) -> dict[Path, int]:
    """The line, from 1, of every key and array element of valid TOML."""
    return dict(_Scanner(text).walk())


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def walk(self) -> Iterator[tuple[Path, int]]:
        table: Path = ()
        tables: dict[Path, int] = {}  # how many tables an array of tables has so far
        self._skip(_BLANK)
        while self.at < len(self.text):
            line = self._line()
            if self.text[self.at] == "[":
                repeated = self.text.startswith("[[", self.at)
                self.at += 2 if repeated else 1
                names = list(self._keys())
                table = ()
                for name in names[:-1]:
                    table = self._in_last((*table, name), tables)
                table += (names[-1],)
                yield table, line
                if repeated:
                    tables[table] = tables.get(table, 0) + 1
                table = self._in_last(table, tables)
                yield table, line
                self.at += 2 if repeated else 1
            else:
                yield from self._pair(table)
            self._skip(_BLANK)

    @staticmethod
    def _in_last(table: Path, tables: dict[Path, int]) -> Path:
        """The last table of an array of tables; any other table as it is."""
        return (*table, tables[table] - 1) if table in tables else table

    def _pair(self, table: Path) -> Iterator[tuple[Path, int]]:
        line, path = self._line(), table
        for name in self._keys():
            path += (name,)
            yield path, line
        self.at += 1  # the equals sign
        yield from self._value(path)

    def _value(self, path: Path) -> Iterator[tuple[Path, int]]:
        self._skip(_BLANK)
        opening = self.text[self.at]
        if opening not in "[{":
            self._skip(_TEXT if opening in "\"'" else _BARE)
            return
        self.at += 1
        number = 0
        while True:
            self._skip(_BLANK)
            if self.text[self.at] in "]}":
                self.at += 1
                return
            if self.text[self.at] == ",":
                self.at += 1
            elif opening == "{":
                yield from self._pair(path)
            else:
                yield (*path, number), self._line()
                yield from self._value((*path, number))
                number += 1

    def _keys(self) -> Iterator[str]:
        while True:
            match = _KEY.match(self.text, self.at)
            assert match is not None, "the text is not valid TOML"
            self.at = match.end()
            yield next(part for part in match.groups()[:3] if part is not None)
            if not match[4]:
                return

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()

    def _line(self) -> int:
        return self.text.count("\n", 0, self.at) + 1
