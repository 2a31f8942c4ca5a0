"""The module of a derived deploy form: its programs, and its weights, computed from those of the module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from ..dsl.mistakes import InvalidArgument
from ..dsl.program import Declaration, Program
from . import hoists
from .autograd import Differentiable
from .compiled import Compiled


@dataclass(frozen=True, slots=True)
class Chosen:
    """A source of programs that serve both modes, one for each choice of the optional inputs that are left out."""

    programs: Mapping[tuple[str, ...], Program]

    def program(
        self, *, mode: str = "eval", without: Sequence[str] = (), **statics_and_sizes: object
    ) -> Program:
        found = self.programs.get(tuple(without))
        if found is None:
            raise InvalidArgument(f"the module has no program for mode {mode!r} without {', '.join(without)}")
        return found


@dataclass(frozen=True, slots=True)
class Deployed:
    """The programs, their tensors, and for each tensor that was computed the names of those that it is made of."""

    source: Chosen
    tensors: tuple[tuple[Declaration, Tensor], ...]
    made_of: Mapping[str, tuple[str, ...]]


def deployed(
    programs: Mapping[tuple[str, ...], Program], held: Callable[[str], Tensor], like: Compiled
) -> Deployed:
    """The deploy form of a module's programs in eval mode, by the optional inputs that are left out. `held` gives
    the tensor of a key, and `like` the options of its kernels."""
    made = hoists().deployment(tuple(programs.values()))
    left = {
        each.leaf.name: each for program in made.programs for each in (*program.parameters, *program.buffers)
    }
    new = {each.declaration.leaf.name: each for each in made.made}

    def tensors() -> Iterator[tuple[Declaration, Tensor]]:
        for name, declaration in left.items():
            if name in new:
                read = {each: held(each).detach() for each in new[name].reads}
                yield declaration, _computed(new[name].program, read, like)
            else:
                yield declaration, held(name).detach().clone()

    source = Chosen(dict(zip(programs, made.programs, strict=True)))
    return Deployed(source, tuple(tensors()), {name: each.reads for name, each in new.items()})


def _computed(program: Program, tensors: Mapping[str, Tensor], like: Compiled) -> Tensor:
    """The one result of a program of weights: in float64, and rounded once to what torch promotes the reals
    among them to."""
    reals = [each.dtype for each in tensors.values() if each.is_floating_point()]
    wide = {name: each.double() if each.is_floating_point() else each for name, each in tensors.items()}
    with torch.no_grad():
        (made,) = Differentiable(like.beside(program))(wide).values()
    return made.to(reduce(torch.promote_types, reals)) if reals else made
