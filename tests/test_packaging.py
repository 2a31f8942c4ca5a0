"""The wheel holds the whole package: pyproject.toml names every package and every data file of the tree.

The root of the repository is `plait` itself, so setuptools cannot find the packages on its own.
"""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tree import FACE, PACKAGES, ROOT, full_name, module_paths

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS: dict[str, Any] = PROJECT["tool"]["setuptools"]


def folders() -> list[Path]:
    """Every folder of the package that holds files, the root first."""
    below = (path for name in PACKAGES for path in (ROOT / name, *(ROOT / name).rglob("*")))
    wanted = (path for path in below if path.is_dir() and path.name != "__pycache__")
    return [ROOT, *(path for path in sorted(wanted) if any(child.is_file() for child in path.iterdir()))]


def package_of(folder: Path) -> str:
    return ".".join((FACE, *folder.relative_to(ROOT).parts))


def test_every_package_is_listed() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted(package_of(folder) for folder in folders())


def test_every_package_has_an_init() -> None:
    bare = [str(folder) for folder in folders() if not (folder / "__init__.py").is_file()]
    assert not bare


def test_every_data_file_is_packaged() -> None:
    patterns = SETUPTOOLS["package-data"]["*"]
    files = (path for folder in folders() if folder != ROOT for path in folder.iterdir() if path.is_file())
    data = [path for path in files if path.suffix not in (".py", ".pyc", ".md")]
    lost = [str(path) for path in data if not any(fnmatch(path.name, pattern) for pattern in patterns)]
    assert not lost, f"no pattern of package-data matches {lost}"


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "py.typed").is_file()


def test_nothing_else_is_taken_for_data() -> None:
    assert SETUPTOOLS["include-package-data"] is False


def test_stubs_lead_back_to_the_package() -> None:
    link = ROOT / "typings" / "plait"
    assert link.is_symlink()
    assert link.resolve() == ROOT


@pytest.mark.parametrize("group", ["", *PROJECT["project"]["optional-dependencies"]])
def test_every_requirement_is_pinned_within_its_range(group: str) -> None:
    project = PROJECT["project"]
    wanted = project["optional-dependencies"][group] if group else project["dependencies"]
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[requirement.name]), requirement


def test_module_names_are_not_public_names() -> None:
    """`plait.cli` must not hide a function of that name, so files of the root are named apart."""
    verbs = {"mixer", "axes", "axis", "compile", "verify", "aot", "export", "parse", "load"}
    assert not verbs & {name for name in module_paths() if full_name(name).count(".") == 1}
