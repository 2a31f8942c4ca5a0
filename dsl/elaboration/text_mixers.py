"""Mixers of a text: each a definition of its own, and each knows the others by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..constructors.arguments import Arguments, Request
from ..errors import PlaitError, raise_all
from ..mistakes import TooDeep
from ..program import Program
from ..text.header import Header
from ..text.parse import parse_file, parse_text
from ..text.signature import Signature
from ..text.syntax import MixerAst
from .elaborate import callee_of, make
from .elaborate_calls import Callee
from .mixer import Mixer

AnyMixer = TypeVar("AnyMixer", bound=Mixer)


@dataclass(frozen=True, slots=True)
class TextDefinition:
    """One mixer of a text with the trees of them all. A static argument's name in the text of the
    callee means nothing to a caller, so constants lose their spelling there."""

    callee: Callee
    asts: Mapping[str, MixerAst]
    too_large: dict[object, TooDeep]
    spells_by_caller: bool = False

    @property
    def name(self) -> str:
        return self.callee.ast.name

    @property
    def header(self) -> Header:
        return self.callee.ast.header

    @property
    def signature(self) -> Signature:
        return self.callee.signature

    @property
    def arguments(self) -> Arguments:
        return self.callee.arguments

    @property
    def doc(self) -> str:
        return self.callee.ast.doc

    def make(self, request: Request) -> Program:
        return make(self.callee, request, self.asts, self.too_large)


def parse_mixers(text: str, path: str, kind: type[AnyMixer]) -> AnyMixer:
    """The last mixer of a text as a `kind`; `.siblings` are the others by name.

    Raises InvalidSyntax or TooDeep, and every mistake of all mixers together.
    """
    return _mixers(parse_text(text, path), kind)


def load_mixers(path: Path, kind: type[AnyMixer]) -> AnyMixer:
    """`parse_mixers` of a file; raises UnreadableFile for what cannot be a program."""
    return _mixers(parse_file(path), kind)


def _mixers(asts: Sequence[MixerAst], kind: type[AnyMixer]) -> AnyMixer:
    trees = {ast.name: ast for ast in asts}
    made: dict[str, AnyMixer] = {}
    too_large: dict[object, TooDeep] = {}
    mistakes: list[PlaitError] = []
    for name, ast in trees.items():
        try:
            made[name] = kind(TextDefinition(callee_of(ast), trees, too_large))
            made[name].check_defaults()
        except PlaitError as error:
            mistakes.append(error)
    raise_all(mistakes)
    for name, mixer in made.items():
        mixer.siblings = {other: sibling for other, sibling in made.items() if other != name}
    return made[asts[-1].name]
