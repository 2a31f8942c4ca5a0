"""The operators of the papers by name, without loading the programs of those that nobody asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .. import Mixer, Program
from ..dsl.mistakes import UnknownName

if TYPE_CHECKING:
    from torch import Tensor

Views = Callable[[Mapping[str, "Tensor"]], Mapping[str, "Tensor"]]
"""The inputs of a call as the program wants them: views of the official ones, never copies."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What a config asks for: a mixer, its static arguments and sizes, and how it views its inputs."""

    mixer: Mixer
    given: Mapping[str, Any]
    views: Views | None = None


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of a paper.

    `settle` takes the keys of a golden file's config (without `mode`) as keyword arguments: its signature
    says which keys there are, of which types and with which defaults. It raises InvalidArgument for
    values that the official code cannot take either.
    """

    paper: str
    """The paper's number and short name, as its sheet has them: `19-convnext`."""
    name: str
    """What `from_official` takes: `convnext-block`."""
    mixer: Mixer
    title: str
    year: int
    arxiv: str
    settle: Callable[..., Settled]
    example: Mapping[str, Any]
    """The config of a published model, for which the command line shows what is compiled."""

    def program(self, **given: Any) -> Program:
        """The mixer's program with these static arguments and sizes; what is not given is as in `example`."""
        return self.mixer.program(**{**self.settle(**self.example).given, **given})


@dataclass(frozen=True, slots=True)
class Paper:
    """What the operators of one paper have in common."""

    name: str
    title: str
    year: int
    arxiv: str

    def operator(
        self, name: str, mixer: Mixer, settle: Callable[..., Settled], example: Mapping[str, Any]
    ) -> Operator:
        return Operator(self.name, name, mixer, self.title, self.year, self.arxiv, settle, example)


def by_name(*operators: Operator) -> dict[str, Operator]:
    return {each.name: each for each in operators}


PAPERS: Mapping[str, str] = {
    "convnext": "convnext-block convnext-downsample",
    "convit": "convit-block convit-gpsa",
    "cswin": "cswin-block cswin-lepe",
    "metaformer": (
        "metaformer-attention metaformer-block metaformer-pooling metaformer-randommixing metaformer-sepconv"
    ),
}
"""Each module of `papers` and the names of its operators, in the order of the sheets."""

_HOMES = {name: module for module, names in PAPERS.items() for name in names.split()}


def catalogue() -> list[Operator]:
    """Every operator of every paper, in the order of the sheets.

    >>> from plait import stdlib
    >>> print(stdlib.catalogue()[0].name, stdlib.catalogue()[0].arxiv)
    convnext-block 2201.03545
    """
    return [find(name) for name in _HOMES]


def find(name: str) -> Operator:
    """The operator of this name. Raises UnknownName where there is none."""
    module = _HOMES.get(name)
    if module is None:
        near = get_close_matches(name, _HOMES, 1, 0.5)
        raise UnknownName(
            f"the standard library has no operator `{name}`",
            notes=[f"operators: {', '.join(_HOMES)}"],
            helps=[f"did you mean `{near[0]}`?"] if near else [],
            facts={"name": name, "near": tuple(near)},
        )
    operators: Mapping[str, Operator] = import_module(f".papers.{module}", __package__).OPERATORS
    return operators[name]
