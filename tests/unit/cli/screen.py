"""The few control codes of a terminal that a live display uses, so that tests see the screen."""

import re

_CODE = re.compile(r"\x1b\[(\??)(\d*)(?:;\d+)*([A-Za-z])")


class Screen:
    """Lines as they stand after some output; `cursor` says whether the cursor is shown."""

    def __init__(self) -> None:
        self.lines: list[str] = [""]
        self.row = self.column = 0
        self.cursor = True

    def feed(self, text: str) -> "Screen":
        place = 0
        while place < len(text):
            code = _CODE.match(text, place)
            if code:
                self._obey(*code.groups())
                place = code.end()
                continue
            self._put(text[place])
            place += 1
        return self

    @property
    def text(self) -> list[str]:
        """The lines without blanks at their ends; empty ones at the bottom left out."""
        lines = [line.rstrip() for line in self.lines]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def _put(self, sign: str) -> None:
        if sign == "\r":
            self.column = 0
        elif sign == "\n":
            self.row, self.column = self.row + 1, 0
            if self.row == len(self.lines):
                self.lines.append("")
        else:
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + sign + line[self.column + 1 :]
            self.column += 1

    def _obey(self, private: str, count: str, what: str) -> None:
        if private and count == "25":
            self.cursor = what == "h"
        elif what == "A":
            self.row = max(0, self.row - int(count or 1))
        elif what == "K":
            self.lines[self.row] = ""
        else:
            assert what == "m", f"a code this screen does not know: {private}{count}{what}"
