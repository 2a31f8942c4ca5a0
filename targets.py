"""What the command line works on: a `.plait` file, a mixer of a Python file, an operator of the catalogue."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

from . import api
from .dsl.elaboration.mixer import Mixer
from .dsl.errors import CompilerFault, PlaitError
from .dsl.mistakes import InvalidArgument, UnknownName, UnreadableFile
from .dsl.program import Program


class Target(Protocol):
    """A mixer, or an operator of the catalogue."""

    def program(self, **given: object) -> Program: ...


def program(target: str, given: Sequence[str]) -> Program:
    """The program of a target with its static arguments and sizes, each NAME=VALUE. Raises PlaitError."""
    values: dict[str, object] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals or not name:
            raise InvalidArgument(f"`{each}` is no NAME=VALUE")
        if name in values:
            raise InvalidArgument(f"`{name}` is given twice")
        values[name] = _value(text)
    return find(target).program(**values)


def _value(text: str) -> bool | int | float | str:
    """A number or a truth value as Python writes it, anything else as a word. Nothing is evaluated."""
    if text in ("True", "true", "False", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def shapes(given: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """`q=8,64,64,64` as a shape by name; nothing after the sign is a scalar's. Raises InvalidArgument."""
    found: dict[str, tuple[int, ...]] = {}
    for each in given:
        name, equals, text = each.partition("=")
        numbers = [part for part in text.split(",") if part.strip()]
        if not name or not equals or not all(re.fullmatch(r" *\d+ *", part) for part in numbers):
            raise InvalidArgument(f"`{each}` is no shape", helps=["a shape is NAME=8,64,64"])
        found[name] = tuple(map(int, numbers))
    return found


def find(target: str) -> Target:
    """What a target names. Python files are imported, texts are only read. Raises PlaitError."""
    path, name = _split(target)
    match path.suffix:
        case ".py":
            return cast("Target", _from_python(path, name))
        case ".plait":
            return cast("Target", _from_text(path, name))
        case _ if path.exists():
            raise UnreadableFile(
                f"`{path}` is no file of mixers",
                helps=["a target is FILE.plait, FILE.py:NAME, or a name of `plait catalogue`"],
            )
        case _:
            return api.door("stdlib.catalogue").find(target)


def _split(target: str) -> tuple[Path, str]:
    head, colon, tail = target.rpartition(":")
    named = colon and head and "/" not in tail and "\\" not in tail
    return (Path(head), tail) if named else (Path(target), "")


def _from_text(path: Path, name: str) -> Mixer:
    mixer = api.load(path)
    if not name or name == mixer.name:
        return mixer
    if name in mixer.siblings:
        return mixer.siblings[name]
    raise _unknown(path, name, [*mixer.siblings, mixer.name])


def _from_python(path: Path, name: str) -> Mixer:
    mixers = {key: value for key, value in vars(_imported(path)).items() if isinstance(value, Mixer)}
    if not name and len(mixers) == 1:
        return next(iter(mixers.values()))
    if name not in mixers:
        raise _unknown(path, name, list(mixers))
    return mixers[name]


def _unknown(path: Path, name: str, mixers: Sequence[str]) -> UnknownName:
    shown = ", ".join(f"`{path}:{each}`" for each in mixers) or "none"
    what = f"`{path}` has no mixer `{name}`" if name else f"`{path}` needs the name of a mixer behind a colon"
    return UnknownName(what, notes=[f"mixers: {shown}"])


def _imported(path: Path) -> ModuleType:
    """The module at a path, with its own folder searched first, as Python does for a program.

    Raises UnreadableFile where there is none, or where it ends in an error of its own.
    """
    if not path.is_file():
        raise UnreadableFile(f"there is no file `{path}`")
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (PlaitError, CompilerFault):
        raise
    except SyntaxError as error:
        raise UnreadableFile(f"line {error.lineno} of `{path}` is no Python: {error.msg}") from error
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
        where = f"line {lines[-1]} of `{path}`" if lines else f"`{path}`"
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UnreadableFile(f"{where} ends in {problem}") from error
    return module
