"""Mixers called in mixers: the program is the one that writing the body out would give."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from plait import (
    Mixer,
    Program,
    axes,
    axis,
    bernoulli,
    buffer,
    draw,
    layer,
    mixer,
    mode,
    near,
    on_gradient,
    param,
    place,
    previous,
    require,
    scan,
    softmax,
    update,
    zeros,
)
from plait.dsl.elaboration.mixer import Mixer as LanguageMixer
from plait.dsl.mistakes import (
    AxisSizeMismatch,
    DuplicateParameter,
    InvalidArgument,
    UndeclaredAxis,
    UnknownAxis,
)
from plait.dsl.program import BATCH, Axis, Const, Leaf, OnGradient, Scan

b, c, d, e, h, m, n, t, w, y = axes("b c d e h m n t w y")


@mixer("q[..., n, d], k[..., m, d], v[..., m, d] -> o[..., n, d]")
def attention(q, k, v, *, scale: float = 1.0):
    return (softmax((q * k).sum(d) * scale, m) * v).sum(m)


@mixer("x[..., c, t] -> o[..., c, t]")
def window(x, *, radius: int = 1):
    k = near("k", radius)
    return (param("weight", c, k, also=("alias",)) * x[t + k]).sum(k) * (radius * 2)


@mixer("x[..., c] -> o[..., c]")
def centred(x):
    return x - x.mean(...)


@mixer("x[..., t], x0[...] -> o[..., t], last[...]")
def decay(x, x0):
    before = previous(t, init=x0)
    o = scan(before, before * 0.5 + x)
    return o, o.last


def same(called: Mixer, by_hand: Mixer) -> bool:
    """Whether two mixers have equal programs, their names aside."""
    return replace(by_hand.program(), name=called.name) == called.program()


def keys(program: Program) -> list[str]:
    return [declaration.leaf.name for declaration in (*program.parameters, *program.buffers, *program.draws)]


# --- what comes out


def test_axes_bind_by_identity() -> None:
    @mixer("q[b, n, d], k[b, m, d] -> o[b, n, d]")
    def called(q, k):
        return attention(q, k, k, scale=0.5)

    @mixer("q[b, n, d], k[b, m, d] -> o[b, n, d]")
    def by_hand(q, k):
        return (softmax((q * k).sum(d) * 0.5, m) * k).sum(m)

    assert same(called, by_hand)


def test_axes_bind_by_name_and_what_is_left_joins_the_batch() -> None:
    @mixer("x[..., h, t, e] -> o[..., h, t, e]")
    def called(x):
        s = t.like("s")
        return attention(x, x[{t: s}], v=x[{t: s}], axes={n: t, m: s, d: e})

    @mixer("x[..., h, t, e] -> o[..., h, t, e]")
    def by_hand(x):
        s = t.like("s")
        k = x[{t: s}]
        return (softmax((x * k).sum(e) * 1.0, s) * k).sum(s)

    assert same(called, by_hand)


def test_fresh_axes_and_keys_are_the_callees_own() -> None:
    @mixer("x[c, t] -> o[c, t]")
    def called(x):
        return window(window(x, name="a"), radius=2, name="b")

    @mixer("x[c, t] -> o[c, t]")
    def by_hand(x):
        i, j = near("k", 1), near("k", 2)
        x = (param("a.weight", c, i, also=("a.alias",)) * x[t + i]).sum(i) * 2
        return (param("b.weight", c, j, also=("b.alias",)) * x[t + j]).sum(j) * 4

    assert same(called, by_hand)
    assert keys(called.program()) == ["a.weight", "b.weight"]


def test_keys_without_a_name_are_spliced_and_taken_once() -> None:
    @mixer("x[c, t] -> o[c, t]")
    def spliced(x):
        return window(x)

    assert keys(spliced.program()) == ["weight"]
    with pytest.raises(DuplicateParameter, match="`weight` is declared twice"):

        @mixer("x[c, t] -> o[c, t]")
        def twice(x):
            return window(window(x))


def test_a_layer_around_a_mixer_prefixes_and_shares() -> None:
    @layer
    def wrapped(v):
        return window(v, name="inner")

    @mixer("x[c, t] -> o[c, t]")
    def f(x):
        again = wrapped.once(name="outer")
        return again(again(x))

    assert keys(f.program()) == ["outer.inner.weight"]


def test_scans_and_rules_are_bound_apart() -> None:
    @mixer("x[b, t] -> o[b, t]")
    def called(x):
        o, last = decay(x, zeros(b))
        o, last = decay(o, last)
        return o + last

    @mixer("x[b, t] -> o[b, t]")
    def by_hand(x):
        first = previous(t, init=zeros(b))
        o = scan(first, first * 0.5 + x)
        second = previous(t, init=o.last)
        o = scan(second, second * 0.5 + o)
        return o + o.last

    assert same(called, by_hand)
    scans = {form.carries[0].previous.name for form in called.program().forms if isinstance(form, Scan)}
    assert len(scans) == 2

    @mixer("x[c] -> o[c]")
    def marked(x):
        return on_gradient(x, lambda g: g * 2)

    @mixer("x[c] -> o[c]")
    def nested(x):
        return marked(on_gradient(marked(x), lambda g: g * 3))

    bound = [form.cotangent for form in nested.program().forms if isinstance(form, OnGradient)]
    assert len(set(bound)) == 3


def test_a_first_value_is_spread_over_the_axes_that_join() -> None:
    @mixer("x[b, t], x0 -> o[b, t]")
    def f(x, x0):
        return decay(x, x0)[0]

    (scanned,) = (form for form in f.program().forms if isinstance(form, Scan))
    assert set(scanned.carries[0].init.axes) == {Axis("b")}


def test_static_arguments_are_spelled_by_the_caller() -> None:
    @mixer("x[c, t] -> o[c, t]")
    def f(x, *, r: int = 3):
        return window(x, radius=r)

    @mixer("x[c, t] -> o[c, t]")
    def g(x):
        return window(x, radius=3)

    spelled = {form.written for form in f.program().forms if isinstance(form, Const)}
    assert "r * 2" in spelled
    assert {form.written for form in g.program().forms if isinstance(form, Const)} == {None}


def test_sizes_that_the_caller_knows_are_numbers_in_the_callee() -> None:
    @mixer("x[..., c] -> o[..., c]")
    def summed(x):
        return sum((x[{c: j}] for j in range(c.size)), x * 0)

    @mixer("x[..., e=3] -> o[..., e]")
    def by_header(x):
        return summed(x, axes={c: e})

    @mixer("x[t] -> o[t, k]")
    def by_axis(x):
        k = axis("k", 2)
        return summed(x[{t: k + t}].otherwise(0), axes={c: k})

    assert by_header.program().fixed == ((Axis("e"), 3),)
    assert by_axis.program().fixed == ()


def test_a_size_of_the_callee_is_required_of_the_caller() -> None:
    @mixer("x[c=4] -> o[c]")
    def four(x):
        return x * 2

    @mixer("x[c] -> o[c]")
    def f(x):
        return four(x)

    (required,) = f.program().requires
    assert repr(required.predicate) == "Map(op='eq', args=(Size(axis=c), Const(value=4, written=None)))"
    assert f.program(c=4).requires == ()
    with pytest.raises(AxisSizeMismatch, match="axis `c` has two sizes, "):
        f.program(c=5)


def test_state_requirements_and_draws_join_the_caller() -> None:
    @mixer("x[b, c] -> o[b, c]")
    def stateful(x):
        require(c.size % 2 == 0)
        mean = buffer("mean", c)
        if mode() == "train":
            update(mean, 0.5 * mean + x.mean(b))
            return x * draw("keep", b, dist=bernoulli(0.5))
        return x - mean

    @mixer("x[b, e] -> o[b, e]")
    def f(x):
        return stateful(stateful(x, name="first", axes={c: e}), name="second", axes={c: e})

    program = f.program(mode="train")
    assert keys(program) == ["first.mean", "second.mean", "first.keep", "second.keep"]
    assert [each.buffer.name for each in program.updates] == ["first.mean", "second.mean"]
    assert len(program.requires) == 1
    assert [axis.name for axis in program.buffers[0].leaf.over] == ["e"]


def test_an_optional_input_left_out() -> None:
    @mixer("x[c], g[c]? -> o[c]")
    def gated(x, g=None):
        return x if g is None else x * g

    @mixer("x[c] -> a[c], b[c], d[c]")
    def f(x):
        return gated(x), gated(x, None), gated(x, g=x)

    first, second, third = (output.value for output in f.program().outputs)
    assert first == second == Leaf("input", "x", (Axis("c"),))
    assert third != first


def test_a_fresh_axis_of_a_result_can_be_one_of_the_caller() -> None:
    oh = axes("oh")

    @mixer("x[..., h] -> o[..., oh]")
    def halved(x):
        rows = axis("oh", h.size // 2)
        return x[{h: 2 * rows}]

    @mixer("x[h] -> o[k]")
    def f(x):
        k = axis("k", h.size // 2)
        return halved(x, axes={oh: k})

    (output,) = f.program().outputs
    assert [axis.name for axis in output.value.axes] == ["k"]
    assert output.items[0][0].how == "axis"


def test_places_keep_the_batch() -> None:
    @mixer("x[..., t] -> o[..., n]")
    def spread(x):
        n = axis("n", 2 * t.size)
        return place(x, {n: 2 * t}).otherwise(0)

    @mixer("x[b, c, t] -> o[b, c, n]")
    def f(x):
        return spread(x)

    assert {axis.name for axis in f.program().outputs[0].value.axes} == {"b", "c", "n"}


# --- the batch


def test_a_callee_that_reduces_over_the_batch_takes_no_other_axis_silently() -> None:
    @mixer("x[..., c] -> o[..., c]")
    def passed(x):
        return centred(x)

    assert passed.program().outputs[0].value.axes == (BATCH, Axis("c"))
    with pytest.raises(UndeclaredAxis) as caught:

        @mixer("x[b, c] -> o[b, c]")
        def silent(x):
            return centred(x)

    assert "`centred` reduces over `...`, and axis `b` would join it" in str(caught.value)
    assert "help: say that it shall: `axes={...: (b,)}`" in str(caught.value)

    @mixer("x[b, t, c] -> o[b, t, c]")
    def called(x):
        return centred(x, axes={...: (b, t)})

    @mixer("x[b, t, c] -> o[b, t, c]")
    def by_hand(x):
        return x - x.mean(b, t)

    assert same(called, by_hand)


def test_every_argument_of_a_callee_that_reduces_over_the_batch_has_it() -> None:
    @mixer("x[..., c], g[..., c] -> o[..., c]")
    def pooled(x, g):
        return x + g.mean(...)

    with pytest.raises(UnknownAxis, match="the argument for `g` lacks `b`"):

        @mixer("x[b, c], g[c] -> o[b, c]")
        def f(x, g):
            return pooled(x, g, axes={...: b})


# --- what is refused


def refusal(header: str, call: str) -> str:
    """The message for a mixer whose body is one call."""
    names = re.findall(r"(\w+)\[", header.split("->")[0])
    scope = {**globals()}
    exec(f"def f({', '.join(names)}):\n    return {call}", scope)
    with pytest.raises(Exception) as caught:
        mixer(header)(scope["f"])
    return str(caught.value).split("\n")[0]


@pytest.mark.parametrize(
    ("header", "call", "message"),
    [
        ("q[n, d] -> o[n, d]", "attention(q, q, q)",
         "UnknownAxis: `k` of `attention` is over axis `m`, and the argument is not"),
        ("q[n, d], k[m, n, d] -> o[n, d]", "attention(q, k, k)",
         "UndeclaredAxis: axis `n` of the argument for `k` of `attention` is an axis of another input"),
        ("q[n, d], k[m, d] -> o[n, d]", "attention(q, k, k, axes={m: n})",
         "InvalidArgument: axes `n` and `m` of `attention` would both be `n`"),
        ("q[n, d], k[m, d] -> o[n, d]", "attention(q, k, k, axes={t: n})",
         "UnknownAxis: `attention` has no axis `t` to bind"),
        ("q[n, d], k[m, d] -> o[n, d]", "attention(q, k, k, axes={m: (m, t)})",
         "InvalidArgument: axis `m` of `attention` is bound to 2 axes"),
        ("q[n, d], k[m, d] -> o[n, d]", "attention(q, k)", "UnknownArgument: `attention` needs the input `v`"),
        ("q[n, d], k[m, d] -> o[n, d]", "attention(q, k, k, q=q)", "UnknownArgument: `attention` is given `q` twice"),
        ("q[n, d], k[m, d] -> o[n, d]", "attention(q, k, k, k)",
         "UnknownArgument: `attention` takes 3 inputs, and found 4"),
        ("q[n, d], k[m, d] -> o[n, d]", "attention(q, k, k, scal=2.0)",
         "UnknownArgument: `attention` has no argument `scal`"),
        ("q[n, d], k[m, d] -> o[n, d]", "attention(q, k, k > 0)",
         "KindMismatch: `v` of `attention` is real, and the argument is bool"),
        ("x[c, t] -> o[c, t]", "window(x, radius='2')",
         "InvalidArgument: `radius` of `window` is an int, and found str '2'"),
        ("x[c, t] -> o[c, t]", "window(x[{t: near('k', 1)}], axes={t: near('k', 1)})",
         "InvalidSize: axis `t` of `window` begins at 0, and `k` does not"),
        ("x[c, t] -> o[c, t]", "window(x, axes={'t': t})",
         '2 mistakes'),
    ],
)  # fmt: skip
def test_a_call_that_does_not_fit(header: str, call: str, message: str) -> None:
    assert refusal(header, call) == message


def test_an_axis_without_a_place() -> None:
    @mixer("x[c] -> o[c]")
    def closed(x):
        return x * 2

    with pytest.raises(UndeclaredAxis, match="axis `b` of the argument for `x` of `closed` has no "):

        @mixer("x[b, c] -> o[b, c]")
        def f(x):
            return closed(x)


def test_mistakes_of_the_callee_are_told_with_those_of_the_caller() -> None:
    @mixer("x[c] -> o[c]")
    def strict(x, *, k: int):
        return x.sum(d) if k else x

    with pytest.raises(UnknownAxis) as caught:

        @mixer("x[c] -> o[c]")
        def f(x):
            return strict(x, k=1) + x // 2

    assert str(caught.value).startswith("2 mistakes")
    assert "return x.sum(d) if k else x" in str(caught.value)


def test_a_callee_that_needs_a_size_waits_with_its_caller() -> None:
    @mixer("x[c] -> o[c]")
    def sized(x):
        return x if c.size > 2 else x * 2

    @mixer("x[c] -> o[c]")
    def f(x):
        return sized(x)

    assert f.program(c=3).outputs[0].value == Leaf("input", "x", (Axis("c"),))


def test_whole_numbers_may_stand_for_real_ones() -> None:
    @mixer("x[c] -> o[c]")
    def doubled(x):
        return x * 2.0

    @mixer("i[c]: int -> o[c]")
    def f(i):
        return doubled(i)

    assert f.program().outputs[0].value.kind == "real"


def test_a_call_without_values_is_the_faces() -> None:
    with pytest.raises(InvalidArgument, match="is called on int, and this class of mixers takes values only"):
        LanguageMixer(window.definition)(3)
