"""Sums of products: which factors are weights, and which axes of a program have a size of their own.

An axis is *fixed* if its size is a number or that of an axis of a parameter: it is the same at every
call of a module, so that it may be compiled in. Sizes of other axes belong to the call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from math import gcd, prod

from ...dsl.constructors.build import low, size
from ...dsl.program import (
    AsIf,
    At,
    Axis,
    Const,
    Coordinate,
    Form,
    Leaf,
    Map,
    OnGradient,
    Otherwise,
    Program,
    Reduce,
    Size,
    When,
    children,
    walk,
)
from ...dsl.shapes.size_forms import evaluate_size, is_batch
from ..rewrites.affine import affine
from ..rewrites.rewrite import substitute
from .plan import Stored

Constant = Callable[[Form], "int | None"]
"""The integer that a form of sizes comes to, where that is known."""


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor of a product, and whether it is made of parameters only."""

    form: Form
    weight: bool


@dataclass(frozen=True, slots=True)
class Contraction:
    """A sum over one piece of a product of at least two factors."""

    form: Reduce
    factors: tuple[Factor, ...]

    @property
    def over(self) -> tuple[Axis, ...]:
        return self.form.pieces[0].axes

    def rows(self, order: tuple[Axis, ...], constant: Constant | None = None) -> tuple[Axis, ...]:
        """The axes of the result, in `order`, that only the side without lanes has: that of the weights,
        or of what lacks the last axis that one side has for itself. With `constant`, a factor has no axis
        that it reads by groups only: all of a block (`blocks`) meets the same of it."""
        held = [set(factor.form.axes) - set(groups(factor.form, constant)) for factor in self.factors]
        weights = {
            axis for factor, own in zip(self.factors, held, strict=True) if factor.weight for axis in own
        }
        others = {
            axis for factor, own in zip(self.factors, held, strict=True) if not factor.weight for axis in own
        }
        own = [axis for axis in order if axis in self.form.axes]
        if not weights - others or not others - weights:
            single = [axis for axis in own if any(axis not in each for each in held)]
            if not single:
                return ()
            others = {axis for each in held if single[-1] in each for axis in each}
            weights = {axis for each in held if single[-1] not in each for axis in each}
        return tuple(axis for axis in own if axis in weights and axis not in others)

    def blocks(self, constant: Constant) -> dict[Axis, int]:
        """The axes that some factor reads by groups only, with the entries of a block."""
        found: dict[Axis, int] = {}
        for factor in self.factors:
            for axis, count in groups(factor.form, constant).items():
                found[axis] = gcd(found.get(axis, 0), count)
        return {axis: block_of(count) for axis, count in found.items()}


def groups(form: Form, constant: Constant | None) -> dict[Axis, int]:
    """The axes from 0 on that a form reads as `axis // n` only, with n, where n has blocks worth the name."""
    found: dict[Axis, int] = {}
    plain: set[Axis] = set()
    stack = [form] if constant is not None else []
    while stack:
        each = stack.pop()
        match each:
            case Map(op="floordiv", args=(Coordinate(axis=axis), by)) if constant and (
                (count := constant(by) or 0) > 0 and constant(low(axis)) == 0
            ):
                found[axis] = gcd(found.get(axis, 0), count)
            case At(value=value, indices=indices):
                moved = dict(indices)
                plain |= {axis for axis in value.axes if axis not in moved}
                stack += moved.values()
            case Map():
                stack += each.args
            case _:
                plain |= set(each.axes)
    return {axis: n for axis, n in found.items() if axis not in plain and block_of(n) >= LEAST_BLOCK}


MOST_BLOCK, LEAST_BLOCK = 48, 4


def block_of(count: int) -> int:
    """The largest block, of MOST_BLOCK entries or fewer, that groups of `count` entries are made of."""
    return max(each for each in range(1, min(count, MOST_BLOCK) + 1) if count % each == 0)


def factors_of(form: Form, stored: Collection[Form] = ()) -> tuple[Form, ...]:
    """The factors of a product, left to right; a stored one is one factor."""
    done: list[Form] = []
    stack = [form]
    while stack:
        each = stack.pop()
        if isinstance(each, Map) and each.op == "mul" and each not in stored:
            stack += reversed(each.args)
        else:
            done.append(each)
    return tuple(done)


def contraction(form: Form, stored: Collection[Form]) -> Contraction | None:
    """A form as a sum of products, if it is one."""
    if not isinstance(form, Reduce) or form.op != "sum" or form.kind != "real" or len(form.pieces) != 1:
        return None
    over = set(form.pieces[0].axes)
    factors = [each for each in factors_of(form.pieces[0].value, stored) if over & set(each.axes)]
    if len(factors) < 2:
        return None
    return Contraction(form, tuple(Factor(each, _weight(each, stored)) for each in factors))


def is_product(form: Form, stored: Collection[Form]) -> bool:
    """Whether a form is a sum of products whose factors have axes of the result that others lack."""
    found = contraction(form, stored)
    if found is None:
        return False
    sets = [set(factor.form.axes) & set(form.axes) for factor in found.factors]
    return any(each != sets[0] for each in sets)


def _weight(form: Form, stored: Collection[Form]) -> bool:
    return form not in stored and is_of_parameters(form)


@lru_cache(maxsize=4096)
def is_of_parameters(form: Form) -> bool:
    """Whether a value is made of parameters only."""
    leaves = [each for each in walk((form,)) if isinstance(each, Leaf)]
    return bool(leaves) and all(leaf.role == "parameter" for leaf in leaves)


def product(factors: Sequence[Form]) -> Form:
    """The factors multiplied from left to right."""
    return reduce(lambda a, b: Map("mul", (a, b)), factors)


MOST_TAPS = 64
"""Entries of a window that may be written out one by one."""


def is_window(form: Form) -> bool:
    """Whether a reduction takes few entries, a fixed number of them, around a place that its own axes move."""
    if not isinstance(form, Reduce) or form.op == "argmax":
        return False
    taps = set(reduced_axes(form))
    if any(bases(axis) for axis in taps) or prod(evaluate_size(size(axis), {}) for axis in taps) > MOST_TAPS:
        return False

    def below(each: Form) -> tuple[Form, ...]:
        return () if isinstance(each, Reduce) and each != form else children(each)

    reads = (each for each in walk((form,), below) if isinstance(each, At))
    indices = (set(index.axes) for each in reads for _, index in each.indices)
    return any(axes & taps and axes & set(form.axes) for axes in indices)


def epilogue(root: Form) -> Iterator[Reduce]:
    """The reductions that a value is pointwise in, itself if it is one."""
    stack, seen = [root], set[Form]()
    while stack:
        form = stack.pop()
        if form in seen:
            continue
        seen.add(form)
        if isinstance(form, Reduce):
            yield form
        elif isinstance(form, Map | When | Otherwise | AsIf | OnGradient):
            stack += children(form)


def inside(root: Form, stored: Collection[Form]) -> tuple[Form, ...]:
    """The forms of a group: from its root down to leaves and other stored values."""

    def below(form: Form) -> tuple[Form, ...]:
        return () if form in stored and form != root else children(form)

    return tuple(each for each in walk((root,), below) if each == root or each not in stored)


def neighbours(root: Form, stored: Mapping[Form, Stored]) -> frozenset[Axis]:
    """The axes along which what a value reads lies side by side: those that move the last axis of the
    tensors of the highest rank."""
    found: list[tuple[int, frozenset[Axis]]] = []
    stack: list[tuple[Form, Mapping[Axis, Form]]] = [(root, {})]
    while stack:
        form, moved = stack.pop()
        order = stored[form].axes if form in stored else form.over if isinstance(form, Leaf) else None
        if order is not None:
            last = order[-1:]
            axes = (_beside(moved[axis]) if axis in moved else {axis} for axis in last)
            found.append((len(order), frozenset(axis for each in axes for axis in each)))
        elif isinstance(form, At):
            places: dict[Form, Form] = {Coordinate(axis): index for axis, index in moved.items()}
            own = {a: substitute(e, places) if places else e for a, e in form.indices}
            stack.append((form.value, {**moved, **own}))
        else:
            stack += [(each, moved) for each in children(form)]
    rank = max((each for each, _ in found), default=0)
    return frozenset(axis for each, axes in found if each == rank for axis in axes)


def _beside(index: Form) -> set[Axis]:
    """The axes that move an index to neighbours, for all that is known."""
    return set(index.axes) - far(index)


def far(index: Form) -> set[Axis]:
    """The axes that move an index by a size of the call: the parts of an axis are far from each other."""
    found = affine(index)
    if found is None:
        return set()
    return {axis for axis, step in found.coefficients.items() if not isinstance(step, Const)}


# --- fixed sizes


def parameter_axes(program: Program) -> frozenset[Axis]:
    """The axes of the parameters and buffers."""
    return frozenset(
        base
        for declaration in program.declarations
        if declaration.leaf.role in ("parameter", "buffer")
        for axis in declaration.leaf.over
        for base in bases(axis)
    )


def like_a_weight(form: Form, program: Program) -> bool:
    """Whether a value has no more entries than a parameter or buffer of the program: each of its axes has the size
    of an axis of its own there."""
    sizes = Counter(size(axis) for axis in form.axes)
    return not any(is_batch(axis) for axis in form.axes) and any(
        sizes <= Counter(size(axis) for axis in declaration.leaf.over)
        for declaration in program.declarations
        if declaration.leaf.role in ("parameter", "buffer")
    )


def bases(axis: Axis) -> tuple[Axis, ...]:
    """The axes whose sizes give the range of an axis."""
    found = (each.axis for each in walk((low(axis), size(axis))) if isinstance(each, Size))
    return tuple(dict.fromkeys(found))


def is_fixed(axis: Axis, parameters: frozenset[Axis]) -> bool:
    """Whether the range of an axis is the same at every call."""
    return not is_batch(axis) and all(each in parameters for each in bases(axis))


def fixed_axes(root: Form, stored: Collection[Form], parameters: frozenset[Axis]) -> tuple[Axis, ...]:
    """The axes whose sizes a tile kernel of `root` has compiled in: those that it reduces, if fixed."""
    reduced = (
        axis
        for form in inside(root, stored)
        if isinstance(form, Reduce)
        for axis in reduced_axes(form)
        if is_fixed(axis, parameters)
    )
    return tuple(dict.fromkeys(base for axis in reduced for base in bases(axis)))


def reduced_axes(form: Reduce) -> tuple[Axis, ...]:
    """The axes of all pieces."""
    return tuple(dict.fromkeys(axis for piece in form.pieces for axis in piece.axes))
