"""Rules that make forms smaller, each a law of language.md section 4, and the engine that applies them.

A rule is `before -> after` in its docstring; it returns None where it does not match. The engine drops
an `after` that has other axes or another kind, so no rule has to look after them. No rule makes a value
present in more or in fewer places: `x - x`, `0 * x` and `select(p, a, a)` stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ...dsl.constructors.build import apply
from ...dsl.errors import CompilerFault
from ...dsl.memo import Memo
from ...dsl.ops import TOTAL_REDUCTIONS
from ...dsl.program import (
    BATCH,
    At,
    Axis,
    Const,
    Coordinate,
    Form,
    Map,
    Otherwise,
    Piece,
    Program,
    Reduce,
    When,
    children,
)
from .affine import normal
from .conditions import Conditions, optional_leaves
from .rewrite import border, compose, guarded, push_read, rebuild, spread, substitute, surely_present

Rule = Callable[[Form, Conditions], "Form | None"]

# --- the engine

MOST_STEPS = 1000
"""How many rules in a row one form may take before that is a fault of the rules."""


class Rewriter:
    """Rules at every form, operands first, until none matches. Equal forms are rewritten once."""

    def __init__(self, rules: Mapping[type[Form], Sequence[Rule]], conditions: Conditions) -> None:
        self.rules = rules
        self.conditions = conditions
        self._done: dict[Form, Form] = {}

    def __call__(self, root: Form) -> Form:
        """The form where no rule matches any more: the same object where none did."""
        next_of: dict[Form, Form] = {}
        steps: dict[Form, int] = {}
        stack = [root]
        while stack:
            form = stack[-1]
            waiting = [next_of[form]] if form in next_of else list(children(form))
            waiting = [each for each in waiting if each not in self._done]
            if form in self._done:
                stack.pop()
            elif waiting:
                stack += waiting
            elif form in next_of:
                self._done[form] = self._done[next_of[form]]
            else:
                made = self._once(form)
                if made is form:
                    self._done[form] = form
                else:
                    next_of[form] = made
                    steps[made] = steps.get(form, 0) + 1
                    if steps[made] > MOST_STEPS or (made in next_of and made not in self._done):
                        raise CompilerFault("simplify", "the rules do not come to an end")
        return self._done[root]

    def _once(self, form: Form) -> Form:
        """The form after one step, its operands done: themselves rewritten, or one rule applied."""
        made = rebuild(form, [self._done[each] for each in children(form)])
        if made is not form:
            return made
        for rule in self.rules.get(type(form), ()):
            made = rule(form, self.conditions)
            if made is None or made == form or made.kind != form.kind or set(made.axes) != set(form.axes):
                continue
            return made
        return form


def rewrite_program(program: Program, rewriter: Callable[[Form], Form]) -> Program:
    """The program with every value rewritten. The author's names stay with what they named."""
    outputs = tuple(replace(each, value=rewriter(each.value)) for each in program.outputs)
    updates = tuple(replace(each, value=rewriter(each.value)) for each in program.updates)
    unchanged = all(
        new.value is old.value
        for new, old in zip((*outputs, *updates), (*program.outputs, *program.updates), strict=True)
    )
    if unchanged:
        return program
    made = replace(program, outputs=outputs, updates=updates)
    there = set(made.forms)
    names = ((name, rewriter(form)) for name, form in program.names)
    return replace(made, names=tuple((name, form) for name, form in names if form in there))


def replaced(program: Program, mapping: Mapping[Form, Form]) -> Program:
    """The program with other forms in some places. What is put there is rewritten by the mapping too: what stayed as
    it was would be another value than the one that its other readers have, with all that it is made of."""
    closed: dict[Form, Form] = {}
    for form in program.forms:
        if form in mapping and mapping[form] != form:
            closed[form] = substitute(mapping[form], closed)
    return rewrite_program(program, lambda form: substitute(form, closed)) if closed else program


# --- scalar operations


def fold_constants(form: Form, conditions: Conditions) -> Form | None:
    """2 * 3 -> 6"""
    if isinstance(form, Map) and all(isinstance(arg, Const) for arg in form.args):
        return apply(form.op, *form.args, span=form.span)
    return None


_UNITS: Mapping[str, tuple[Const | None, Const | None]] = {
    "add": (Const(0), Const(0)),
    "sub": (None, Const(0)),
    "mul": (Const(1), Const(1)),
    "div": (None, Const(1)),
    "pow": (None, Const(1)),
    "and": (Const(True), Const(True)),
    "or": (Const(False), Const(False)),
}
"""The left and the right unit of an operation."""


def drop_units(form: Form, conditions: Conditions) -> Form | None:
    """x * 1 -> x, x + 0 -> x, p & true -> p"""
    if not isinstance(form, Map) or form.op not in _UNITS:
        return None
    for unit, (given, other) in zip(_UNITS[form.op], (form.args, form.args[::-1]), strict=True):
        if unit is not None and isinstance(given, Const) and given.value == unit.value:
            return other
    return None


def drop_double_signs(form: Form, conditions: Conditions) -> Form | None:
    """-(-x) -> x, ~~p -> p, x + -y -> x - y, x - -y -> x + y, x * -y -> -(x * y), x / -y -> -(x / y)"""
    match form:
        case Map(op="neg" | "not" as op, args=(Map(op=inner, args=(x,)),)) if inner == op:
            return x
        case Map(op="add", args=(x, Map(op="neg", args=(y,)))):
            return apply("sub", x, y, span=form.span)
        case Map(op="sub", args=(x, Map(op="neg", args=(y,)))):
            return apply("add", x, y, span=form.span)
        case Map(op="mul" | "div" as op, args=(x, Map(op="neg", args=(y,)))):
            return apply("neg", apply(op, x, y, span=form.span))
        case Map(op="mul" | "div" as op, args=(Map(op="neg", args=(x,)), y)):
            return apply("neg", apply(op, x, y, span=form.span))
        case _:
            return None


def drop_repeats(form: Form, conditions: Conditions) -> Form | None:
    """p & p -> p, p | p -> p"""
    match form:
        case Map(op="and" | "or", args=(p, q)) if p == q:
            return p
        case _:
            return None


MOST_INDEX_FORMS = 64


def collect_terms(form: Form, conditions: Conditions) -> Form | None:
    """h + 1 - dh + 2 -> h - dh + 3, for integers, where that is shorter"""
    if not isinstance(form, Map) or form.kind != "int" or form.op not in ("add", "sub", "mul", "neg"):
        return None
    if (length := _length(form)) > MOST_INDEX_FORMS:
        return None
    made = normal(form)
    return made if _length(made) < length else None


def _length(form: Form) -> int:
    """The forms that an arithmetic expression is made of, up to the first too many."""
    count, parts = 0, [form]
    while parts and count <= MOST_INDEX_FORMS:
        count += 1
        part = parts.pop()
        parts += part.args if isinstance(part, Map) else ()
    return count


def drop_implied(form: Form, conditions: Conditions) -> Form | None:
    """x.otherwise(y) * z -> x * z, when(p, x) * z -> x * z, where z is present only where x is, or p holds"""
    if not isinstance(form, Map):
        return None
    for place, arg in enumerate(form.args):
        others = tuple(each for i, x in enumerate(form.args) if i != place for each in conditions.of(x))
        made: Form | None = None
        match arg:
            case Otherwise(value=x) if others and conditions.implies(others, conditions.of(x)):
                made = x
            case When(predicate=p, value=x) if others:
                missing = conditions.missing(others, conditions.holds(p))
                made = guarded(x, missing) if len(missing) < len(conditions.holds(p)) else None
            case _:
                pass
        if made is not None:
            return replace(form, args=(*form.args[:place], made, *form.args[place + 1 :]))
    return None


# --- presence


def drop_known_predicates(form: Form, conditions: Conditions) -> Form | None:
    """when(p & q, x) -> when(p, x) where q holds at P(x); when(true, x) -> x"""
    if not isinstance(form, When):
        return None
    holds = conditions.holds(form.predicate)
    missing = conditions.missing(conditions.of(form.value), holds)
    if missing and len(missing) == len(holds):
        return None
    return guarded(form.value, missing)


def join_predicates(form: Form, conditions: Conditions) -> Form | None:
    """when(p, when(q, x)) -> when(p & q, x)"""
    match form:
        case When(predicate=p, value=When(predicate=q, value=x)):
            return When(apply("and", p, q), x, span=form.span)
        case _:
            return None


def drop_masked_fallback(form: Form, conditions: Conditions) -> Form | None:
    """when(p, x.otherwise(y)) -> when(p, x) where p holds only at P(x)"""
    match form:
        case When(predicate=p, value=Otherwise(value=x)) if conditions.implies(
            conditions.holds(p), conditions.of(x)
        ):
            return When(p, x, span=form.span)
        case _:
            return None


def drop_fallback(form: Form, conditions: Conditions) -> Form | None:
    """x.otherwise(y) -> x where x is proved total; x.otherwise(x) -> x; x.otherwise(when(false, y)) -> x"""
    match form:
        case Otherwise(value=x, fallback=y) if conditions.total(x) or x == y or _is_never(y):
            return x
        case Otherwise(value=x, fallback=y) if _is_never(x):
            return y
        case _:
            return None


def _is_never(form: Form) -> bool:
    return isinstance(form, When) and form.predicate == Const(False)


# --- reads


def drop_identity(form: Form, conditions: Conditions) -> Form | None:
    """x[{a: a, b: e}] -> x[{b: e}]"""
    if not isinstance(form, At):
        return None
    kept = tuple((a, e) for a, e in form.indices if not (isinstance(e, Coordinate) and e.axis == a))
    return replace(form, indices=kept) if kept else form.value


def read_index(form: Form, conditions: Conditions) -> Form | None:
    """(h + 1)[{h: e}] -> when(e in range, e + 1), for what is made of coordinates"""
    if isinstance(form, At) and surely_present(form.value):
        return push_read(form.value, dict(form.indices))
    return None


def join_reads(form: Form, conditions: Conditions) -> Form | None:
    """x[{a: f}][{b: e}] -> when(e in range, x[{a: f[{b: e}]}])"""
    if not isinstance(form, At) or not isinstance(form.value, At):
        return None
    value, indices, guards = compose(form.value, form.indices)
    return guarded(replace(form, value=value, indices=indices), guards) if indices else guarded(value, guards)


# --- reductions


def drop_empty_reduction(form: Form, conditions: Conditions) -> Form | None:
    """sum[](x) -> x, any[](p) -> p.otherwise(false)"""
    match form:
        case Reduce(op="sum" | "prod" | "max" | "min" | "lse", pieces=(Piece(value=x, axes=()),)):
            return x
        case Reduce(op="any" | "all" as op, pieces=(Piece(value=x, axes=()),)):
            return Otherwise(x, Const(op == "all"), span=form.span)
        case _:
            return None


def sum_opposites(form: Form, conditions: Conditions) -> Form | None:
    """sum[k](-x) -> -sum[k](x)"""
    match form:
        case Reduce(op="sum", pieces=(Piece(value=Map(op="neg", args=(x,)), axes=axes),)):
            return apply("neg", replace(form, pieces=(Piece(x, axes),)))
        case _:
            return None


def read_chosen(form: Form, conditions: Conditions) -> Form | None:
    """sum[k](when(k == e, x)) -> x[{k: e}], e without k; where x has `...`, only once it is named"""
    if not isinstance(form, Reduce) or form.op == "argmax" or form.op in TOTAL_REDUCTIONS:
        return None
    match form.pieces:
        case (Piece(value=When(predicate=p, value=x), axes=axes),):
            parts = _parts(p)
            chosen = ((part, k, e) for part in parts for k, e in _equations(part) if k in axes)
            part, k, e = next(chosen, (None, None, None))
        case _:
            return None
    if part is None or k is None or e is None:
        return None
    rest = guarded(x, (each for each in parts if each != part))
    if k == BATCH and k in rest.axes:
        return None
    read = At(rest, ((k, e),), span=form.span) if k in rest.axes else guarded(rest, border(e, k))
    left = tuple(axis for axis in axes if axis != k)
    return replace(form, pieces=(Piece(spread(read, left), left),)) if left else read


def _parts(predicate: Form) -> list[Form]:
    """The predicates that an `&` joins."""
    found: list[Form] = []
    parts = [predicate]
    while parts:
        match parts.pop():
            case Map(op="and", args=(p, q)):
                parts += [q, p]
            case part:
                found.append(part)
    return found


def _equations(predicate: Form) -> list[tuple[Axis, Form]]:
    """(k, e) for a predicate `k == e` with e an integer without k."""
    match predicate:
        case Map(op="eq", args=(a, b)) if a.kind == b.kind == "int":
            sides = ((a, b), (b, a))
            return [(k.axis, e) for k, e in sides if isinstance(k, Coordinate) and k.axis not in e.axes]
        case _:
            return []


RULES: Mapping[type[Form], Sequence[Rule]] = {
    Map: (fold_constants, drop_units, drop_double_signs, drop_repeats, collect_terms, drop_implied),
    When: (join_predicates, drop_known_predicates, drop_masked_fallback),
    Otherwise: (drop_fallback,),
    At: (drop_identity, read_index, join_reads),
    Reduce: (drop_empty_reduction, sum_opposites, read_chosen),
}


def _simpler(program: Program) -> Program | None:
    made = rewrite_program(program, Rewriter(RULES, Conditions(optional_leaves(program))))
    return None if made is program else made


_simplified = Memo(_simpler)


def simplify(program: Program) -> Program:
    """The program with the rules of this module applied everywhere; the same object where idle. A gradient,
    the costs of its orders and its plan ask for it one after another."""
    made = _simplified(program)
    if made is None:
        return program
    _simplified.know(made, None)
    return made


def simplify_form(form: Form, conditions: Conditions | None = None) -> Form:
    """One form with the rules applied."""
    return Rewriter(RULES, conditions or Conditions())(form)
