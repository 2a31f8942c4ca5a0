"""The table of breakages is honest: each one fits the sources of today, and the page reports each one.

`python -m tests.mutations` puts them into a clone and runs the tests; here is what can be said at once.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import mutations
from mutations import (
    BEGIN,
    END,
    REPORT,
    ROOT,
    Breakage,
    Unusable,
    Verdict,
    breakages,
    broken,
    noticed,
    page,
    rows,
    tried,
)

TABLE = breakages()
MANY = 30
"""How many breakages there are at least (issue 4, section 3)."""


def test_each_fits_its_file() -> None:
    problems = [each.problem((ROOT / each.file).read_text(encoding="utf-8")) for each in TABLE]
    assert not list(filter(None, problems))


def test_each_leaves_a_program() -> None:
    """A text that Python cannot read would be caught by anything."""
    for each in TABLE:
        if each.file.endswith(".py"):
            text = (ROOT / each.file).read_text(encoding="utf-8")
            ast.parse(text.replace(each.old, each.new), each.name)


def test_there_are_many_and_each_has_its_own_name() -> None:
    assert len(TABLE) >= MANY
    assert not [name for name, count in Counter(each.name for each in TABLE).items() if count > 1]


def test_the_expected_tests_exist() -> None:
    lost: list[str] = []
    for test in {test for each in TABLE for test in each.tests}:
        path, _, function = test.partition("::")
        text = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).exists() else ""
        if not text or f"def {function.partition('[')[0]}" not in text:
            lost.append(test)
    assert not lost


def test_the_page_reports_each_of_them() -> None:
    """Nothing more and nothing less, in the order of the table; what no test noticed is a named exception."""
    text = REPORT.read_text(encoding="utf-8")
    found = rows(text)
    assert list(found) == [each.name for each in TABLE], "python -m tests.mutations NAME ... writes the rows"
    assert page(text, TABLE, {}) == text
    for each in TABLE:
        _, law, file, caught, _ = found[each.name]
        assert (law, file) == (each.law, f"`{each.file}`"), each.name
        assert caught.startswith("`tests/") or (each.exception and each.exception in caught), each.name


# --- the runner sees what it is for


ROW = Breakage("sign", "a.py", "a - b", "a + b", "minus is minus", ("tests/test_a.py",))


def test_a_breakage_is_put_in_and_taken_out(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = a - b\n")
    with broken(tmp_path, ROW):
        assert (tmp_path / "a.py").read_text() == "x = a + b\n"
    assert (tmp_path / "a.py").read_text() == "x = a - b\n"


@pytest.mark.parametrize("text", ["x = b - a\n", "x = a - b\ny = a - b\n"])
def test_one_that_does_not_fit_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(text)
    with pytest.raises(Unusable, match=r"stands [02] times in a\.py"), broken(tmp_path, ROW):
        pass


def test_a_source_of_the_same_second_and_length_is_compiled_anew(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("a, b = 3, 2\nprint(a - b)\n")

    def printed() -> str:
        command = [sys.executable, "-c", "import a"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert printed() == "1\n"
    with broken(tmp_path, ROW):
        assert printed() == "5\n"
    assert printed() == "1\n"


TESTS = "def test_it():\n    {}\ndef test_other():\n    pass\n"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("pass", ""),
        ("assert 1 == 2, 'a - b'", "tests/test_a.py::test_it"),
        ("import os; os.abort()", "tests/test_a.py::test_it (the process dies)"),
    ],
)
def test_how_tests_end(body: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text(TESTS.format(body))
    assert tried(tmp_path, ["tests/test_a.py"]).caught == expected


def test_tests_that_do_not_run_say_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(Unusable):
        tried(tmp_path, ["tests/test_a.py"])


def test_the_words_of_pytest() -> None:
    alone = "tests/test_a.py::test_b[a - b] PASSED [ 50%]\ntests/test_a.py::test_c[x] FAILED [100%]\n"
    assert noticed(1, alone) == "tests/test_a.py::test_c[x]"
    assert noticed(None, "tests/test_a.py::test_b \n") == "tests/test_a.py::test_b (does not end)"
    spread = "tests/test_a.py::test_b \n[gw1] [ 50%] PASSED tests/test_a.py::test_b \n"
    assert (
        noticed(1, f"{spread}[gw0] [ 99%] FAILED tests/test_a.py::test_c[a - b] \n")
        == "tests/test_a.py::test_c[a - b]"
    )


def test_a_page_takes_new_rows_in_the_order_of_the_table() -> None:
    other = Breakage("other", "b.py", "1", "2", "one is one", (), exception="one and two are alike here")
    empty = f"before\n{BEGIN}\n{END}\nafter\n"
    first = page(empty, (ROW, other), {"other": mutations.row_of(other, Verdict("", 2.0))})
    both = page(
        first, (ROW, other), {"sign": mutations.row_of(ROW, Verdict("tests/test_a.py::test_it", 1.0))}
    )
    assert list(rows(both)) == ["sign", "other"]
    assert "1 of 2 breakages are caught" in both
    assert "one and two are alike here" in both
    assert both.startswith("before\n") and both.endswith("after\n")
    assert list(rows(page(both, (other,), {}))) == ["other"]
    with pytest.raises(ValueError, match="no table"):
        rows("a page")
