"""The laws of language.md section 4 on random partial values, through the real forms.

`LAWS` are what a compiler may do: both sides are the same partial function, always. `NOT_LAWS` are
what it may not: for each a counter-example is found.
"""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import Phase, find, given, settings

from partials import Bench, same, sized, union
from plait.dsl.python.domains import softmax
from plait.dsl.python.functions import axes, axis, clamp, near, place, present, select, when
from plait.dsl.python.pointwise import exp, log, maximum
from plait.dsl.python.value import AxisValue, Value

h, k, j, i = axes("h k j i")
dh, big = near("dh", 1), near("big", 2)
Law = Callable[[Bench], tuple[Value, Value]]

benches = st.builds(
    lambda sizes, seed, density: Bench(sized(**dict(zip("hkji", sizes, strict=True))), seed, density),
    st.tuples(*(st.integers(1, 4) for _ in "hkji")),
    st.integers(0, 2**31),
    st.sampled_from([0.6, 0.0, 0.3, 0.9, 1.0]),
)


def skip_add(a: Value, b: Value) -> Value:
    """The sum of what is present."""
    return (a + b).otherwise(a).otherwise(b)


def inside(index: Value, axis: AxisValue) -> Value:
    """`index in R(axis)`."""
    return (index >= 0) & (index < axis.size)


def stable(s: Value) -> Value:
    """exp of s less its largest entry, as a streaming softmax keeps it."""
    return exp(s - s.max(k))


SEARCH = settings(max_examples=500, database=None, derandomize=True, deadline=None, phases=[Phase.generate])


# --- may


def reductions_merge(op: str) -> Law:
    def law(bench: Bench) -> tuple[Value, Value]:
        x = bench.partial("x", h, k)
        nested = union(op, (union(op, (x, [k])), [h]))
        return nested, union(op, (x, [h, k]))

    return law


def truth_merges(op: str) -> Law:
    def law(bench: Bench) -> tuple[Value, Value]:
        x = when(bench.mask("p", h, k), bench.mask("x", h, k))
        return union(op, (union(op, (x, [k])), [h])), union(op, (x, [h, k]))

    return law


def sum_splits(bench: Bench) -> tuple[Value, Value]:
    x, p = bench.partial("x", h, k), bench.mask("p", h, k)
    return x.sum(k), skip_add(when(p, x).sum(k), when(~p, x).sum(k))


def union_is_skip_add(bench: Bench) -> tuple[Value, Value]:
    x, y = bench.partial("x", h, k), bench.partial("y", h, j)
    return union("sum", (x, [k]), (y, [j])), skip_add(x.sum(k), y.sum(j))


def lse_splits(bench: Bench) -> tuple[Value, Value]:
    x, p = bench.partial("x", h, k), bench.mask("p", h, k)
    first, second = when(p, x).lse(k), when(~p, x).lse(k)
    top = maximum(first, second)
    joined = top + log(exp(first - top) + exp(second - top))
    return x.lse(k), joined.otherwise(first).otherwise(second)


def factor_leaves_sum(bench: Bench) -> tuple[Value, Value]:
    c, x = bench.partial("c", h), bench.partial("x", h, k)
    return c * x.sum(k), (c * x).sum(k)


def contractions_reassociate(bench: Bench) -> tuple[Value, Value]:
    a, b, v = bench.partial("a", i, k), bench.partial("b", k, j), bench.partial("v", j)
    return ((a * b).sum(k) * v).sum(j), (a * (b * v).sum(j)).sum(k)


def when_passes(op: str) -> Law:
    def law(bench: Bench) -> tuple[Value, Value]:
        p, x = bench.mask("p", h), bench.partial("x", h, k)
        return when(p, union(op, (x, [k]))), union(op, (when(p, x), [k]))

    return law


def when_passes_map(bench: Bench) -> tuple[Value, Value]:
    p, x, y = bench.mask("p", h), bench.partial("x", h, k), bench.partial("y", k)
    return when(p, x * y), when(p, x) * y


def whens_merge(bench: Bench) -> tuple[Value, Value]:
    p, q, x = bench.mask("p", h), bench.mask("q", h, k), bench.partial("x", k)
    return when(p, when(q, x)), when(p & q, x)


def read_passes_map(bench: Bench) -> tuple[Value, Value]:
    x, y = bench.partial("x", h, k), bench.partial("y", h)
    return (x * y)[{h: h + 1}], x[{h: h + 1}] * y[{h: h + 1}]


def read_passes_map_with_lone_operand(bench: Bench) -> tuple[Value, Value]:
    x, y = bench.partial("x", h), bench.partial("y", k)
    return (x * y)[{h: h + 1}], x[{h: h + 1}] * y


def read_passes_when(bench: Bench) -> tuple[Value, Value]:
    p, x = bench.mask("p", h), bench.partial("x", h, k)
    return when(p, x)[{h: 2 * h}], when(p[{h: 2 * h}], x[{h: 2 * h}])


def read_passes_reduction(op: str) -> Law:
    def law(bench: Bench) -> tuple[Value, Value]:
        x, e = bench.partial("x", h, k), bench.whole("e", i, low=-1, high=4)
        return union(op, (x, [k]))[{h: e}], union(op, (x[{h: e}], [k]))

    return law


def read_passes_softmax(bench: Bench) -> tuple[Value, Value]:
    x = bench.partial("x", h, k)
    return softmax(x, k)[{h: h - 1}], softmax(x[{h: h - 1}], k)


def read_passes_count_with_guard(bench: Bench) -> tuple[Value, Value]:
    x = bench.partial("x", h, k)
    return x.count(k)[{h: h + 1}], when(inside(h + 1, h), x[{h: h + 1}].count(k))


def read_passes_otherwise_with_guard(bench: Bench) -> tuple[Value, Value]:
    x, y = bench.partial("x", h), bench.partial("y", h)
    e = h + 1
    return x.otherwise(y)[{h: e}], when(inside(e, h), x[{h: e}].otherwise(y[{h: e}]))


def read_passes_coordinate_with_guard(bench: Bench) -> tuple[Value, Value]:
    return (h * h)[{h: h + 1}], when(inside(h + 1, h), (h + 1) * (h + 1))


def read_passes_constant_with_guard(bench: Bench) -> tuple[Value, Value]:
    ones = when(h >= 0, 1.0)
    return ones[{h: 2 * h}], when(inside(2 * h, h), 1.0)


def reads_fuse_with_guard(bench: Bench) -> tuple[Value, Value]:
    x, e = bench.partial("x", h), bench.whole("e", h, low=-2, high=5)
    return x[{h: e}][{h: h - 1}], when(inside(h - 1, h), x[{h: e[{h: h - 1}]}])


def reads_are_simultaneous(bench: Bench) -> tuple[Value, Value]:
    x, t = bench.partial("x", h, k), axis("t", h.size)
    return x[{h: k, k: h}], x[{h: t}][{k: h}][{t: k}]


def biased_producer_inlines(bench: Bench) -> tuple[Value, Value]:
    b, w, x = bench.total("b"), bench.total("w", k), bench.partial("x", h, k)
    e = h + dh
    return (b + (w * x).sum(k))[{h: e}], b + (w * x[{h: e}]).sum(k)


def window_producer_inlines_with_guard(bench: Bench) -> tuple[Value, Value]:
    x = bench.partial("x", h)
    return x[{h: h + dh}].sum(dh)[{h: h + 1}], when(inside(h + 1, h), x[{h: h + dh + 1}].sum(dh))


def kronecker(bench: Bench) -> tuple[Value, Value]:
    x, e = bench.partial("x", h, k), bench.whole("e", h, i, low=-1, high=4)
    return when(k == e, x).sum(k), x[{k: e}]


def place_is_a_sum_of_kroneckers(bench: Bench) -> tuple[Value, Value]:
    y, e = bench.partial("y", h, i), bench.whole("e", i, low=-1, high=4)
    return place(y, {k: e}), when(k == e, y).sum(i)


def place_keeps(bench: Bench) -> tuple[Value, Value]:
    y, e = bench.partial("y", h, i), bench.whole("e", h, i, low=-1, high=4)
    return place(y, {k: e}, keep=(h,)), when(k == e, y).sum(i)


def place_of_a_shift_is_a_read(bench: Bench) -> tuple[Value, Value]:
    y = bench.partial("y", h, i)
    return place(y, {k: i + 1}), y[{i: k - 1}]


def place_of_a_flip_is_a_read(bench: Bench) -> tuple[Value, Value]:
    y = bench.partial("y", h, i)
    return place(y, {k: 2 - i}), y[{i: 2 - k}]


def place_of_a_window_is_a_read(bench: Bench) -> tuple[Value, Value]:
    y = bench.partial("y", i, dh)
    return place(y, {k: 2 * i + dh}), y[{dh: k - 2 * i}].sum(i)


def place_of_a_stride_is_a_read(bench: Bench) -> tuple[Value, Value]:
    y = bench.partial("y", h, i)
    return place(y, {k: 2 * i + 1}), when((k - 1) % 2 == 0, y[{i: (k - 1) // 2}])


def place_of_a_clamp_is_a_read_and_two_borders(bench: Bench) -> tuple[Value, Value]:
    y, e = bench.partial("y", h, i), clamp(i - 1, 0, k.size - 1)
    interior = y[{i: k + 1}]
    low = when(k == 0, when(i - 1 < 0, y).sum(i))
    high = when(k == k.size - 1, when(i - 1 > k.size - 1, y).sum(i))
    return place(y, {k: e}), skip_add(skip_add(interior, low), high)


def at_and_place_are_adjoint(index: Callable[[Bench], Value]) -> Law:
    def law(bench: Bench) -> tuple[Value, Value]:
        x, g, e = bench.partial("x", k, j), bench.partial("g", i, j), index(bench)
        return (x[{k: e}] * g).sum(i, j), (place(g, {k: e}) * x).sum(k, j)

    return law


def kernel_extends_by_zero(bench: Bench) -> tuple[Value, Value]:
    w, x = bench.total("w", dh), bench.total("x", h)
    wide = w[{dh: big}].otherwise(0.0) * x[{h: h + big}]
    return (w * x[{h: h + dh}]).sum(dh), wide.sum(big)


def stencils_merge(bench: Bench) -> tuple[Value, Value]:
    a, b, x = bench.total("a", dh), bench.total("b", big), bench.total("x", h)
    apart = (a * x[{h: h + dh}]).sum(dh) + (b * x[{h: h + big}]).sum(big)
    return apart, ((a[{dh: big}].otherwise(0.0) + b) * x[{h: h + big}]).sum(big)


def map_passes_otherwise(bench: Bench) -> tuple[Value, Value]:
    x, y, z = bench.partial("x", h), bench.partial("y", k), bench.partial("z", h)
    return x.otherwise(y) * z, (x * z).otherwise(y * z)


def otherwise_associates(bench: Bench) -> tuple[Value, Value]:
    x, y, z = bench.partial("x", h), bench.partial("y", h), bench.partial("z", k)
    return x.otherwise(y.otherwise(z)), x.otherwise(y).otherwise(z)


def softmax_streams(bench: Bench) -> tuple[Value, Value]:
    s, v = bench.partial("s", h, k), bench.partial("v", h, k)
    return (softmax(s, k) * v).sum(k), (stable(s) * v).sum(k) / stable(s).sum(k)


def softmax_is_its_union(bench: Bench) -> tuple[Value, Value]:
    s, p = bench.partial("s", h, k), bench.mask("p", h, k)
    norm = union("lse", (when(p, s), [k]), (when(~p, s), [k]))
    return softmax(s, k), exp(s - norm)


def scalars_join_a_union(bench: Bench) -> tuple[Value, Value]:
    x, y = bench.partial("x", h, k), bench.partial("y", h)
    return union("max", (x, [k]), (y, [])), maximum(x.max(k), y).otherwise(x.max(k)).otherwise(y)


def argmax_finds_the_maximum(bench: Bench) -> tuple[Value, Value]:
    x = bench.partial("x", h, k, j)
    first, second = x.argmax(k, j)
    return x[{k: first, j: second}], x.max(k, j)


def minimum_is_the_negated_maximum(bench: Bench) -> tuple[Value, Value]:
    x = bench.partial("x", h, k)
    return x.min(k), -((-x).max(k))


def read_refines_nothing(bench: Bench) -> tuple[Value, Value]:
    """A read at every index in turn is the value."""
    x, t = bench.partial("x", h), axis("t", h.size)
    return x[{h: t}][{t: h}], x


def refining_passes(around: Callable[[Value], Value]) -> Law:
    """Making x present in more places makes `around(x)` present in more places, and changes nothing
    where it was present already."""

    def law(bench: Bench) -> tuple[Value, Value]:
        x = bench.partial("x", h, k)
        refined = around(x.otherwise(bench.total("r", h, k)))
        return around(x).otherwise(refined), refined

    return law


LAWS: dict[str, Law] = {
    **{
        f"{op} over h of {op} over k = {op} over both": reductions_merge(op)
        for op in ["sum", "prod", "max", "min", "lse"]
    },
    **{f"{op} over h of {op} over k = {op} over both": truth_merges(op) for op in ("any", "all")},
    "a sum splits over a disjoint union": sum_splits,
    "a union sum is the skip-add of its pieces": union_is_skip_add,
    "lse splits over a disjoint union": lse_splits,
    "c * sum x = sum c*x": factor_leaves_sum,
    "(A B) v = A (B v)": contractions_reassociate,
    **{
        f"when(p, {op} x) = {op} when(p, x)": when_passes(op)
        for op in ["sum", "prod", "max", "min", "lse", "argmax"]
    },
    "when(p, x*y) = when(p, x) * y": when_passes_map,
    "when(p, when(q, x)) = when(p & q, x)": whens_merge,
    "a read of a map reads the operands": read_passes_map,
    "a read of a map leaves operands without the axis": read_passes_map_with_lone_operand,
    "a read of when": read_passes_when,
    **{f"a read of {op}": read_passes_reduction(op) for op in ["sum", "prod", "max", "min", "lse", "argmax"]},
    "a read of softmax": read_passes_softmax,
    "a read of count, with the guard": read_passes_count_with_guard,
    "a read of otherwise, with the guard": read_passes_otherwise_with_guard,
    "a read of a coordinate, with the guard": read_passes_coordinate_with_guard,
    "a read of a constant, with the guard": read_passes_constant_with_guard,
    "a read of a read, with the guard": reads_fuse_with_guard,
    "a read replaces all axes at once": reads_are_simultaneous,
    "a biased producer inlines into a read": biased_producer_inlines,
    "a window producer inlines with the guard": window_producer_inlines_with_guard,
    "sum when(k == e, x) = x at e": kronecker,
    "place is a sum of Kroneckers": place_is_a_sum_of_kroneckers,
    "place keeps what it is told to": place_keeps,
    "place of a shift": place_of_a_shift_is_a_read,
    "place of a flip": place_of_a_flip_is_a_read,
    "place of a strided window": place_of_a_window_is_a_read,
    "place of a stride": place_of_a_stride_is_a_read,
    "place of a clamp": place_of_a_clamp_is_a_read_and_two_borders,
    "at and place are adjoint: shift": at_and_place_are_adjoint(lambda bench: i + 1),
    "at and place are adjoint: stride": at_and_place_are_adjoint(lambda bench: 2 * i - 1),
    "at and place are adjoint: clamp": at_and_place_are_adjoint(lambda bench: clamp(i - 1, 0, k.size - 1)),
    "at and place are adjoint: data": at_and_place_are_adjoint(
        lambda bench: bench.whole("e", i, low=-1, high=4)
    ),
    "a kernel extends by zero": kernel_extends_by_zero,
    "two stencils with full windows merge": stencils_merge,
    "f(x otherwise y, z) = f(x, z) otherwise f(y, z)": map_passes_otherwise,
    "otherwise associates": otherwise_associates,
    "a softmax and its contraction stream": softmax_streams,
    "softmax under one normaliser": softmax_is_its_union,
    "a piece without axes joins a union": scalars_join_a_union,
    "the value at argmax is max": argmax_finds_the_maximum,
    "min x = -max -x": minimum_is_the_negated_maximum,
    "reading every index changes nothing": read_refines_nothing,
    "refining passes a map": refining_passes(lambda x: x * x + h),
    "refining passes a read": refining_passes(lambda x: x[{h: h + 1, k: 2 * k}]),
    "refining passes when": refining_passes(lambda x: when(h != k, x)),
}


def holds(law: Law, bench: Bench) -> bool:
    """Whether both sides are one partial function, on the values that the bench gives first."""
    fresh = bench.again()
    return same(*fresh.values(*law(fresh)))


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
@given(bench=benches)
def test_a_compiler_may(law: Law, bench: Bench) -> None:
    assert holds(law, bench)


# --- may not


def sum_of_a_sum(bench: Bench) -> tuple[Value, Value]:
    x, y = bench.partial("x", h, k), bench.partial("y", h, k)
    return (x + y).sum(k), x.sum(k) + y.sum(k)


def mean_of_means(bench: Bench) -> tuple[Value, Value]:
    x = bench.partial("x", h, k)
    return x.mean(k).mean(h), x.mean(h, k)


def strict_addition_of_parts(bench: Bench) -> tuple[Value, Value]:
    x, p = bench.partial("x", h, k), bench.mask("p", h, k)
    return x.sum(k), when(p, x).sum(k) + when(~p, x).sum(k)


def difference_of_equals(bench: Bench) -> tuple[Value, Value]:
    x = bench.partial("x", h)
    return x - x, 0.0 * bench.total("zero", h)


def zero_times(bench: Bench) -> tuple[Value, Value]:
    x = bench.partial("x", h)
    return 0.0 * x, 0.0 * bench.total("zero", h)


def zero_times_under_a_sum(bench: Bench) -> tuple[Value, Value]:
    x = bench.partial("x", h, k)
    return (0.0 * x).sum(k), 0.0 * bench.total("zero", h)


def select_of_equals(bench: Bench) -> tuple[Value, Value]:
    p, a = when(bench.mask("there", h), bench.mask("p", h)), bench.total("a", h)
    return select(p, a, a), a


def otherwise_of_a_partial(bench: Bench) -> tuple[Value, Value]:
    x, y = bench.partial("x", h), bench.total("y", h)
    return x.otherwise(y), x


def mask_as_product(bench: Bench) -> tuple[Value, Value]:
    x, p = bench.total("x", h, k), bench.mask("p", h, k)
    return when(p, x).sum(k), (select(p, 1.0, 0.0) * x).sum(k)


def mask_as_product_with_nan(bench: Bench) -> tuple[Value, Value]:
    """The row is not empty, and the product still passes what `when` never looks at."""
    x, p = log(bench.total("x", h, k)), bench.mask("p", h, k) | (k == 0)
    return when(p & (x == x), x).sum(k).otherwise(0.0), (select(p & (x == x), 1.0, 0.0) * x).sum(k)


def mask_as_large_negative(bench: Bench) -> tuple[Value, Value]:
    s, p, v = bench.total("s", h, k), bench.mask("p", h, k), bench.total("v", k)
    masked = (softmax(when(p, s), k) * v).sum(k)
    return masked.otherwise(0.0), (softmax(select(p, s, -1e9), k) * v).sum(k)


def zero_extension_of_nan(bench: Bench) -> tuple[Value, Value]:
    w, x = bench.total("w", dh), log(bench.total("x", h))
    wide = w[{dh: big}].otherwise(0.0) * x[{h: h + big}]
    return (w * x[{h: h + dh}]).sum(dh), wide.sum(big)


def stencils_with_an_empty_window(bench: Bench) -> tuple[Value, Value]:
    a, b, x = bench.total("a", dh), bench.total("b", big), bench.total("x", h)
    first = (a * x[{h: h + dh + 2}]).sum(dh)
    merged = ((a[{dh: big}].otherwise(0.0) + b) * x[{h: h + big + 2}]).sum(big)
    return first + (b * x[{h: h + big + 2}]).sum(big), merged


def reads_fuse_bare(bench: Bench) -> tuple[Value, Value]:
    """R(h) is not known to hold h - 1 because a later read is guarded."""
    x = bench.total("x", h)
    return x[{h: h + 1}][{h: h - 1}], x[{h: h - 1 + 1}]


def coordinate_read_bare(bench: Bench) -> tuple[Value, Value]:
    return (1 * h)[{h: h + 1}], h + 1


def count_read_bare(bench: Bench) -> tuple[Value, Value]:
    x = bench.partial("x", h, k)
    return x.count(k)[{h: h + 1}], x[{h: h + 1}].count(k)


def otherwise_read_bare(bench: Bench) -> tuple[Value, Value]:
    x = bench.partial("x", h)
    return x.otherwise(0.0)[{h: h + 1}], x[{h: h + 1}].otherwise(0.0)


def window_producer_bare(bench: Bench) -> tuple[Value, Value]:
    x = bench.total("x", h)
    return x[{h: h + dh}].sum(dh)[{h: h + 1}], x[{h: h + dh + 1}].sum(dh)


def softmax_as_zero(bench: Bench) -> tuple[Value, Value]:
    """Absent weights are not 0: a row without keys is not present."""
    s = bench.partial("s", h, k)
    return softmax(s, k).sum(k), softmax(s, k).otherwise(0.0).sum(k)


def read_of_zeroed_softmax(bench: Bench) -> tuple[Value, Value]:
    s, e = bench.partial("s", h, k), h + 1
    return softmax(s, k).otherwise(0.0)[{h: e}], softmax(s[{h: e}], k).otherwise(0.0)


def refining_below(around: Callable[[Value], Value]) -> Law:
    """x made present in more places, and `around` of it changed where it was present already."""

    def law(bench: Bench) -> tuple[Value, Value]:
        x = bench.partial("x", h, k)
        refined = around(x.otherwise(bench.total("r", h, k)))
        return around(x).otherwise(refined), refined

    return law


NOT_LAWS: dict[str, Law] = {
    "sum(x + y) = sum x + sum y": sum_of_a_sum,
    "mean mean = mean": mean_of_means,
    "partial sums add strictly": strict_addition_of_parts,
    "x - x = 0": difference_of_equals,
    "0 * x = 0": zero_times,
    "0 * x = 0 under a sum": zero_times_under_a_sum,
    "select(p, a, a) = a": select_of_equals,
    "x otherwise y = x": otherwise_of_a_partial,
    "when is a product with a mask": mask_as_product,
    "when is a product with a mask, rows not empty": mask_as_product_with_nan,
    "when is -1e9 before a softmax": mask_as_large_negative,
    "a kernel extends by zero over NaN": zero_extension_of_nan,
    "stencils merge where a window may be empty": stencils_with_an_empty_window,
    "reads fuse without the guard": reads_fuse_bare,
    "a coordinate is read without the guard": coordinate_read_bare,
    "a count is read without the guard": count_read_bare,
    "an otherwise is read without the guard": otherwise_read_bare,
    "a window producer inlines without the guard": window_producer_bare,
    "a softmax is 0 where it skips": softmax_as_zero,
    "a zeroed softmax commutes with a read": read_of_zeroed_softmax,
    **{
        f"refining below {op}": refining_below(lambda x, op=op: union(op, (x, [k])))
        for op in ["sum", "prod", "max", "lse", "count", "argmax"]
    },
    "refining below min": refining_below(lambda x: x.min(k)),
    "refining below mean": refining_below(lambda x: x.mean(k)),
    "refining below otherwise": refining_below(lambda x: x.otherwise(7.0)),
    "refining below present": refining_below(present),
}


@pytest.mark.parametrize("law", NOT_LAWS.values(), ids=NOT_LAWS.keys())
def test_a_compiler_may_not(law: Law) -> None:
    found = find(benches, lambda bench: not holds(law, bench), settings=SEARCH)
    assert not holds(law, found)
