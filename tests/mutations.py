"""Check the checks: plait is broken on purpose, in one place at a time, to see whether a test notices.

    python -m tests.mutations             every breakage of tests/breakages/*.toml
    python -m tests.mutations NAME ...    some of them
    python -m tests.mutations --list      their names

Each one is put into a clone of what is committed here. The tests that are expected to notice are run, up to the
first that fails; where all of them pass, everything that `make test` runs is. The tests must pass in the clone as
it is, or the answer would say nothing. The table of docs/trust.md is written anew.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLES = ROOT / "tests" / "breakages"
REPORT = ROOT / "docs" / "trust.md"
BEGIN, END = "<!-- breakages: python -m tests.mutations writes this table -->", "<!-- end of breakages -->"

SECONDS, ALL_SECONDS = 300, 3600
"""How long the expected tests may take, and all of them: a program that does not end is a broken one too."""

EVERYTHING = ("-n", "2", "--dist", "loadgroup")
"""What `make test` gives to pytest."""


@dataclass(frozen=True, slots=True)
class Breakage:
    """`old` is found once in `file`, and is replaced by `new`, which breaks `law`. `tests` are the node ids of
    pytest that should notice. An `exception` says why no test can."""

    name: str
    file: str
    old: str
    new: str
    law: str
    tests: tuple[str, ...]
    exception: str = ""

    def problem(self, text: str) -> str:
        """Why it cannot be put into its file, or ""."""
        count = text.count(self.old)
        if count != 1:
            return f"{self.name}: the old text stands {count} times in {self.file}: mend tests/breakages"
        return "" if self.old != self.new else f"{self.name}: nothing is replaced"


def breakages(folder: Path = TABLES) -> tuple[Breakage, ...]:
    """All of them, in the order of the files and of the tables in these."""
    found: list[Breakage] = []
    for path in sorted(folder.glob("*.toml")):
        for name, row in tomllib.loads(path.read_text(encoding="utf-8")).items():
            found.append(Breakage(name, **{**row, "tests": tuple(row["tests"])}))
    return tuple(found)


# --- running tests


@dataclass(frozen=True, slots=True)
class Verdict:
    """`caught` is the test that noticed and how, "" where none did."""

    caught: str
    seconds: float


class Unusable(Exception):
    """Tests that did not run: nothing is known of the breakage."""


def tried(folder: Path, arguments: Sequence[str], seconds: float = SECONDS) -> Verdict:
    """Run pytest in a folder, up to the first failure. Raises Unusable where pytest could not run the tests."""
    options = "-x -v --tb=no -rN -p no:cacheprovider".split()
    command = [sys.executable, "-m", "pytest", *options, *arguments]
    paths = (str(folder.parent), os.environ.get("PYTHONPATH", ""))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "COLUMNS": "500"}
    start = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            status = None
        output.seek(0)
        text = output.read()
    return Verdict(noticed(status, text), time.monotonic() - start)


ENDS = "FAILED|ERROR|PASSED|SKIPPED|XFAIL|XPASS|Fatal Python error"
ALONE = re.compile(rf"^(tests/.+?)(?: +({ENDS})\b.*| *)$", re.MULTILINE)
WORKERS = re.compile(r"^\[gw\d+\] +\[ *\d+%\] (FAILED|ERROR) (tests/.+?) *$", re.MULTILINE)
"""The lines of `pytest -v`, in one process and in several."""


def noticed(status: int | None, text: str) -> str:
    """Which test failed, and how where it did not simply fail."""
    if status == 0:
        return ""
    begun = [(found[1], found[2]) for found in ALONE.finditer(text)]
    failed = [name for name, end in begun if end in ("FAILED", "ERROR")]
    failed += [found[2] for found in WORKERS.finditer(text)]
    if status == 1 and failed:
        return failed[0]
    if begun and (status is None or status < 0):
        return f"{begun[-1][0]} ({'does not end' if status is None else 'the process dies'})"
    raise Unusable(f"pytest ended with {status}:\n{text[-3000:]}")


# --- the clone


@contextmanager
def clone() -> Iterator[Path]:
    """A clone of what is committed, in a folder `plait` of a folder of its own, so that it can be imported."""
    with tempfile.TemporaryDirectory(prefix="plait-broken-") as place:
        folder = Path(place, "plait")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        yield folder


@contextmanager
def broken(folder: Path, breakage: Breakage) -> Iterator[None]:
    """The folder with a breakage. Raises Unusable where it does not fit."""
    path = folder / breakage.file
    text = path.read_text(encoding="utf-8")
    if problem := breakage.problem(text):
        raise Unusable(problem)
    try:
        written(path, text.replace(breakage.old, breakage.new))
        yield
    finally:
        written(path, text)


def written(path: Path, text: str) -> None:
    """Write a source. Python would take the compiled one of a text of the same length and second for this one's."""
    path.write_text(text, encoding="utf-8")
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
        compiled.unlink()


def examined(folder: Path, breakage: Breakage) -> Verdict:
    """Whether the expected tests notice, and if they do not, whether any test does."""
    with broken(folder, breakage):
        verdict = tried(folder, breakage.tests)
        return verdict if verdict.caught else tried(folder, EVERYTHING, ALL_SECONDS)


# --- the report


Rows = Mapping[str, Sequence[str]]
HEAD = ("breakage", "what no longer holds", "file", "caught by", "seconds")


def rows(text: str) -> dict[str, list[str]]:
    """The rows of the table in a page, by the name of the breakage. Raises ValueError for a page without one."""
    _, _, rest = text.partition(BEGIN)
    table, mark, _ = rest.partition(END)
    if not mark:
        raise ValueError(f"no table stands between `{BEGIN}` and `{END}`")
    cells = (
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines() if "|" in line
    )
    return {row[0].strip("` "): row for row in cells if row[0].strip("` ") not in (HEAD[0], "---")}


def row_of(breakage: Breakage, verdict: Verdict) -> list[str]:
    """The row of a breakage."""
    caught = f"`{verdict.caught.replace('|', '/')}`" if verdict.caught else "**nothing**"
    if not verdict.caught and breakage.exception:
        caught = f"nothing: {breakage.exception}"
    return [f"`{breakage.name}`", breakage.law, f"`{breakage.file}`", caught, f"{verdict.seconds:.0f}"]


def page(text: str, table: Sequence[Breakage], found: Rows) -> str:
    """The page with the rows that were found in the place of their old ones, in the order of the table."""
    known = rows(text) | dict(found)
    lines = [known[each.name] for each in table if each.name in known]
    caught = sum(row[3].startswith("`") for row in lines)
    total = f"{caught} of {len(lines)} breakages are caught by `make test`."
    shown = [total, "", *("| " + " | ".join(row) + " |" for row in (HEAD, ["---"] * len(HEAD), *lines))]
    before, _, rest = text.partition(BEGIN)
    return "\n".join([before + BEGIN, "", *shown, "", END]) + rest.partition(END)[2]


# --- the command


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where every breakage that was asked for is caught or a named exception."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description="Check the checks.")
    parser.add_argument(
        "names", nargs="*", help="breakages of tests/breakages/*.toml; all of them by default"
    )
    parser.add_argument("--list", action="store_true", help="only say which there are")
    given = parser.parse_args(arguments)
    table = breakages()
    unknown = set(given.names) - {each.name for each in table}
    if unknown:
        parser.error(f"no breakage is called {', '.join(sorted(unknown))}; --list says which there are")
    wanted = [each for each in table if not given.names or each.name in given.names]
    if given.list:
        print("\n".join(f"{each.name}: {each.law}" for each in wanted))
        return 0
    missed = 0
    with clone() as folder:
        sound = tried(
            folder, list(dict.fromkeys(test for each in wanted for test in each.tests)), ALL_SECONDS
        )
        if sound.caught:
            raise Unusable(f"without any breakage, {sound.caught} fails")
        for breakage in wanted:
            verdict = examined(folder, breakage)
            print(f"{breakage.name}: {verdict.caught or 'NOTHING'}, {verdict.seconds:.0f} s", flush=True)
            text = REPORT.read_text(encoding="utf-8")
            row = {breakage.name: row_of(breakage, verdict)}
            REPORT.write_text(page(text, table, row), encoding="utf-8")
            missed += not verdict.caught and not breakage.exception
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
