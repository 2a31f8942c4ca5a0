"""Where a thing stands in the user's own text: a `.plait` file, a string, or a line of Python."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Source:
    """A text with a name. `path` is what a message prints: a file's path or `<text>`."""

    text: str = field(repr=False)
    path: str = "<text>"

    def line_of(self, offset: int) -> int:
        """The 1-based line that holds the character at `offset`."""
        return self.text.count("\n", 0, offset) + 1

    def line_start(self, line: int) -> int:
        """The offset of the first character of the 1-based `line`."""
        offset = 0
        for _ in range(line - 1):
            offset = self.text.index("\n", offset) + 1
        return offset

    def line_text(self, line: int) -> str:
        lines = self.text.split("\n")
        return lines[line - 1] if 0 < line <= len(lines) else ""


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` (inclusive) to `end` (exclusive) of a source."""

    source: Source
    start: int
    end: int

    @property
    def line(self) -> int:
        return self.source.line_of(self.start)

    @property
    def column(self) -> int:
        """1-based, in characters."""
        return self.start - self.source.text.rfind("\n", 0, self.start)

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    @property
    def place(self) -> str:
        """`path:line:column`, as editors and terminals understand it."""
        return f"{self.source.path}:{self.line}:{self.column}"
