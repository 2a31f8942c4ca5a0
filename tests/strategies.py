"""Hypothesis strategies: well-typed programs, attention programs, and tensors for them.

`examples()` and `attention_examples()` draw an `Example`: a program with tensors for one call. Its repr,
which hypothesis prints when a test fails, is the program's text and what the tensors are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeVar, get_args

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter
from torch import Tensor

from plait.compiler.meaning.storage import stored_shape
from plait.dsl.constructors import build
from plait.dsl.printing.show import show
from plait.dsl.program import (
    BATCH,
    Axis,
    Const,
    Declaration,
    Form,
    Leaf,
    Output,
    Program,
    Require,
    Role,
    Size,
    walk,
)
from plait.dsl.shapes.size_forms import Sizes, axis_range
from write_rules import ROOTS, RULES
from writer import Axes, Writer, add

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[T]], T]


@dataclass(frozen=True)
class Example:
    """A program, and tensors for one call of it by name."""

    program: Program
    tensors: Mapping[str, Tensor]
    sizes: Sizes

    def __repr__(self) -> str:
        return "\n".join(["", show(self.program), *map(self._shown, self.tensors)])

    def _repr_pretty_(self, printer: RepresentationPrinter, cycle: bool) -> None:
        """What hypothesis prints of the example that it has shrunk."""
        printer.text(repr(self))

    def _shown(self, name: str) -> str:
        tensor = self.tensors[name]
        return f"# {name}: {str(tensor.dtype).split('.')[1]} {tuple(tensor.shape)}, strides {tensor.stride()}"


def drawn(strategy: st.SearchStrategy[Example], count: int, check: Callable[[Example], None]) -> None:
    """Check this many examples, or as many times more as the profile asks for more than the default 50."""
    most = count * max(1, settings().max_examples // 50)

    @settings(max_examples=most)
    @given(strategy)
    def run(example: Example) -> None:
        check(example)

    run()


# --- tensors

LAYOUTS = ("contiguous", "transposed", "sliced", "expanded", "channels last", "offset", "overlapping")


@st.composite
def tensors(draw: Draw, declaration: Declaration, sizes: Sizes, dtype: torch.dtype) -> Tensor:
    """A tensor for a declaration: real ones of `dtype`, in any strides that a caller may bring."""
    leaf = declaration.leaf
    shape = stored_shape(declaration.items, sizes)
    layout = draw(st.sampled_from(LAYOUTS))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    wide = [2 * size + 1 for size in shape] if layout == "sliced" else list(shape)
    data = random_data(leaf, wide[::-1] if layout == "transposed" else wide, generator, sizes, dtype)
    match layout:
        case "transposed":
            return data.permute(list(range(data.dim() - 1, -1, -1)))
        case "channels last" if len(shape) > 2:
            return data.movedim(1, -1).contiguous().movedim(-1, 1)
        case "offset":
            return torch.cat([data.reshape(-1)[:1], data.reshape(-1)])[-data.numel() :].view(shape)
        case "overlapping" if len(shape) > 1 and min(shape) > 0:
            line = random_data(leaf, [shape[0] + prod(shape[1:]) - 1], generator, sizes, dtype)
            return line.unfold(0, prod(shape[1:]), 1).unflatten(1, shape[1:])
        case "sliced":
            return data[tuple(slice(1, None, 2) for _ in shape)]
        case "expanded" if any(size > 1 for size in shape):
            axis = draw(st.sampled_from([place for place, size in enumerate(shape) if size > 1]))
            return data.narrow(axis, 0, 1).expand(shape)
        case _:
            return data


def random_data(
    leaf: Leaf, shape: Iterable[int], generator: torch.Generator, sizes: Sizes, dtype: torch.dtype
) -> Tensor:
    """Reals that float32 holds exactly; indices of the axis that the leaf ranges over."""
    dims = tuple(shape)
    match leaf.declared:
        case "bool":
            return torch.rand(dims, generator=generator) < 0.7
        case "int":
            legal = range(-2, 6) if leaf.ranges_over is None else axis_range(leaf.ranges_over, sizes)
            return torch.randint(legal.start, legal.stop, dims, generator=generator)
        case "real":
            return torch.randn(dims, generator=generator).to(dtype)
        case _:
            wide = torch.complex128 if dtype == torch.float64 else torch.complex64
            return torch.randn(dims, generator=generator, dtype=torch.complex64).to(wide)


def any_tensors(program: Program, sizes: Sizes) -> dict[str, Tensor]:
    """Tensors for these sizes, the same each time."""
    return {
        each.leaf.name: random_data(
            each.leaf,
            stored_shape(each.items, sizes),
            torch.Generator().manual_seed(number),
            sizes,
            torch.float64,
        )
        for number, each in enumerate(program.declarations)
    }


STORED = (torch.float64, torch.float32, torch.float32, torch.bfloat16, torch.float16)
"""What reals are stored in; 16-bit numbers are computed with in float32."""


@st.composite
def with_tensors(draw: Draw, program: Program, sizes: Sizes) -> Example:
    """The program with a tensor for each of its declarations; all reals have one dtype."""
    dtype = draw(st.sampled_from(STORED))
    found = {each.leaf.name: draw(tensors(each, sizes, dtype)) for each in program.declarations}
    return Example(program, found, sizes)


# --- programs of any kind


def axis_sizes(most: int) -> st.SearchStrategy[int]:
    """Sizes with 1 and primes among them."""
    return st.sampled_from([size for size in (2, 1, 3, 4, 5, 7) if size <= most])


@st.composite
def some_sizes(draw: Draw, most: int, *, batch: bool = False) -> Sizes:
    """Up to three signature axes, and perhaps or surely `...`, of any number of axes and sometimes empty."""
    sizes: Sizes = {Axis(name): draw(axis_sizes(most)) for name in "hwc"[: draw(st.integers(1, 3))]}
    if batch or draw(st.booleans()):
        extents = st.lists(st.sampled_from([2, 1, 3, 0] if most > 3 else [2, 1, 0]), max_size=2)
        sizes[BATCH] = tuple(draw(extents))
    return sizes


@st.composite
def examples(
    draw: Draw,
    *,
    depth: int = 3,
    most: int = 5,
    filled: bool = True,
    first: Sequence[str] = tuple(ROOTS),
    second: Sequence[str] = (),
) -> Example:
    """A well-typed program whose results are total, with tensors: a case of one of the `first` roots, and of one of
    the `second` if there are any. Sizes are at most `most`. Where the results are not `filled`, they may be absent
    somewhere."""
    batch = any(roots and all("..." in root for root in roots) for roots in (first, second))
    sizes = draw(some_sizes(most, batch=batch))
    named = [axis for axis in sizes if axis != BATCH]
    fixed = draw(st.lists(st.sampled_from(named), unique=True, max_size=1))
    writer = Writer(draw, sizes, fixed, RULES)
    fill = total if filled else lambda _, form: form
    made = [result(writer, writer.pick(roots), depth, fill) for roots in (first, second) if roots]
    values = together(writer, *made) if second else made
    values[0] = bound(writer, values)
    return draw(with_tensors(assembled(writer, values), sizes))


def result(writer: Writer, root: str, depth: int, fill: Callable[[Writer, Form], Form]) -> Form:
    """A value over signature axes, of any kind, that is a case of the root."""
    axes = writer.some(writer.signature, least=1)
    return fill(writer, ROOTS[root](writer, writer.draw(st.integers(min(1, depth), depth)) - 1, axes))


def together(writer: Writer, first: Form, second: Form) -> list[Form]:
    """Both values: as two results, or as one where their kinds allow it."""
    if writer.chance(25):
        return [first, second]
    if "bool" in (first.kind, second.kind):
        if first.kind != second.kind:
            return [first, second]
        return [build.apply(writer.pick(["and", "or"]), first, second)]
    return [build.apply(writer.pick(["add", "sub", "mul"]), first, second)]


def total(writer: Writer, form: Form) -> Form:
    """The form, filled where it may be absent."""
    if not writer.may_be_absent(form):
        return form
    if form.kind == "bool":
        return build.otherwise(form, Const(False))
    if form.kind == "real" and writer.chance(25):
        return build.otherwise(form, writer.stored("parameter", "real", named(form)).leaf)
    return build.otherwise(form, Const(writer.pick([0, -1])))


def named(form: Form) -> Axes:
    return tuple(axis for axis in form.axes if axis != BATCH)


def bound(writer: Writer, values: list[Form]) -> Form:
    """The first value, made to read an input over every signature axis that no other input sizes."""
    used, leaves = used_axes(
        [*values, *(form for each in writer.updates for form in (each.value, each.buffer))]
    )
    inputs = [
        each
        for each in writer.declarations
        if each.leaf in leaves and each.leaf.role == "input" and not each.optional
    ]
    sized = {axis for each in inputs for axis in each.leaf.over}
    lacking = tuple(axis for axis in writer.signature if axis in used - sized - set(writer.fixed))
    if inputs and not lacking:
        return values[0]
    return anchored(values[0], writer.declare_input(lacking), lacking)


def anchored(value: Form, anchor: Leaf, over: Axes) -> Form:
    """The value, and something of the input; a whole number and a truth value stay one."""
    inner = tuple(axis for axis in over if axis not in value.axes)
    if value.kind in ("real", "complex"):
        total = build.otherwise(build.reduce("sum", [(anchor, inner)]), Const(0.0)) if inner else anchor
        return add(value, total)
    positive = build.apply("gt", anchor, Const(0.0))
    some = build.reduce("any", [(positive, inner)]) if inner else positive
    return build.apply("or", value, some) if value.kind == "bool" else add(value, build.apply("to_int", some))


def used_axes(roots: Iterable[Form]) -> tuple[set[Axis], set[Form]]:
    """The axes whose sizes decide something, and the leaves."""
    axes: set[Axis] = set()
    leaves: set[Form] = set()
    stack = list(roots)
    seen: set[Form] = set()
    while stack:
        for form in walk((stack.pop(),)):
            if form in seen:
                continue
            seen.add(form)
            axes.update(form.axes)
            if isinstance(form, Leaf):
                leaves.add(form)
                axes.update(() if form.ranges_over is None else (form.ranges_over,))
            if isinstance(form, Size):
                axes.add(form.axis)
            stack += [each for axis in form.axes for each in (axis.size, axis.lo) if each is not None]
    return axes, leaves


def assembled(writer: Writer, values: list[Form]) -> Program:
    """The program of these values: what they use is declared, some of it named."""
    updates = tuple(writer.updates)
    roots = [*values, *(form for each in updates for form in (each.value, each.buffer))]
    used, leaves = used_axes(roots)
    below = [form for form in walk(values) if not isinstance(form, Leaf | Const | Size)]
    named = writer.some(below) if writer.chance(50) else ()
    order = {form: number for number, form in enumerate(below)}
    fixed = tuple((axis, writer.extent(axis)) for axis in writer.fixed if axis in used)
    requires = [Require(build.apply("le", Size(axis), Const(7))) for axis, _ in fixed if writer.chance(20)]
    tables = {
        role: tuple(each for each in writer.declarations if each.leaf in leaves and each.leaf.role == role)
        for role in get_args(Role)
    }
    written = {form.written for form in walk(roots) if isinstance(form, Const)}
    return Program(
        "drawn",
        inputs=tables["input"],
        outputs=tuple(
            Output(
                "radius" if number == len(values) - 1 and "radius" in written else f"o{number}",
                value,
                writer.packed(writer.shuffled(value.axes), inputs=False),
            )
            for number, value in enumerate(values)
        ),
        statics=(("radius", 2),) if "radius" in written else (),
        fixed=fixed,
        names=tuple((f"s{number}", form) for number, form in enumerate(sorted(named, key=order.__getitem__))),
        parameters=tables["parameter"],
        buffers=tables["buffer"],
        draws=tables["draw"],
        updates=updates,
        requires=tuple(requires),
        mode="train" if writer.chance(10) else "eval",
    )
