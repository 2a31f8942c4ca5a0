"""torch's own gradcheck and gradgradcheck on generated programs: what autograd gives through the C++ kernels in
float64, to the second order, against differences of the calls themselves. Inputs are real and complex.

Numbers come from a shuffled lattice: no two entries are equal and none is 0, so that no comparison of inputs is at
its corner. A program whose derivative jumps there all the same (`x - x` under a maximum) is left out, which the
interpreter tells: such programs have a derivative by convention, that no difference shows. Where the author says
what the derivative is (`as_if`, `on_gradient`), the interpreter's gradients of both orders are held to the
differences of a function that has it (`marked.py`); what kernels make of such gradients `test_attack.py` looks at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from agreement import SHORT, derivative, has_corners, random_like
from compositions import compositions
from differences import check_slope, noise
from kernel_families import FAMILIES
from marked import is_marked, marked, unmarked
from plait.backends.autograd import Differentiable
from plait.backends.compiled import BackendName, Compiled
from plait.compiler.gradient.derive import gradient
from plait.compiler.gradient.tangent import apart
from plait.compiler.meaning.interpret import interpret
from plait.compiler.rewrites.rewrite import substitute
from plait.compiler.rewrites.simplify import rewrite_program
from plait.dsl.constructors import build
from plait.dsl.mistakes import NotYet
from plait.dsl.program import Const, Declaration, Program
from plait.dsl.shapes.sizes import bind_sizes
from strategies import Draw, Example, drawn, examples
from writer import add, mul

PROGRAMS = st.one_of(examples(), compositions(), *FAMILIES.values())

COUNT = 4
"""Programs of a test in a run of every change; as many times more in `make test-all` as its profile says."""

SECOND = 40
"""Forms of a gradient that kernels derive once more at every change, which builds two more libraries. The
interpreter, and kernels in `make test-all`, do so up to SHORT."""

MARKED = 8
"""Programs with marks, which build no kernels."""

AWAY = 1e-4
"""How far inputs are moved to see whether a derivative jumps near them."""


def times() -> int:
    """How many times more than at every change."""
    return max(1, settings().max_examples // 50)


def is_smooth(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def on_a_lattice(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of these shapes whose numbers are all different in both parts, between -1 and 1 and not 0."""
    parts = {
        name: each.numel() * (1 + each.is_complex()) for name, each in tensors.items() if is_smooth(each)
    }
    count = sum(parts.values())
    order = torch.randperm(count, generator=torch.Generator().manual_seed(count)).double()
    points = (2 * order + 1) / max(count, 1) - 1 + 0.2 / max(count, 1)
    taken = dict(zip(parts, points.split_with_sizes(list(parts.values())), strict=True))

    def laid(name: str, tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return torch.view_as_complex(taken[name].view(*tensor.shape, 2).clone())
        return taken[name].view(tensor.shape) if name in taken else tensor.contiguous()

    return {name: laid(name, tensor) for name, tensor in tensors.items()}


def has_no_jump(
    program: Program, tensors: Mapping[str, Tensor], wanted: Sequence[str], weights: Mapping[str, Tensor]
) -> bool:
    """Whether the derivative by the interpreter is finite, and changes by little around the tensors."""
    derived, given = derivative(program, tensors, wanted, weights)

    def at(step: float) -> list[Tensor]:
        generator = torch.Generator().manual_seed(5)
        moved = {
            name: x + step * torch.rand(x.shape, generator=generator, dtype=x.dtype) if name in wanted else x
            for name, x in given.items()
        }
        return list(interpret(derived, moved).values())

    found = at(0.0)
    if not all(bool(each.isfinite().all()) for each in found):
        return False
    if not has_corners(program):
        return True
    for here, before, after in zip(found, at(-AWAY), at(AWAY), strict=True):
        size = 1 + here.abs().max() if here.numel() else 1
        if any(((each - here).abs() > 100 * AWAY * size).any() for each in (before, after)):
            return False
    return True


def check(example: Example, backend: BackendName) -> bool:
    """Whether the program was fit to be checked; then its derivatives are right, the second ones of a short one."""
    if is_marked(example.program):
        return False
    tensors = on_a_lattice(example.tensors)
    call = Differentiable(Compiled(example.program, backend=backend, on_unfused="quiet"))
    wanted = [name for name, tensor in tensors.items() if is_smooth(tensor)]
    leaves = tuple(tensors[name].requires_grad_() for name in wanted)
    made = call(tensors)
    results = [name for name in call.smooth if made[name].requires_grad]
    weights = {name: torch.ones_like(made[name]) for name in results}
    plain = {name: tensor.detach() for name, tensor in tensors.items()}
    if not results or not wanted or not has_no_jump(example.program, plain, wanted, weights):
        return False

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        values = call(tensors | dict(zip(wanted, given, strict=True)))
        return tuple(values[name] for name in results)

    assert gradcheck(run, leaves, fast_mode=True)
    short = SHORT if backend == "reference" or times() > 1 else SECOND
    if len(apart(gradient(example.program)).forms) <= short:
        assert gradgradcheck(run, leaves, fast_mode=True)
    return True


@st.composite
def complexed(draw: Draw, strategy: st.SearchStrategy[Example]) -> Example:
    """A program of the strategy whose first real tensor is made of a complex one, and whose first result is
    complex, perhaps."""
    example = draw(strategy)
    program, tensors = example.program, dict(example.tensors)
    real = [each.leaf for each in program.declarations if each.leaf.declared == "real" and not each.optional]
    if not real:
        return example
    z = replace(real[0], declared="complex")
    square, turned = mul(z, build.apply("conj", z)), build.apply("div", z, add(Const(2.0 + 1.0j), mul(z, z)))
    part = draw(st.sampled_from((z, mul(z, z), square, build.apply("exp", turned), build.apply("sin", z))))
    part = build.apply(draw(st.sampled_from(("imag", "real"))), part)

    def declared(declarations: tuple[Declaration, ...]) -> tuple[Declaration, ...]:
        return tuple(replace(each, leaf=z) if each.leaf == real[0] else each for each in declarations)

    program = rewrite_program(program, lambda root: substitute(root, {real[0]: part}))
    program = replace(
        program, inputs=declared(program.inputs), parameters=declared(program.parameters),
        buffers=declared(program.buffers),
    )  # fmt: skip
    first = program.outputs[0]
    if first.value.kind == "real" and draw(st.booleans()):
        value = mul(build.apply("exp", mul(Const(0.5j), first.value)), first.value)
        program = replace(program, outputs=(replace(first, value=value), *program.outputs[1:]))
    tensors[z.name] = torch.complex(tensors[z.name].double(), tensors[z.name].double())
    return replace(example, program=program, tensors=tensors)


WAYS = [
    ("real", "cpp"),
    ("real", "reference"),
    ("complex", "reference"),
    pytest.param("complex", "cpp", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("kind", "backend"), WAYS)
def test_generated_programs(kind: str, backend: BackendName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_CXX_LEVEL", "-O0")
    seen = 0

    def one(example: Example) -> None:
        nonlocal seen
        try:
            seen += check(example, backend)
        except NotYet:
            return

    drawn(PROGRAMS if kind == "real" else complexed(PROGRAMS), COUNT, one)
    assert seen >= COUNT * times() // 2, f"{seen} of {COUNT * times()} programs were fit to be checked"


# --- marks


def check_marked(program: Program, tensors: Mapping[str, Tensor]) -> tuple[Program, dict[str, Tensor]] | None:
    """The gradient program and its tensors, right by the differences of a function that has the derivative which
    the author says; None where there is nothing to check."""
    sizes = bind_sizes(program, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    derived, generator, made = (
        gradient(program),
        torch.Generator().manual_seed(5),
        interpret(program, tensors),
    )
    names = [each.leaf.name for each in derived.inputs[len(program.inputs) :]]
    given = {name: random_like(made[name.removeprefix("cot.")], torch.float64, generator) for name in names}
    weights = {name.removeprefix("cot."): each for name, each in given.items()}
    found = {
        name.removeprefix("grad."): each for name, each in interpret(derived, {**tensors, **given}).items()
    }
    asked = replace(
        program, outputs=tuple(each for each in program.outputs if each.name in weights), updates=()
    )
    function, held = unmarked(asked, tensors, sizes)
    if not found or not weights or not has_no_jump(function, held, list(found), weights):
        return None
    rounding = noise(function, held, weights, sizes)
    ways = {
        name: torch.randn(each.shape, generator=generator, dtype=each.dtype) for name, each in found.items()
    }
    check_slope(function, held, ways, weights, found, rounding, sizes)
    given = {**tensors, **given}
    return apart(derived), {each.leaf.name: given[each.leaf.name] for each in derived.declarations}


def test_marked_programs() -> None:
    seen: list[int] = []

    def one(example: Example) -> None:
        try:
            first = check_marked(example.program, on_a_lattice(example.tensors))
            if first is not None and len(first[0].forms) <= SHORT:
                seen.append(1 + (check_marked(*first) is not None))
        except NotYet:
            return

    drawn(marked(PROGRAMS), MARKED, one)
    assert sum(seen) >= MARKED * times(), f"{seen}: the orders that were fit to be checked"
