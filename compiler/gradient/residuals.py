"""What a call keeps for its gradient, and the gradient in terms of that.

    auto    what streaming kernels give anyway: their results, and the log-sum-exp of their scores; but no sum that
            is larger than half of what the program is given and gives
    none    beside that, every reduction of the program that the gradient reads (scores too)
    all     nothing: the gradient computes all from the inputs again

A gradient reads a kept value in place of computing it. Where the value of a sum is known, a sum over two
axes is taken in the other order (language.md section 4: reorder reductions, pull a factor):

    sum[m](p * sum[e](g * v)) = sum[e](g * sum[m](p * v)) = sum[e](g * o)

What a softmax gives is kept also where it may be absent (a query without a key): as its value with `otherwise 0`,
beside a bool that says where it is, if the kernel has these anyway. Other values are kept where they are
present everywhere. The gradient in these terms takes what is kept for constants, so it is never derived again:
second derivatives start from the gradient of the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from ...dsl.constructors.build import present
from ...dsl.program import (
    BATCH,
    Const,
    Declaration,
    Form,
    Leaf,
    Map,
    Otherwise,
    Output,
    Piece,
    Program,
    Reduce,
    When,
    walk,
)
from ..algorithms.linear import stream_linear_maps
from ..fusion.attention_family import Attention, match_attention
from ..fusion.contraction import factors_of
from ..fusion.sum_family import StreamedSum, match_sum
from ..meaning.partial import Sizes, box
from ..rewrites.conditions import Conditions, optional_leaves
from ..rewrites.rewrite import substitute
from ..rewrites.simplify import Rewriter, rewrite_program, simplify_form
from ..rewrites.total import Totality

Recompute = Literal["auto", "all", "none"]

MOST_KNOWN = 4096
"""How many shapes of call are remembered."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A value that a call keeps: the result that holds it, and the input by which the gradient takes it; whether
    that result was `added` to those of the program; and the input that says where the value is present, None
    where that is everywhere."""

    form: Form
    result: str
    declaration: Declaration
    added: bool
    there: Leaf | None = None

    @property
    def read(self) -> Form:
        """What stands for the value in the gradient."""
        leaf = self.declaration.leaf
        return leaf if self.there is None else When(self.there, leaf)


def keep(
    program: Program,
    recompute: Recompute,
    reverse: Program | None = None,
    *,
    rounded: bool = False,
    without: frozenset[Form] = frozenset(),
) -> tuple[Program, tuple[Kept, ...]]:
    """The program with a result for each value that is kept, and these; `without` those that are `too_large`.
    `reverse` is its gradient, which `recompute="none"` asks what it reads. Where the results of the program are
    `rounded` to 16 bits, what is kept is not one of them: differences of what was rounded would lose the gradient."""
    if recompute == "all":
        return program, ()
    program = stream_linear_maps(program)
    total = Totality(program)
    keeper = Keeper(program, rounded)
    streamed = (form for form in _streamed(program) if form not in without)
    wanted = dict.fromkeys(form for form in streamed if total.of(form) or keeper.may_lack(form))
    if recompute == "none" and reverse is not None:
        read = {form for form in reverse.forms if isinstance(form, Reduce) and _varies(form)}
        wanted |= dict.fromkeys(form for form in program.forms if form in read and total.of(form))
    for form in wanted:
        keeper.keep(form, total.of(form))
    if not keeper.added:
        return program, tuple(keeper.kept)
    return replace(program, outputs=(*program.outputs, *keeper.added)), tuple(keeper.kept)


class Sums:
    """The sums of streams of a program, neither results nor part of a softmax: kept where they are small."""

    def __init__(self, program: Program) -> None:
        program = stream_linear_maps(program)
        self.over = [each.leaf.over for each in program.declarations] + [form.axes for form in program.roots]
        roots = set(program.roots)
        real = (form for form in program.forms if form.kind == "real" and isinstance(form, Reduce | Map))
        sums = (form for form in real if form not in roots and isinstance(match_sum(form), StreamedSum))
        self.forms = tuple(form for form in sums if not isinstance(match_attention(form), Attention))
        self.known: dict[object, frozenset[Form]] = {}

    def too_large(self, of: Sequence[Sequence[int]], sizes: Callable[[], Sizes]) -> frozenset[Form]:
        """Those of more entries than half of all inputs and results together, in a call of these shapes; none where a
        size is a symbol: one graph for all sizes keeps them."""
        if not self.forms or any(type(extent) is not int for shape in of for extent in shape):
            return frozenset()
        shapes = tuple(map(tuple, of))
        if shapes not in self.known:
            found = sizes()
            whole = sum(prod(box(axes, found)) for axes in self.over)
            large = (form for form in self.forms if prod(box(form.axes, found)) * 2 > whole)
            if len(self.known) >= MOST_KNOWN:
                self.known.clear()
            self.known[shapes] = frozenset(large)
        return self.known[shapes]


class Keeper:
    """Results for values that are kept, where the program has none; not its own, if those are `rounded`."""

    def __init__(self, program: Program, rounded: bool) -> None:
        self.outputs = {} if rounded else {each.value: each for each in reversed(program.outputs)}
        self.values = {each.value for each in program.outputs}
        self.normalisers, self.mixed = _softmaxes(program)
        self.conditions = Conditions(optional_leaves(program))
        self.presences: dict[object, Leaf] = {}
        self.kept: list[Kept] = []
        self.added: list[Output] = []

    def may_lack(self, form: Form) -> bool:
        """Whether no kernel of its own is needed for a value that may be absent: a normaliser that is there on
        the way, or a value whose `otherwise 0` is a result."""
        return form in self.normalisers or (form in self.mixed and self.zeroed(form) in self.values)

    def keep(self, form: Form, total: bool) -> None:
        there = None if total else self.presence(form)
        output = self.output(form if total else self.zeroed(form))
        self.kept.append(Kept(form, output.name, _declaration(output), output in self.added, there))

    def presence(self, form: Form) -> Leaf:
        """Where the form is present, kept once for all forms that are so at the same places."""
        where = frozenset(self.conditions.of(form))
        if where not in self.presences:
            output = self.output(present(form))
            declaration = _declaration(output)
            self.kept.append(Kept(output.value, output.name, declaration, output in self.added))
            self.presences[where] = declaration.leaf
        return self.presences[where]

    def zeroed(self, form: Form) -> Form:
        """The value with `otherwise 0`, as a result has it if one does."""
        zeros = (Const(zero) for zero in (0, 0.0))
        made = [Otherwise(form, zero) for zero in zeros]
        return next((each for each in made if each in self.values), made[-1])

    def output(self, value: Form) -> Output:
        found = self.outputs.get(value)
        if found is None:
            found = Output(f"kept.{len(self.added)}", value, tuple((axis,) for axis in value.axes))
            self.added.append(found)
            self.outputs[value] = found
        return found


def _declaration(output: Output) -> Declaration:
    over = tuple(axis for item in output.items for axis in item)
    name = f"kept.{output.name.removeprefix('kept.')}"
    return Declaration(Leaf("input", name, over, output.value.kind), output.items)


def _streamed(program: Program) -> Iterator[Form]:
    """The results of streams and the normalisers of their weights."""
    for form in program.forms:
        if form.kind != "real" or not isinstance(form, Reduce | Map):
            continue
        match = match_attention(form)
        if isinstance(match, Attention):
            yield from (match.normaliser, form)
        elif isinstance(match_sum(form), StreamedSum):
            yield form


def _softmaxes(program: Program) -> tuple[frozenset[Form], frozenset[Form]]:
    """The softmax sums whose kernels have the log-sum-exp for each of their queries: these, and the sums."""
    found: dict[Form, Form] = {}
    for form in program.forms:
        match = match_attention(form) if isinstance(form, Reduce | Map) and form.kind == "real" else ""
        if not isinstance(match, Attention) or match.root == match.normaliser:
            continue
        if set(match.normaliser.axes) == {*match.batch, *match.lanes}:
            found[form] = match.normaliser
    return frozenset(found.values()), frozenset(found)


def _varies(form: Form) -> bool:
    """Whether a value depends on more than parameters."""
    leaves = [each for each in walk((form,)) if isinstance(each, Leaf)]
    return form.kind == "real" and any(leaf.role != "parameter" for leaf in leaves)


def from_kept(reverse: Program, kept: tuple[Kept, ...]) -> Program:
    """A gradient that reads what is kept, as inputs after its own. It has been simplified, so what is kept is looked
    for as it is then."""
    conditions = Conditions(optional_leaves(reverse))
    forms = [(simplify_form(each.form, conditions), each) for each in kept]
    known = {_key(form): each for form, each in forms if isinstance(form, Reduce)}
    rule = Reordered({key: each for key, each in known.items() if key is not None})
    made = rewrite_program(reverse, Rewriter({Reduce: (rule,)}, conditions))
    leaves = {form: each.read for form, each in forms}
    made = rewrite_program(made, lambda form: substitute(form, leaves))
    implied = Implied({each.there: each.form for each in kept if each.there is not None})
    made = rewrite_program(made, Rewriter({Map: (implied,)}, conditions))
    read = {form for form in made.forms if isinstance(form, Leaf)}
    inputs = tuple(each.declaration for each in kept if each.declaration.leaf in read)
    names = tuple((name, form) for name, form in made.names if form not in read)
    return replace(made, inputs=(*made.inputs, *inputs), names=names)


Known = tuple[frozenset[Form], frozenset[object]]


def _key(form: Form) -> Known | None:
    """A plain sum of products by its factors and its axes."""
    if not isinstance(form, Reduce) or form.op != "sum" or len(form.pieces) != 1:
        return None
    factors = factors_of(form.pieces[0].value)
    if len(set(factors)) != len(factors):
        return None
    return frozenset(factors), frozenset(form.pieces[0].axes)


@dataclass(frozen=True, slots=True)
class Reordered:
    """sum[m](p * sum[e](g * v)) -> sum[e](g * o), where o = sum[m](p * v) is known.

    Where o may be absent it is read as 0, and the sum is there where o is: when(there, sum[e](g * o))."""

    known: Mapping[Known, Kept]

    def __call__(self, form: Form, conditions: Conditions) -> Form | None:
        if not isinstance(form, Reduce) or form.op != "sum" or len(form.pieces) != 1:
            return None
        piece = form.pieces[0]
        factors = factors_of(piece.value)
        for i, each in enumerate(factors):
            inner = (
                each.pieces[0]
                if isinstance(each, Reduce) and each.op == "sum" and len(each.pieces) == 1
                else None
            )
            if inner is None:
                continue
            made = self._swapped(piece, (*factors[:i], *factors[i + 1 :]), inner)
            if made is not None:
                return made
        return None

    def _swapped(self, outer: Piece, others: tuple[Form, ...], inner: Piece) -> Form | None:
        over, free = set(outer.axes), set(inner.axes)
        parts = factors_of(inner.value)
        moved = tuple(each for each in parts if set(each.axes) & over)
        fixed = tuple(each for each in parts if not set(each.axes) & over)
        if not fixed or BATCH in free or any(set(each.axes) & free for each in others):
            return None
        factors = (*others, *moved)
        found = self.known.get((frozenset(factors), frozenset(outer.axes)))
        if found is None or len(set(factors)) != len(factors) or not free <= set(found.form.axes):
            return None
        product: Form = found.declaration.leaf
        for each in fixed:
            product = Map("mul", (each, product))
        made = Reduce("sum", (Piece(product, inner.axes),))
        return made if found.there is None else When(found.there, made)


@dataclass(frozen=True, slots=True)
class Implied:
    """f(x, when(there, y)) -> f(x, y), where x is present only where the kept value is that `there` is of.

    A score that is seen says that its query sees some."""

    kept: Mapping[Leaf, Form]

    def __call__(self, form: Form, conditions: Conditions) -> Form | None:
        if not isinstance(form, Map):
            return None
        for i, each in enumerate(form.args):
            match each:
                case When(predicate=Leaf() as there, value=inner) if there in self.kept:
                    others = (other for j, other in enumerate(form.args) if j != i)
                    given = tuple(known for other in others for known in conditions.of(other))
                    if conditions.implies(given, conditions.of(self.kept[there])):
                        return replace(form, args=(*form.args[:i], inner, *form.args[i + 1 :]))
                case _:
                    pass
        return None
