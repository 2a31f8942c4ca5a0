"""Documents that run: what a block of README.md or docs/*.md means, and what it gave.

    ```python            run, one namespace a document; `python scores.py` also saves it under that name
    ```plait             read with plait.parse; `plait scores.plait` also saves it under that name
    ```text              right after one of these: exactly what it printed (and its error's message)
    ```console           lines with `$ ` are run by sh; what follows each is exactly what it printed

A line of three dots in an expected text stands for any lines. Every other language, and a fence without
one, is shown and not run. Blocks run in a folder of the document's own where `examples`, `docs` and the like
lead to those of the repository.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import linecache
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tree import ROOT

SHARED = ("benchmarks", "docs", "examples", "stdlib", "tests")
"""What a document's folder has of the repository."""

ELSEWHERE = re.compile(r"<!-- tested by (\S+) -->")
"""How a document says that another test runs its blocks."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, the name after it, its text, and the line of its first character."""

    language: str
    name: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A block whose text is not what was found: where it stands, and what should stand there."""

    block: Block
    expected: str
    found: str

    def __str__(self) -> str:
        return f"line {self.block.line}: expected\n{_inset(self.expected)}\nfound\n{_inset(self.found)}"


def _inset(text: str) -> str:
    return "\n".join(f"  | {line}" for line in text.splitlines()) or "  | (nothing)"


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a document, in order. A fence that nothing closes is an error."""
    found: list[Block] = []
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        if not line.startswith("```"):
            continue
        language, _, name = line[3:].strip().partition(" ")
        body: list[str] = []
        for _, inner in lines:
            if inner.startswith("```"):
                break
            body.append(inner)
        else:
            raise ValueError(f"line {number}: nothing closes this block")
        found.append(Block(language, name.strip(), "".join(f"{each}\n" for each in body), number + 1))
    return found


def same(expected: str, found: str) -> bool:
    """Whether two texts agree line by line, a line of three dots standing for any lines."""
    parts = [re.escape(line.rstrip()) for line in expected.rstrip().splitlines()]
    pattern = "".join(r"(?:.*\n)*?" if part == re.escape("...") else f"{part}\n" for part in parts)
    lines = "".join(f"{line.rstrip()}\n" for line in found.rstrip().splitlines())
    return re.fullmatch(pattern, lines) is not None


@dataclass(slots=True)
class Run:
    """One document being run in `folder`, which is also the current one."""

    folder: Path
    module: types.ModuleType = field(default_factory=lambda: types.ModuleType("document"))
    differences: list[Difference] = field(default_factory=list[Difference])
    count: int = 0

    def document(self, text: str) -> None:
        """Run every block; `differences` then holds what was not as expected."""
        found = blocks(text)
        for block, after in zip(found, [*found[1:], None], strict=True):
            output = after if after is not None and after.language == "text" else None
            match block.language:
                case "python" | "plait":
                    self._compare(block, output, self._printed(block, expected=output is not None))
                case "console":
                    self._console(block)
                case _:
                    pass

    def _compare(self, block: Block, output: Block | None, found: str) -> None:
        where, expected = (output, output.text) if output is not None else (block, "")
        if not same(expected, found):
            self.differences.append(Difference(where, expected, found))

    def _printed(self, block: Block, *, expected: bool) -> str:
        """What a block printed, and the message of the mistake that it ended in, if it is to have one."""
        self.count += 1
        path = block.name or f"block{self.count}.{'py' if block.language == 'python' else 'plait'}"
        Path(self.folder, path).write_text(block.text, encoding="utf-8")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            try:
                self._perform(block, path)
            except Exception as error:
                if not (expected and _is_users_mistake(error)):
                    raise
                print(error)
        return printed.getvalue()

    def _perform(self, block: Block, path: str) -> None:
        if block.language == "plait":
            importlib.import_module("plait").load(path)
            return
        self.module.__file__ = path
        exec(compile(block.text, path, "exec", dont_inherit=True), self.module.__dict__)

    def _console(self, block: Block) -> None:
        """Run the commands of a block; one that fails must say so in its expected output."""
        found = ""
        for command, expected in commands(block.text):
            done = subprocess.run(
                ["sh", "-c", command], cwd=self.folder, env=environment(), text=True, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            if done.returncode and not expected.strip():
                raise RuntimeError(
                    f"line {block.line}: `{command}` ended with {done.returncode}\n{done.stdout}"
                )
            kept = expected if same(expected, done.stdout) else done.stdout
            found += f"$ {command}\n{kept}"
        if found.rstrip() != block.text.rstrip():
            self.differences.append(Difference(block, block.text, found))


def _is_users_mistake(error: Exception) -> bool:
    return any(each.__name__ == "PlaitError" for each in type(error).__mro__)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with the output that stands below it."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    if parts[0].strip():
        raise ValueError(f"a console block starts with a command, not with {parts[0].splitlines()[0]!r}")
    for part in parts[1:]:
        command, _, expected = re.sub(r"\\\n", "\\\0", part).partition("\n")
        yield command.replace("\\\0", "\\\n"), expected.replace("\\\0", "\\\n")


def environment() -> dict[str, str]:
    """The environment of a command: this Python first on the path, plain text, 100 columns."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    return {**os.environ, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}


def run(path: Path, folder: Path) -> list[Difference]:
    """Run the document at `path` in `folder`, an empty one."""
    for name in SHARED:
        (folder / name).symlink_to(ROOT / name)
    linecache.clearcache()
    document = Run(folder)
    sys.modules[document.module.__name__] = document.module
    try:
        with contextlib.chdir(folder):
            document.document(path.read_text(encoding="utf-8"))
    finally:
        del sys.modules[document.module.__name__]
    return document.differences


def accepted(text: str, differences: list[Difference]) -> str:
    """The document with what was found in the place of what was expected."""
    lines = text.splitlines(keepends=True)
    for each in sorted(differences, key=lambda each: -each.block.line):
        start = each.block.line - 1
        if each.expected == "" and each.block.language != "text":
            end = start + each.block.text.count("\n") + 1
            lines[end:end] = ["\n", "```text\n", _closed(each.found), "```\n"]
        else:
            lines[start : start + each.block.text.count("\n")] = [_closed(each.found)]
    return "".join(lines)


def _closed(text: str) -> str:
    stripped = "".join(f"{line.rstrip()}\n" for line in text.rstrip().splitlines())
    return stripped


def elsewhere(text: str) -> str | None:
    """The test that a document says runs its blocks."""
    said = ELSEWHERE.search(text)
    return said[1] if said else None


def links(text: str) -> list[str]:
    """The files of the repository that a document links to, outside its code."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"`[^`\n]*`", "", prose)
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    return [target.split("#")[0] for target in targets if "://" not in target and not target.startswith("#")]
