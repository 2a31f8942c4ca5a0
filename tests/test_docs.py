"""Every block of README.md and docs/, and every example, does what the page says. `--accept` writes what
was found into the page; documents.py says what a block means.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from documents import Block, Difference, Run, accepted, blocks, commands, elsewhere, links, run, same
from tree import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "tests" / "README.md"]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_block_does_what_the_page_says(path: Path, tmp_path: Path, accept: bool) -> None:
    text = path.read_text(encoding="utf-8")
    if (other := elsewhere(text)) is not None:
        assert path.name in (ROOT / other).read_text(encoding="utf-8"), f"{other} does not name {path.name}"
        return
    differences = run(path, tmp_path)
    if accept and differences:
        path.write_text(accepted(text, differences), encoding="utf-8")
        pytest.fail(f"{len(differences)} texts of {name_of(path)} replaced; read the diff")
    shown = "\n".join(f"{name_of(path)}, {each}" for each in differences)
    assert not differences, f"\n{shown}\n\npytest tests/test_docs.py --accept writes what was found"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    lost = [link for link in links(path.read_text(encoding="utf-8")) if not (path.parent / link).exists()]
    assert not lost


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_an_example_says_what_one_learns_and_checks_it(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "an example starts with what one learns from it"
    checks = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert checks, "an example asserts the number that it prints"


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_an_example_runs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert capsys.readouterr().out == "", "importing an example prints nothing"
    module.main()
    assert capsys.readouterr().out.strip(), "an example shows its result"


# --- the runner sees what it is for


def ran(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Difference]:
    monkeypatch.chdir(folder)
    document = Run(folder)
    document.document(text)
    return document.differences


PAGE = """# A page

```python
x = 2
print(x + 1)
```

```text
3
```

```python squares.py
print(x * x)
```

```text
4
```

```console
$ echo one; echo two >&2
one
two
$ cat squares.py
print(x * x)
```

```
not run
```
"""


def test_a_right_page_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ran(PAGE, tmp_path, monkeypatch) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("```text\n3\n", "```text\n5\n"), ("\ntwo\n", "\n"), ("```text\n4\n```\n", ""), ("x = 2", "x = 3")],
)
def test_a_wrong_page_fails_and_is_mended(
    right: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = PAGE.replace(right, wrong)
    differences = ran(page, tmp_path, monkeypatch)
    assert differences
    assert ran(accepted(page, differences), tmp_path, monkeypatch) == []


def test_a_mended_page_is_the_right_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (PAGE.replace("\n4\n", "\n5\n"), PAGE.replace("```text\n4\n```\n\n", "")):
        assert accepted(wrong, ran(wrong, tmp_path, monkeypatch)) == PAGE


def test_a_mistake_of_the_user_is_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raising = "from plait.dsl.mistakes import UnknownAxis\nraise UnknownAxis('axis `e` is unknown')\n"
    message = "UnknownAxis: axis `e` is unknown\n  see: docs/errors.md#unknown-axis\n"
    page = f"```python\n{raising}```\n\n```text\n{message}```\n"
    assert ran(page, tmp_path, monkeypatch) == []
    assert ran(page.replace("is unknown\n ", "is known\n "), tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "page", ["```python\n1 / 0\n```\n\n```text\ndivision by zero\n```\n", "```console\n$ false\n```\n"]
)
def test_any_other_failure_is_one(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((ZeroDivisionError, RuntimeError)):
        ran(page, tmp_path, monkeypatch)


def test_an_open_block_is_an_error() -> None:
    with pytest.raises(ValueError, match="line 2: nothing closes this block"):
        blocks("text\n```python\n1\n")


def test_three_dots_stand_for_any_lines() -> None:
    assert same("a\n...\nd\n", "a\nb\nc\nd\n")
    assert same("a\n...\nd\n", "a\nd")
    assert not same("a\n...\nd\n", "a\nb\n")
    assert not same("a.\n", "ab\n")


def test_commands_are_read() -> None:
    assert list(commands("$ a \\\n  b\nout\n$ c\n")) == [("a \\\n  b", "out\n"), ("c", "")]
    assert blocks("```python a.py\n1\n```") == [Block("python", "a.py", "1\n", 2)]


def test_a_page_may_be_tested_elsewhere() -> None:
    assert elsewhere("# Errors\n<!-- tested by tests/test_errors.py -->\n") == "tests/test_errors.py"


def test_links_are_read() -> None:
    text = "[a](docs/a.md#b) [c](https://c.d) [e](#f) `[i](j)` [`k`](l)\n```\n[g](h)\n```\n"
    assert links(text) == ["docs/a.md", "l"]
