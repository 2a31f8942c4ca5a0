"""Rewrites keep the meaning: on random partial values, everywhere, and under the binders.

`tests/partial_forms.py` draws the forms. What each rule may not do is in `FORBIDDEN`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given, settings

from partial_forms import AXES, Grower, cases, dh, h, i, k
from partials import Bench, leaf, same, sized, union
from plait.compiler.gradient.gather import gather, place_to_reads
from plait.compiler.rewrites.affine import Affine, affine, known, normal
from plait.compiler.rewrites.conditions import Conditions
from plait.compiler.rewrites.rewrite import (
    free_axes,
    in_range,
    push_read,
    rebuild,
    rename,
    spread,
    substitute,
)
from plait.compiler.rewrites.simplify import RULES, Rewriter, simplify, simplify_form
from plait.dsl.constructors import build
from plait.dsl.program import (
    BATCH,
    AsIf,
    At,
    Const,
    Coordinate,
    Declaration,
    Form,
    Leaf,
    Map,
    OnGradient,
    Output,
    Piece,
    Place,
    Program,
    Reduce,
    Size,
    children,
    walk,
)
from plait.dsl.proofs.presence import conjunction
from plait.dsl.python.functions import axis, clamp, near, place, present, reflect, select, when
from plait.dsl.python.pointwise import exp, maximum, tanh
from plait.dsl.python.value import AxisValue, Value, form_of
from plait.dsl.shapes.sizes import axis_range

Case = tuple[Bench, Value]


def equal(bench: Bench, one: Form, other: Form) -> bool:
    return set(one.axes) == set(other.axes) and same(*bench.values(Value(one), Value(other)))


# --- laws of every form


@given(cases())
def test_simplify_keeps_the_meaning(case: Case) -> None:
    bench, value = case
    made = simplify_form(value.form)
    assert equal(bench, value.form, made)
    assert made.kind == value.form.kind
    assert simplify_form(made) is made


@given(cases())
def test_conditions_say_exactly_where_a_value_is_present(case: Case) -> None:
    bench, value = case
    condition = conjunction(Conditions().of(value.form))
    assert free_axes(condition) <= free_axes(value.form)
    mask, truth = bench.values(present(value), Value(condition))
    assert truth.present is None or bool(truth.present.all()), "a condition is total"
    assert same(mask, bench.values(Value(spread(condition, value.form.axes)))[0])


@given(st.data(), cases())
def test_a_pushed_read_is_the_read(data: st.DataObject, case: Case) -> None:
    bench, value = case
    grower = Grower(data.draw, bench)
    grower.count = 100
    chosen = [a for a in grower.axes_of(value) if data.draw(st.booleans())]
    indices = {each.axis: form_of(grower.index(each)) for each in chosen}
    read = build.at(value.form, indices)
    assert equal(bench, read, push_read(value.form, indices))


@given(st.data(), cases())
def test_a_renamed_value_is_the_read_of_its_copy(data: st.DataObject, case: Case) -> None:
    bench, value = case
    copies = {a: build.like_axis(a) for a in value.form.axes if data.draw(st.booleans())}
    read = build.at(value.form, {old: Coordinate(new) for old, new in copies.items()})
    assert equal(bench, read, rename(value.form, copies))


@given(cases())
def test_axes_are_swapped_all_at_once(case: Case) -> None:
    bench, value = case
    assume(h.axis in value.form.axes)
    copy = build.like_axis(h.axis)
    both = Map("add", (build.at(value.form, {h.axis: Coordinate(copy)}), value.form))
    assert equal(bench, both, rename(both, {h.axis: copy, copy: h.axis}))


@given(cases(), st.sampled_from(AXES))
def test_a_substituted_value_keeps_its_own_axes_free(case: Case, extra: AxisValue) -> None:
    """Every leaf x becomes x * (e + 3), also below binders of e: at each index of e that is the form with
    the number in its place."""
    bench, value = case
    leaves = [x for x in walk((value.form,)) if isinstance(x, Leaf) and x.kind == "real"]
    leaves = [x for x in leaves if extra.axis not in x.axes]
    assume(leaves and extra.axis not in value.form.axes)

    def scaled(number: Value | int) -> Form:
        return substitute(value.form, {x: (Value(x) * (number + 3)).form for x in leaves})

    everywhere = spread(scaled(extra + 0), (extra.axis,))
    for index in axis_range(extra.axis, bench.sizes):
        assert equal(bench, build.at(everywhere, {extra.axis: Const(index)}), scaled(index))


@given(cases())
def test_places_become_reads(case: Case) -> None:
    bench, value = case
    made = Rewriter({Place: (place_to_reads,)}, Conditions())(value.form)
    assert equal(bench, value.form, made)


@given(cases())
def test_what_is_not_changed_is_the_same_object(case: Case) -> None:
    form = case[1].form
    assert rebuild(form, children(form)) is form
    assert substitute(form, {}) is form
    assert rename(form, {}) is form
    assert substitute(form, {leaf("elsewhere", h).form: Const(0.0)}) is form


# --- the rules, each at the smallest form that it matches

Make = Callable[[Bench], Value]


def _kronecker_with_more(bench: Bench) -> Value:
    x, e = bench.partial("x", h, k), bench.whole("e", i, low=-1, high=4)
    return when((h == e) & (x > 0), x).sum(h, k)


def _implied_fallback(bench: Bench) -> Value:
    p = bench.mask("p", h)
    return when(p, bench.total("x", h)).otherwise(0.0) * when(p, bench.total("y", h))


def _implied_mask(bench: Bench) -> Value:
    p, q = bench.mask("p", h), bench.mask("q", h)
    return when(p, bench.total("x", h)) * when(p & q, bench.total("y", h))


RULE_EXAMPLES: dict[str, Make] = {
    "fold_constants": lambda b: Value(Map("add", (Const(2), Const(3)))) * b.partial("x", h),
    "drop_units: 1 * x": lambda b: 1 * b.partial("x", h),
    "drop_units: x * 1": lambda b: b.partial("x", h) * 1.0,
    "drop_units: x + 0": lambda b: b.partial("x", h) + 0,
    "drop_units: x / 1": lambda b: b.partial("x", h) / 1,
    "drop_units: p & true": lambda b: b.mask("p", h) & True,
    "drop_double_signs: --x": lambda b: Value(Map("neg", ((-b.partial("x", h)).form,))),
    "drop_double_signs: ~~p": lambda b: ~~b.mask("p", h),
    "drop_double_signs: x + -y": lambda b: b.partial("x", h) + -b.partial("y", h),
    "drop_double_signs: x - -y": lambda b: b.partial("x", h) - -b.partial("y", k),
    "drop_double_signs: x * -y": lambda b: b.partial("x", h) * -b.partial("y", k),
    "drop_double_signs: -x / y": lambda b: -b.partial("x", h) / b.partial("y", k),
    "drop_repeats": lambda b: (lambda p: p & p)(b.partial("x", h) > 0),
    "collect_terms": lambda b: when(h + 1 - dh + 2 > 2, b.partial("x", h)),
    "drop_implied: a fallback": _implied_fallback,
    "drop_implied: a mask": _implied_mask,
    "drop_known_predicates: true": lambda b: when(True, b.partial("x", h)),
    "drop_known_predicates: a border": lambda b: when((h + 1 < h.size) & b.mask("p", h), b.total("x", h)[h + 1]),
    "drop_known_predicates: present": lambda b: (lambda x: when(present(x), x * 2))(b.partial("x", h)),
    "join_predicates": lambda b: when(b.mask("p", h), when(b.mask("q", k), b.partial("x", h, k))),
    "drop_masked_fallback": lambda b: (lambda p: when(p, when(p, b.total("x", h)).otherwise(1.0)))(b.mask("p", h)),
    "drop_fallback: a total value": lambda b: exp(b.total("x", h)).otherwise(0.0),
    "drop_fallback: itself": lambda b: (lambda x: x.otherwise(x))(b.partial("x", h)),
    "drop_fallback: select over true": lambda b: select(True, b.partial("x", h), b.partial("y", h)),
    "drop_fallback: select over false": lambda b: select(False, b.partial("x", h), b.partial("y", h)),
    "drop_fallback: a window with its centre": lambda b: b.total("x", h)[h + dh].max(dh).otherwise(0.0),
    "drop_identity": lambda b: Value(At(b.partial("x", h, k).form, ((h.axis, h.form), (k.axis, (k - 1).form)))),
    "read_index": lambda b: b.partial("x", h) * (2 * h + 1)[{h: h + 1}],
    "join_reads": lambda b: b.partial("x", h)[h + 1][h - 1],
    "join_reads: a window of a window": lambda b: b.partial("x", h, k)[{h: h + dh}][{h: 2 * k, dh: i}],
    "join_reads: through data": lambda b: b.partial("x", h)[{h: b.whole("e", k, low=-1, high=4)}][{k: h + 1}],
    "drop_empty_reduction: sum": lambda b: union("sum", (b.partial("x", h), [])),
    "drop_empty_reduction: any": lambda b: union("any", (when(b.mask("p", h), b.mask("q", h)), [])),
    "drop_empty_reduction: all": lambda b: union("all", (when(b.mask("p", h), b.mask("q", h)), [])),
    "sum_opposites": lambda b: (-b.partial("x", h, k)).sum(h),
    "read_chosen": lambda b: when(h == k, b.partial("x", h)).sum(h),
    "read_chosen: more axes and conditions": _kronecker_with_more,
    "read_chosen: without the axis": lambda b: when(h == k + 2, b.partial("x", k)).max(h),
}  # fmt: skip
"""`rule: what` -> a form that the rule makes smaller."""


@pytest.mark.parametrize("example", RULE_EXAMPLES)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**16), size=st.integers(1, 4))
def test_a_rule_keeps_the_meaning(example: str, seed: int, size: int) -> None:
    bench = Bench(sized(h=size, k=3), seed)
    before = RULE_EXAMPLES[example](bench).form
    every = (rule for rules in RULES.values() for rule in rules)
    rule = next(each for each in every if each.__name__ == example.split(":")[0])
    after = simplify_form(before)
    assert after != before
    assert equal(bench, before, after)
    assert simplify_form(after) is after
    alone = Rewriter({each: [rule] for each, rules in RULES.items() if rule in rules}, Conditions())(before)
    assert alone != before, "the rule itself matches"
    assert equal(bench, before, alone)


def test_every_rule_has_an_example() -> None:
    named = {example.split(":")[0] for example in RULE_EXAMPLES}
    assert named == {rule.__name__ for rules in RULES.values() for rule in rules}


def test_a_rule_says_what_it_does() -> None:
    for rule in {rule for rules in RULES.values() for rule in rules}:
        assert " -> " in (rule.__doc__ or ""), rule.__name__


def nan(bench: Bench) -> Value:
    return bench.total("x", h) / 0.0 * 0.0


FORBIDDEN: dict[str, tuple[Make, Make]] = {
    "x - x is not 0": (lambda b: (lambda x: x - x)(b.partial("x", h)), lambda b: 0.0 * h),
    "0 * x is not 0": (lambda b: 0.0 * b.partial("x", h), lambda b: 0.0 * h),
    "select(p, a, a) is not a": (
        lambda b: (lambda x, a: select(x > 0, a, a))(b.partial("p", h), b.partial("a", h)),
        lambda b: (b.partial("p", h), b.partial("a", h))[1],
    ),
    "x.otherwise(y) is not x": (lambda b: b.partial("x", h).otherwise(0.0), lambda b: b.partial("x", h)),
    "sum(x + y) is not sum x + sum y": (
        lambda b: (b.partial("x", h, k) + b.partial("y", h, k)).sum(k),
        lambda b: b.partial("x", h, k).sum(k) + b.partial("y", h, k).sum(k),
    ),
    "when is no product": (
        lambda b: when(b.mask("p", h), b.total("x", h)),
        lambda b: select(b.mask("p", h), b.total("x", h), 0.0),
    ),
    "x[h+1][h-1] is not x": (lambda b: b.total("x", h)[h + 1][h - 1], lambda b: b.total("x", h)),
    "not (x < y) is not x >= y": (lambda b: ~(nan(b) < 0), lambda b: nan(b) >= 0),
}  # fmt: skip
"""Two forms that are different, and that no rule may make the same."""


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_differs_stays_different(name: str) -> None:
    one, other = FORBIDDEN[name]
    first, second = Bench(sized(h=4, k=3), 1), Bench(sized(h=4, k=3), 1)
    left, right = one(first).form, other(second).form
    assert not same(first.values(Value(left))[0], second.values(Value(right))[0])
    assert simplify_form(left) != simplify_form(right)


# --- binders


def test_a_bound_axis_does_not_catch_an_incoming_one() -> None:
    x = leaf("x", h, k)
    total = x.sum(k).form
    renamed = rename(total, {h.axis: k.axis})
    assert free_axes(renamed) == {k.axis}
    assert isinstance(renamed, Reduce) and renamed.pieces[0].axes != (k.axis,)
    y = leaf("y", h)
    grown = substitute(y.sum(h).form, {y.form: (leaf("z", h) * k).form})
    assert free_axes(grown) == {k.axis}
    caught = substitute(x.sum(k).form, {x.form: (leaf("z", h) * k).form})
    assert free_axes(caught) == {h.axis}, "an axis that the key has means what it meant"


def test_a_leaf_keeps_its_own_axes() -> None:
    x = leaf("x", h).form
    copy = build.like_axis(h.axis)
    assert rename(x, {h.axis: copy}) == At(x, ((h.axis, Coordinate(copy)),))
    assert rename(Size(h.axis), {h.axis: copy}) == Size(h.axis)


def test_a_place_keeps_what_comes_in() -> None:
    x, idx = leaf("x", h), leaf("idx", h, kind="int")
    put = place(x, {k: idx}, ()).form
    made = substitute(put, {x.form: (leaf("y", h, i)).form})
    assert free_axes(made) == {k.axis, i.axis}


def test_marks_and_their_leaves_are_rebuilt() -> None:
    x, y = leaf("x", h).form, leaf("y", h).form
    marked = AsIf(x, build.apply("mul", x, x))
    assert substitute(marked, {x: y}) == AsIf(y, build.apply("mul", y, y))
    bound = Leaf("bound", "g", (h.axis,))
    ruled = OnGradient(x, bound, build.apply("mul", bound, x))
    assert substitute(ruled, {x: y}) == OnGradient(y, bound, build.apply("mul", bound, y))


def test_nothing_recurses_on_depth() -> None:
    x = leaf("x", h)
    form = x.form
    for _ in range(5000):
        form = Map("neg", (Map("sin", (form,)),))
    other = leaf("y", h).form
    assert simplify_form(form) is form
    assert substitute(form, {x.form: other}).axes == (h.axis,)
    assert isinstance(rename(form, {h.axis: build.like_axis(h.axis)}), Map)
    assert Conditions().of(form) == ()
    window = x.form
    for step in range(2000):
        window = At(window, ((h.axis, (h + step % 3 - 1).form),))
    assert isinstance(push_read(window, {h.axis: (h + 1).form}), Form)


def test_programs_are_simplified_with_their_names() -> None:
    x = leaf("x", h)
    declared = (Declaration(x.form, ((h.axis,),)),)  # pyright: ignore[reportArgumentType]
    kept, gone = tanh(x), x * 1
    output = Output("y", (kept + gone).form, ((h.axis,),))
    program = Program("p", declared, (output,), names=(("kept", kept.form), ("gone", gone.form)))
    made = simplify(program)
    assert dict(made.names) == {"kept": kept.form, "gone": x.form}
    assert simplify(made) is made
    assert gather(made) is made


def test_an_optional_input_is_not_total() -> None:
    x = leaf("x", h)
    declared = Declaration(x.form, ((h.axis,),), optional=True)  # pyright: ignore[reportArgumentType]
    program = Program("p", (declared,), (Output("y", x.otherwise(0.0).form, ((h.axis,),)),))
    assert simplify(program) is program
    given_always = replace(program, inputs=(replace(declared, optional=False),))
    assert simplify(given_always).outputs[0].value == x.form


# --- index forms


def index_forms() -> st.SearchStrategy[Value]:
    leaves = st.sampled_from(
        [h + 0, k + 0, dh + 0, i + 0, Value(Size(h.axis)), Value(Const(2)), Value(Const(-1))]
    )

    def grown(inner: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
        pairs = st.tuples(inner, inner)
        return st.one_of(
            pairs.map(lambda p: p[0] + p[1]),
            pairs.map(lambda p: p[0] - p[1]),
            pairs.map(lambda p: p[0] * p[1]),
            inner.map(lambda e: -e),
            inner.map(lambda e: e // 2),
            inner.map(lambda e: e % Value(Size(k.axis))),
            pairs.map(lambda p: clamp(p[0], 0, p[1])),
        )

    return st.recursive(leaves, grown, max_leaves=8)


@given(index_forms(), st.integers(1, 5), st.integers(1, 4))
def test_normal_forms_and_affine_readings_are_equal(value: Value, n: int, m: int) -> None:
    bench = Bench(sized(h=n, k=m))
    form = value.form
    assert same(*bench.values(value, Value(spread(normal(form), form.axes))))
    assert normal(normal(form)) == normal(form)
    found = affine(form)
    assert found is not None
    whole = found.rest
    for each, coefficient in found.coefficients.items():
        assert not coefficient.axes
        whole = build.apply("add", whole, build.apply("mul", coefficient, Coordinate(each)))
    assert same(*bench.values(value, Value(spread(whole, form.axes))))


@given(index_forms(), index_forms(), st.sampled_from(["lt", "le", "gt", "ge", "eq"]))
def test_what_is_known_holds_for_all_sizes(one: Value, other: Value, op: str) -> None:
    predicate = Map(op, (one.form, other.form))
    if known(predicate):
        for n in (1, 2, 3, 5):
            for m in (1, 2, 4):
                (truth,) = Bench(sized(h=n, k=m)).values(Value(predicate))
                assert bool(truth.data.all())


def test_affine_reads_coefficients_and_sizes() -> None:
    def reading(value: Value) -> Affine:
        found = affine(value.form)
        assert found is not None
        return found

    assert reading(2 * h - dh + 1) == Affine({h.axis: Const(2), dh.axis: Const(-1)}, Const(1))
    flat = reading((h * k.size + k) * 3)
    assert flat.coefficients == {h.axis: (3 * Value(Size(k.axis))).form, k.axis: Const(3)}
    ids = leaf("ids", h, kind="int")
    mixed = reading(k + ids[h + 1])
    assert mixed.coefficients == {k.axis: Const(1)} and h.axis in mixed.rest.axes
    assert affine(leaf("x", h).form) is None
    partial = ids[h + 1]
    assert normal((partial - partial + 2).form).axes == (h.axis,), "what may be absent does not cancel"


def test_proofs() -> None:
    half = axis("half", Value(Size(h.axis)) // 2)
    assert in_range((2 * half + i).form, h.axis) == ()
    assert in_range(clamp(h + dh, 0, Value(Size(h.axis)) - 1).form, h.axis) == ()
    assert in_range(((h + dh) % h.size).form, h.axis) == ()
    assert len(in_range((h + dh).form, h.axis)) == 2
    assert known((h >= 0).form) and not known((h >= 1).form)
    assert not known(build.apply("gt", Size(BATCH), Const(0))), "a batch may be empty"


# --- place to reads

n3, s2, r2 = axis("n3", 3), axis("s2", 2), axis("r2", 2)
far = near("far", 2)
wide = axis("wide", 6)
hk = axis("hk", Value(Size(h.axis)) * Value(Size(k.axis)))


def placed(
    bench: Bench, over: list[AxisValue], indices: dict[AxisValue, object], keep: tuple[AxisValue, ...]
) -> Value:
    return place(bench.partial("y", *over), indices, keep)  # pyright: ignore[reportArgumentType]


GATHERED: dict[str, Make] = {
    "a shift": lambda b: placed(b, [h], {h: h + 1}, ()),
    "a window": lambda b: placed(b, [h, dh, k], {h: h + dh}, (k,)),
    "an offset window": lambda b: placed(b, [h, far], {wide: h + far - 1}, ()),
    "a flip": lambda b: placed(b, [h, k], {h: h.size - 1 - h}, (k,)),
    "a transpose": lambda b: placed(b, [h, k], {h: k, k: h}, ()),
    "a strided window": lambda b: placed(b, [h, dh], {wide: 2 * h + dh}, ()),
    "a stride alone": lambda b: placed(b, [h], {wide: 2 * h + 1}, ()),
    "a stride backwards": lambda b: placed(b, [h, k], {wide: 7 - 3 * h}, (k,)),
    "two strides": lambda b: placed(b, [h, k], {wide: 2 * h + 2 * k}, ()),
    "a constant": lambda b: placed(b, [h, k], {wide: Value(Const(3))}, (k,)),
    "a kept axis": lambda b: placed(b, [h, k], {wide: k + 1}, (k,)),
    "a merge": lambda b: placed(b, [h, k], {hk: h * k.size + k}, ()),
    "a merge of three": lambda b: placed(b, [n3, s2, k], {wide: (n3 * 2 + s2) * 1 + 0}, (k,)),
    "a split": lambda b: placed(b, [wide, k], {n3: wide // 2, s2: wide % 2}, (k,)),
    "half a split": lambda b: placed(b, [wide], {n3: wide // 2}, ()),
    "a pooled window": lambda b: placed(b, [n3, s2], {wide: 2 * n3 + s2}, ()),
    "a circle": lambda b: placed(b, [h, dh], {h: (h + dh) % h.size}, ()),
    "a circle backwards": lambda b: placed(b, [h, far, k], {h: (far - h) % h.size}, (k,)),
    "a clamp": lambda b: placed(b, [h, far], {h: clamp(h + far, 0, h.size - 1)}, ()),
    "a lower clamp": lambda b: placed(b, [h, far], {wide: maximum(h + far, 1)}, ()),
    "clamps of two axes": lambda b: placed(
        b, [h, k, dh], {h: clamp(h + dh, 0, h.size - 1), k: clamp(k - dh, 0, k.size - 1)}, ()
    ),
    "a clamp inside": lambda b: placed(b, [h, n3], {h: clamp(h - 1, 0, 2) + n3}, ()),
    "a clamp with crossed ends": lambda b: placed(b, [h, far], {h: clamp(h + far, 2, 1)}, ()),
    "data beside a window": lambda b: placed(b, [h, k, dh], {h: h + b.whole("e", k, low=-2, high=2)}, (k,)),
    "an axis that the value lacks": lambda b: placed(b, [k], {h: h + k}, ()),
    "an axis that the value lacks, kept": lambda b: placed(b, [h], {wide: h + k}, (k,)),
    "an axis that only the sum has": lambda b: placed(b, [h, k], {h: h + 1}, ()),
    "two equations with one axis": lambda b: placed(b, [h, dh], {h: h + dh, wide: dh + 2}, ()),
    "two equations": lambda b: placed(b, [h, k], {wide: h + k, k: h - k}, ()),
    "a reflection": lambda b: placed(b, [h, dh], {h: reflect(h + dh, h.size)}, ()),
}  # fmt: skip
STAYS: dict[str, Make] = {
    "data": lambda b: placed(b, [h], {h: b.whole("e", h, low=-1, high=4)}, ()),
}


@pytest.mark.parametrize("name", GATHERED | STAYS)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**16), sizes=st.tuples(st.integers(1, 5), st.integers(1, 4)))
def test_a_place_and_its_reads_are_equal(name: str, seed: int, sizes: tuple[int, int]) -> None:
    bench = Bench(sized(h=sizes[0], k=sizes[1]), seed)
    before = (GATHERED | STAYS)[name](bench).form
    after = Rewriter({Place: (place_to_reads,)}, Conditions())(before)
    assert any(isinstance(each, Place) for each in walk((after,))) == (name in STAYS)
    assert equal(bench, before, after)
    assert equal(bench, before, simplify_form(after))


def test_a_window_is_solved_for_the_query_and_a_stride_for_the_tap() -> None:
    y = leaf("y", h, dh)
    made = simplify_form(place_to_reads(place(y, {h: h + dh}, ()).form, Conditions()) or y.form)
    assert made == Reduce("sum", (Piece(build.at(y.form, {h.axis: (h - dh).form}), (dh.axis,)),))
    strided = simplify_form(place_to_reads(place(y, {wide: 2 * h + dh}, ()).form, Conditions()) or y.form)
    assert strided == Reduce("sum", (Piece(build.at(y.form, {dh.axis: (wide - 2 * h).form}), (h.axis,)),))
    merged = place_to_reads(place(leaf("y", h, k), {hk: h * k.size + k}, ()).form, Conditions())
    assert isinstance(merged, At), "the digits of a number need no sum"


def test_shifts_of_shifts_do_not_double() -> None:
    y = leaf("y", h, dh)
    for level in range(12):
        y = y + y[{h: h + 2**level}] + y[{dh: -dh}]
    made = Rewriter({Place: (place_to_reads,)}, Conditions())(place(y, {h: h + dh}, ()).form)
    assert len(tuple(walk((made,)))) < 3000
