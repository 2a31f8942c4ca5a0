"""Deploy forms of drawn programs: some inputs become parameters, and what a module in eval mode makes of that is
held to the program as it is written, within the budget of both."""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from agreement import as_double, close, real_of
from plait.backends.module import PlaitModule, make_module
from plait.backends.rounding import allowed
from plait.compiler.algorithms.deploy import Made, deployment
from plait.compiler.algorithms.merge import merge
from plait.compiler.meaning.interpret import interpret
from plait.compiler.rewrites.rewrite import substitute
from plait.compiler.rewrites.simplify import rewrite_program
from plait.dsl.canonical import canonical
from plait.dsl.elaboration.elaborate import elaborate
from plait.dsl.printing.show import show
from plait.dsl.program import BATCH, Axis, Form, Leaf, Program, Size, walk
from plait.dsl.shapes.size_forms import Sizes
from plait.dsl.text.parse import parse_text
from strategies import Example

SHARE = 0.6
"""How many of the inputs that may be weights are."""

Results = Mapping[str, Tensor]


def with_weights(example: Example) -> Example:
    """The example as a module has it: some of its real inputs are parameters, the same ones each time (one input
    stays), and the sizes of parameters and buffers are known."""
    program = example.program
    pick = random.Random(zlib.crc32(canonical(program).encode()))
    leaves = [each.leaf for each in program.inputs]
    optional = {each.leaf for each in program.inputs if each.optional}
    able = [
        each for each in leaves if each.declared == "real" and BATCH not in each.over and each not in optional
    ]
    chosen = {each for each in able if pick.random() < SHARE}
    if len(chosen) == len(leaves):
        chosen -= set(leaves[:1])
    weights: dict[Form, Form] = {each: Leaf("parameter", each.name, each.over) for each in chosen}
    made = rewrite_program(program, lambda form: substitute(form, weights))
    declared = tuple(
        replace(each, leaf=Leaf("parameter", each.leaf.name, each.leaf.over))
        for each in program.inputs
        if each.leaf in chosen
    )
    parameters = (*program.parameters, *declared)
    held = (axis for each in (*parameters, *program.buffers) for axis in each.leaf.over)
    given = [axis for over in held for axis in signature(over)]
    fixed = dict(program.fixed) | {axis: example.sizes[axis] for axis in given}
    inputs = tuple(each for each in program.inputs if each.leaf not in chosen)
    made = replace(made, inputs=inputs, parameters=parameters, fixed=tuple(fixed.items()))
    return replace(example, program=made)


def signature(axis: Axis) -> list[Axis]:
    """The axes of the signature on whose sizes its range hangs."""
    if axis.size is None or axis.lo is None:
        return [axis]
    found = (each.axis for each in walk((axis.lo, axis.size)) if isinstance(each, Size))
    return [each for base in found for each in signature(base)]


def deployed(example: Example) -> bool:
    """Merge and hoist as a module in eval mode does, and compare what comes out, in float64; what is left reads
    back. Whether anything was merged or hoisted."""
    example = with_weights(example)
    program = example.program
    tensors = {name: as_double(each) for name, each in example.tensors.items()}
    meant, within = interpret(program, tensors), allowed(program, tensors, torch.float64)
    made = program if program.updates else merge(program).program
    if made is not program:
        within = wider(within, allowed(made, tensors, torch.float64))
        held(interpret(made, tensors), meant, within, "merged")
    found = deployment([program])
    weights = {each.declaration.leaf.name: value_of(each, tensors, example.sizes) for each in found.made}
    (rest,) = found.programs
    own = {each.leaf.name: (tensors | weights)[each.leaf.name] for each in rest.declarations}
    held(interpret(rest, own), meant, within, "deployed")
    (mixer,) = parse_text(show(rest))
    assert canonical(elaborate(mixer, dict(rest.statics), {})) == canonical(rest)
    return made is not program or bool(weights)


def value_of(made: Made, tensors: Results, sizes: Sizes) -> Tensor:
    return interpret(made.program, {name: tensors[name] for name in made.reads}, sizes)["made"]


def wider(one: Results, other: Results) -> Results:
    """The budget of both programs."""
    return {name: each + other[name] for name, each in one.items()}


def held(found: Results, meant: Results, within: Results, how: str) -> None:
    assert list(found) == list(meant)
    for name, value in meant.items():
        if value.is_floating_point() or value.is_complex():
            close(found[name].to(value.dtype), value, within[name], f"{name}, {how}")
        else:
            assert torch.equal(found[name], value), f"{name}, {how}"


def deployed_kernels(example: Example) -> None:
    """The kernels of a module in eval mode that nobody differentiates, called twice, and those of its deployed one."""
    example = with_weights(example)
    program, real = example.program, real_of(example)
    real = real if real in (torch.float32, torch.float64) else torch.float32
    tensors = {
        name: each.to(real) if each.is_floating_point() else each for name, each in example.tensors.items()
    }
    meant, within = interpret(program, tensors), allowed(program, tensors, real)
    made = program if program.updates else merge(program).program
    within = wider(within, allowed(made, tensors, real))
    module = filled(program, tensors, real).eval()
    given = {each.leaf.name: tensors[each.leaf.name] for each in (*program.inputs, *program.draws)}
    with torch.no_grad():
        for each in (module.deploy(), module, *([] if program.updates else [module])):
            results = each(**given)
            values = results if isinstance(results, tuple) else (results,)
            found = {each.name: value for each, value in zip(program.outputs, values, strict=True)}
            held({**found, **updated(each, program)}, meant, within, "in a module")


def filled(program: Program, tensors: Results, real: torch.dtype) -> PlaitModule:
    """A module of the program with these weights."""
    module = make_module(program, backend="cpp", on_unfused="quiet", dtype=real)
    module.load_state_dict({name: tensors[name] for name in module.state_dict()})
    return module


def updated(module: PlaitModule, program: Program) -> Results:
    state = module.state_dict()
    return {f"update:{each.buffer.name}": state[each.buffer.name] for each in program.updates}
