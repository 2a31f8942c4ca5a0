"""Deploy forms as programs of their own (design section 3, `Module.deploy`): what `hoist.py` takes out of a program
as made of weights only becomes the parameters of the program that is left.

A value keeps its axes, and gets the key `deployed.0`, `deployed.1` and so on, in the order of the program; one that
is made of buffers only is a buffer. What several programs of a module have in common is made once. Tensors that
nothing reads any more are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...dsl.canonical import canonical
from ...dsl.program import Declaration, Form, Leaf, Output, Program, Role, walk
from ..rewrites.rewrite import substitute
from ..rewrites.simplify import rewrite_program
from .hoist import hoist

FOLDER = "deployed"


@dataclass(frozen=True, slots=True)
class Made:
    """A new weight, and the program that computes it: its one output, from the weights `reads`."""

    declaration: Declaration
    program: Program
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deployment:
    """The programs in the order that they were given, and the weights that they need beside their own."""

    programs: tuple[Program, ...]
    made: tuple[Made, ...]


def deployment(programs: Sequence[Program]) -> Deployment:
    """The deploy forms of the programs of one module."""
    taken = {each.leaf.name for program in programs for each in (*program.parameters, *program.buffers)}
    first = sum(name.startswith(f"{FOLDER}.") for name in taken)
    known: dict[str, Made] = {}
    found = [_deployed(program, known, first) for program in programs]
    return Deployment(tuple(found), tuple(known.values()))


def _deployed(program: Program, known: dict[str, Made], first: int) -> Program:
    """One deploy form. `known` holds by canonical text what is made already, and grows."""
    parts = hoist(program)
    if parts is None:
        return _used(program)
    leaves: dict[Form, Form] = {}
    new: list[Declaration] = []
    for output in parts.weights.outputs:
        alone = _alone(parts.weights, output)
        text = canonical(alone)
        if text not in known:
            role: Role = "parameter" if alone.parameters else "buffer"
            leaf = Leaf(role, f"{FOLDER}.{first + len(known)}", output.value.axes)
            reads = tuple(each.leaf.name for each in alone.declarations)
            known[text] = Made(Declaration(leaf, output.items), alone, reads)
        own = known[text].declaration.leaf
        leaf = Leaf(own.role, own.name, output.value.axes)
        leaves[Leaf("parameter", output.name, leaf.over)] = leaf
        new.append(Declaration(leaf, output.items))
    rest = rewrite_program(parts.rest, lambda form: substitute(form, leaves))
    return _used(
        replace(
            rest,
            parameters=(*rest.parameters, *(each for each in new if each.leaf.role == "parameter")),
            buffers=(*rest.buffers, *(each for each in new if each.leaf.role == "buffer")),
        )
    )


def _alone(program: Program, output: Output) -> Program:
    """The program of one output."""
    below = set(walk((output.value,)))
    return replace(
        program,
        outputs=(replace(output, name="made"),),
        parameters=tuple(each for each in program.parameters if each.leaf in below),
        buffers=tuple(each for each in program.buffers if each.leaf in below),
        names=tuple((name, form) for name, form in program.names if form in below),
    )


def _used(program: Program) -> Program:
    """The program without parameters and buffers that nothing reads."""
    there = {*program.forms, *(each.buffer for each in program.updates)}
    return replace(
        program,
        parameters=tuple(each for each in program.parameters if each.leaf in there),
        buffers=tuple(each for each in program.buffers if each.leaf in there),
    )
