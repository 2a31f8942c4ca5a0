"""Meet the installed wheel from outside the repository: `smoke.py ROOT SITE`; PYTHONPATH leads to SITE.

Everything that a package needs is inside, nothing else is, and `plait show` works on a `.plait` file.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDERS = ("dsl", "compiler", "backends", "stdlib")
SUFFIXES = (".py", ".lark", ".plait", ".h", ".cpp")


def main() -> None:
    root, site = (Path(argument).resolve() for argument in sys.argv[1:3])
    package = site / "plait"
    same_files(root, package)
    only_one_package(site)
    imports_from(package)
    shows(root, package, [sys.executable, "-m", "plait"])
    shows(root, package, [sys.executable, str(site / "bin" / "plait")])
    print(f"the wheel holds {len(inside(package))} files and runs from {Path.cwd()}")


def inside(folder: Path) -> set[str]:
    """The package's files below a folder: those of its root, and those of its packages."""
    below = [path for name in FOLDERS for path in (folder / name).rglob("*")]
    found = [
        path for path in (*folder.iterdir(), *below) if path.suffix in SUFFIXES or path.name == "py.typed"
    ]
    return {str(path.relative_to(folder)) for path in found}


def same_files(root: Path, package: Path) -> None:
    wanted, found = inside(root), inside(package)
    assert wanted == found, f"missing: {sorted(wanted - found)}; not of the package: {sorted(found - wanted)}"
    assert any(name.endswith(".lark") for name in found), "the grammar is not inside"
    everything = {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    extra = {name for name in everything - found if "__pycache__" not in name}
    assert not extra, f"the wheel also holds {sorted(extra)}"


def only_one_package(site: Path) -> None:
    names = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"plait", "bin"}, f"the wheel installs {sorted(names)}"


def imports_from(package: Path) -> None:
    import plait

    assert Path(str(plait.__file__)).parent == package, f"plait came from {plait.__file__}"


def shows(root: Path, package: Path, command: list[str]) -> None:
    """`plait show` prints a mixer of every packaged `.plait` file, and of one of examples/."""
    files = [*sorted(package.rglob("*.plait")), *sorted((root / "examples").glob("*.plait"))]
    assert files, "there is no .plait file to show"
    for path in files:
        done = subprocess.run([*command, "show", str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"plait show {path}\n{done.stdout}{done.stderr}"
        assert "mixer " in done.stdout, f"plait show {path} printed\n{done.stdout}"


if __name__ == "__main__":
    main()
