"""One program in two spellings: a Python function and a text give equal programs, form by form."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import test_python_programs
from plait import (
    Mixer,
    PlaitError,
    as_if,
    axes,
    axis,
    bernoulli,
    buffer,
    cases,
    cat,
    cdiv,
    clamp,
    draw,
    exp,
    fft,
    floor,
    ifft,
    irfft,
    jvp,
    layer,
    maximum,
    minimum,
    mixer,
    mode,
    near,
    on_gradient,
    param,
    place,
    present,
    previous,
    re,
    reflect,
    relu,
    require,
    rfft,
    scan,
    select,
    sigmoid,
    softmax,
    solve,
    sort_indices,
    span,
    sqrt,
    stop,
    topk_indices,
    trunc_normal,
    trust,
    union,
    update,
    vjp,
    when,
    zeros,
)
from plait.dsl.elaboration.elaborate import elaborate
from plait.dsl.elaboration.text_mixers import TextDefinition, parse_mixers
from plait.dsl.mistakes import InvalidSyntax, UnknownAxis
from plait.dsl.text.parse import parse_text

b, c, d, h, m, n, t, w, z = axes("b c d h m n t w z")

Pair = tuple[str, Callable[..., Any], str]
PAIRS: list[Pair] = []


def pair(header: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A function and the body of the text that says the same; statics stand in the text's header."""

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        PAIRS.append((header, function, textwrap.dedent(text)))
        return function

    return noted


@pair(
    "q[..., h, w, d], k[..., h, w, d], v[..., h, w, d] ; radius = 8 -> o[..., h, w, d]",
    """
  near dh, dw: radius
  s = sum[d](q * k[h+dh, w+dw]) * size(d) ** -0.5
  p = softmax[dh, dw | dh*dh + dw*dw < radius*radius](s)
  o = sum[dh, dw](p * v[h+dh, w+dw])
""",
)
def circular_attention(q, k, v, *, radius: int = 8):
    dh, dw = near("dh dw", radius)
    s = (q * k[h + dh, w + dw]).sum(d) * d.size**-0.5
    p = softmax(s, over=(dh, dw), where=dh * dh + dw * dw < radius * radius)
    return (p * v[h + dh, w + dw]).sum(dh, dw)


@pair("x[..., h] -> o[..., h]", "o = select(h % 2 == 0, -x[h+1] otherwise 0, x[h: h - 1] otherwise 0)")
def select_and_otherwise(x):
    return select(h % 2 == 0, (-x[h + 1]).otherwise(0), x[{h: h - 1}].otherwise(0))


@pair(
    "x[h, w] -> o[h, w]",
    """
  require size(h) == size(w)
  o = x[h: w, w: h] + x[h: reflect(h - 3, size(h))] + x[w: clamp(w + 1, 0, size(w) - 1)]
""",
)
def reads(x):
    require(h.size == w.size)
    return x[{h: w, w: h}] + x[{h: reflect(h - 3, h.size)}] + x[{w: clamp(w + 1, 0, w.size - 1)}]


@pair(
    "x[h, d] -> o[h]",
    """
  o = (sum[d](x) + prod[d](x) * mean[d](x) - max[d](x) / min[d](x) + lse[d](x) + count[d | d > 0](x)
      + select(any[d](x > 0) & all[d](x < 1) | ~(h == 0), 1, 0))
""",
)
def reductions(x):
    total = x.sum(d) + x.prod(d) * x.mean(d) - x.max(d) / x.min(d) + x.lse(d) + x.count(d, where=d > 0)
    return total + select((x > 0).any(d) & (x < 1).all(d) | ~(h == 0), 1, 0)


@pair("x[b, h, w] -> i[b]: int, j[b]: int", "i, j = argmax[h, w](x)")
def argmax(x):
    return x.argmax(h, w)


@pair(
    "s[b, t], u[b, h, w] -> o[b]",
    "o = sum[t; h, w](s * exp(s - lse[t; h, w](s, u)), u * exp(u - lse[t; h, w](s, u)))",
)
def unions(s, u):
    p, q = softmax(union((s, t), (u, (h, w))))
    return union((s * p, t), (u * q, (h, w))).sum()


@pair(
    "x[b, c, h] -> o[b, c, h]",
    """
  near k: 1
  param weight[c, 1, k] = "conv.weight" init trunc_normal(0.02) frozen also "tied.weight"
  param bias[c] = "conv.bias"
  o = sum[k](weight * x[h+k]) + bias
""",
)
def convolution(x):
    k = near("k", 1)
    weight = param("conv.weight", c, 1, k, init=trunc_normal(0.02), grad=False, also=("tied.weight",))
    return (weight * x[h + k]).sum(k) + param("conv.bias", c)


@pair(
    "x[b, c] -> o[b, c]",
    """
  like j: c
  param weight[c, j]
  o = sum[j](weight * x[c: j])
""",
)
def linear(x):
    j = c.like()
    return (param("weight", c, j) * x[{c: j}]).sum(j)


@pair(
    "x[..., t, c] -> o[..., t, c], final[..., c]",
    """
  previous p[t] = zeros(..., c)
  o = scan[t](p: sigmoid(x) * p + x)
  final = last(o)
""",
)
def scans(x):
    p = previous(t, init=zeros(..., c))
    o = scan(p, sigmoid(x) * p + x)
    return o, o.last


@pair(
    "x[t] -> o[t]",
    """
  previous p[t] = 0.0
  previous q[t] = 1.0
  o = scan[reverse t: q until p > 10](p: q, q: p + x)
""",
)
def tuple_scans(x):
    p, q = previous(t, init=(0.0, 1.0), reverse=True)
    return scan((p, q), (q, p + x), until=p > 10)[1]


@pair(
    "x[c=8], y[d=4] -> o[n]",
    """
  axis n: 12
  o = cat[c, d -> n](x, y)
""",
)
def cats(x, y):
    n = axis("n", 12)
    return cat(n, (x, c), (y, d))


@pair(
    "x[b, t] -> o[b, n]",
    """
  axis n: 2 * size(t)
  o = place(x, n: 2 * t) otherwise 0
""",
)
def places(x):
    n = axis("n", 2 * t.size)
    return place(x, {n: 2 * t}).otherwise(0)


@pair(
    "x[b, c] -> y[b, c], dy[b, c], dx[b, c]",
    """
  y = exp(as_if(x, 2 * x)) * stop(x)
  dy = jvp(y, x: x)
  dx = vjp(y, x, y)
""",
)
def derivatives(x):
    y = exp(as_if(x, 2 * x)) * stop(x)
    return y, jvp(y, {x: x}), vjp(y, x, y)


@pair(
    "x[c] -> o[c]",
    """
  cotangent g = x
  o = on_gradient(x, g: maximum(minimum(g, 1.0), -1.0))
""",
)
def rules(x):
    return on_gradient(x, lambda g: maximum(minimum(g, 1.0), -1.0))


@pair(
    "x[h, w] -> o[h, w], r[h, w]",
    """
  like u: h
  axis v: size(w) // 2 + 1
  like y: h
  like s: w
  o = real(fft[h -> u](x))[u: h] + real(ifft[u -> y](fft[h -> u](x)))[y: h]
  r = irfft[u, v -> y, s](rfft[h, w -> u, v](x))[y: h, s: w]
""",
)
def transforms(x):
    u, v, y, s = h.like(), axis("v", w.size // 2 + 1), h.like(), w.like()
    whole = re(fft(x, {h: u}))[{u: h}] + re(ifft(fft(x, {h: u}), {u: y}))[{y: h}]
    return whole, irfft(rfft(x, {h: u, w: v}), {u: y, v: s})[{y: h, s: w}]


@pair(
    "S[n, m], g[n], x[b, n] -> o[n], i[b, n]: int, k[b]: int",
    """
  like u: n
  require size(n) == size(m)
  S2 = S[m: u]
  o = solve_spd[n, u -> u](S2, g)[u: n]
  i = sort_indices[n -> u](x)[u: n]
  axis one: 1
  k = topk_indices[n -> one](x)[one: 0]
""",
)
def libraries(S, g, x):
    u = n.like()
    require(n.size == m.size)
    one = axis("one", 1)
    order = sort_indices(x, n, u)[{u: n}]
    return solve(S[{m: u}], g, n, u, "spd")[{u: n}], order, topk_indices(x, n, one)[{one: 0}]


@pair(
    "x[b, c] -> o[b, c]",
    """
  buffer mu[c] = "running_mean"
  buffer calls: int = "calls"
  draw keep[b] from bernoulli(0.9)
  update mu = 0.9 * mu + 0.1 * sum[b](x)
  update calls = calls + 1
  o = (x - mu) * keep
""",
)
def state(x):
    mean, count = buffer("running_mean", c), buffer("calls", kind="int")
    keep = draw("keep", b, dist=bernoulli(0.9))
    update(mean, 0.9 * mean + 0.1 * x.sum(b))
    update(count, count + 1)
    return (x - mean) * keep


@pair(
    "x[h], ids[b]: index h, i[b]: int -> o[b]",
    """
  span k: -1, 3
  o = (cases(size(h) > 4: x[h: ids], true: x[h: trust(i, h)])
      + select(present(x[h: i]), 1, 0) + sum[k](x[h: ids + k] otherwise 0) * cdiv(size(h), 2))
""",
)
def cases_and_trust(x, ids, i):
    k = span("k", -1, 3)
    chosen = cases((h.size > 4, x[{h: ids}]), (True, x[{h: trust(i, h)}]))
    taps = x[{h: ids + k}].otherwise(0).sum(k)
    return chosen + select(present(x[{h: i}]), 1, 0) + taps * cdiv(h.size, 2)


@pair("x[z=3, (h w)] -> o[z, (h w)]", "o = x * size(z) + z")
def fixed_sizes(x):
    return x * z.size + z


@pair(
    "x[h] -> o[h]",
    "o = when(x > 0, floor(x)) otherwise sqrt(when(x < -1, -x)) otherwise select(x > 0.0, x, 0.0)",
)
def chains(x):
    return when(x > 0, floor(x)).otherwise(sqrt(when(x < -1, -x))).otherwise(relu(x))


def of_text(name: str, header: str, body: str) -> Mixer:
    inputs, outputs = header.split("->")
    lines = textwrap.indent(textwrap.dedent(body).strip("\n"), "  ")
    return parse_mixers(f"mixer {name}({inputs.strip()}) -> {outputs.strip()}:\n{lines}\n", "<text>", Mixer)


def of_python(header: str, function: Callable[..., Any]) -> Mixer:
    inputs, outputs = header.split("->")
    return mixer(f"{inputs.split(';')[0].strip()} -> {outputs.strip()}")(function)


@pytest.mark.parametrize(("header", "function", "body"), PAIRS, ids=[each[1].__name__ for each in PAIRS])
def test_a_function_and_its_text_are_one_program(
    header: str, function: Callable[..., Any], body: str
) -> None:
    text, python = of_text(function.__name__, header, body), of_python(header, function)
    assert text.program() == python.program()
    assert set(inspect.signature(function).parameters) >= set(python.inputs)


def test_static_arguments_and_sizes_change_both_alike() -> None:
    header, function, body = PAIRS[0]
    text, python = of_text("circular_attention", header, body), of_python(header, function)
    assert text.program(radius=3, d=16) == python.program(radius=3, d=16)
    assert text.program(radius=3) != python.program(radius=4)


# --- texts among functions


def test_a_text_is_called_like_a_function() -> None:
    text = parse_mixers(
        'mixer window(x[..., c, t]; radius = 1) -> o[..., c, t]:\n'
        "  near k: radius\n"
        "  param weight[c, k]\n"
        "  o = sum[k](weight * x[t+k]) * radius\n",
        "<text>",
        Mixer,
    )  # fmt: skip

    @mixer("x[..., c, h] -> o[..., c, h]")
    def called(x):
        return text(x, axes={t: h}, radius=2, name="a")

    @mixer("x[..., c, h] -> o[..., c, h]")
    def by_hand(x):
        k = near("k", 2)
        return (param("a.weight", c, k) * x[h + k]).sum(k) * 2

    assert replace(by_hand.program(), name="called") == called.program()
    assert all(getattr(form, "written", None) is None for form in called.program().forms)


def test_an_optional_input_of_a_text_may_be_left_out() -> None:
    text = parse_mixers("mixer gated(x[c], g[c]?) -> o[c]:\n  o = x * (g otherwise 1.0)\n", "<text>", Mixer)

    @mixer("x[c] -> o[c], p[c]")
    def called(x):
        return text(x), text(x, x)

    first, second = called.program().outputs
    assert first.value != second.value


def test_mixers_of_one_text_are_siblings() -> None:
    text = "mixer first(x[c]) -> o[c]:\n  o = 2 * x\nmixer second(x[c]) -> o[c]:\n  o = first(x) + 1\n"
    last = parse_mixers(text, "<text>", Mixer)
    assert last.name == "second"
    assert list(last.siblings) == ["first"]
    assert list(last.siblings["first"].siblings) == ["second"]
    assert isinstance(last.definition, TextDefinition)


def test_mistakes_of_all_mixers_are_told_together() -> None:
    text = "mixer first(x[c]) -> o[c]:\n  o = sum[d](x)\nmixer second(x[c]) -> o[c]:\n  o = x + y\n"
    with pytest.raises(UnknownAxis) as caught:
        parse_mixers(text, "two.plait", Mixer)
    assert str(caught.value).startswith("2 mistakes")
    with pytest.raises(InvalidSyntax, match="there is no mixer in this text"):
        parse_mixers("# nothing\n", "none.plait", Mixer)


def test_a_mistake_reads_alike_in_both_spellings() -> None:
    def wrong(x):
        return x.sum(d)

    with pytest.raises(PlaitError) as python:
        mixer("x[c] -> o[c]")(wrong)
    with pytest.raises(PlaitError) as text:
        parse_mixers("mixer wrong(x[c]) -> o[c]:\n  o = sum[d](x)\n", "<text>", Mixer)
    assert type(python.value) is type(text.value)


def test_modes_are_one_program_each() -> None:
    @layer
    def moded(x):
        return x * 2 if mode() == "train" else x

    @mixer("x[c] -> o[c]")
    def f(x):
        return moded(x, name="m")

    for name in ("eval", "train"):
        body = f"  mode {name}\n  o = {'2 * x' if name == 'train' else 'x'}\n"
        text = parse_mixers(f"mixer f(x[c]) -> o[c]:\n{body}", "<text>", Mixer)
        assert text.program(mode=name).mode == f.program(mode=name).mode


# --- and printed


def test_the_printed_text_is_what_the_design_shows() -> None:
    header, function, _ = PAIRS[0]
    assert (
        str(of_python(header, function).program())
        == """\
mixer circular_attention(q[..., h, w, d], k[..., h, w, d], v[..., h, w, d]; radius = 8) -> o[..., h, w, d]:
  near dh, dw: radius
  s = sum[d](q * k[h+dh, w+dw]) * size(d) ** -0.5
  p = softmax[dh, dw | dh*dh + dw*dw < radius*radius](s)
  o = sum[dh, dw](p * v[h+dh, w+dw])"""
    )


PROGRAMS = {name: each for name, each in vars(test_python_programs).items() if isinstance(each, Mixer)}


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_traced_program_is_read_back_from_its_print(name: str, mode: str) -> None:
    statics: dict[str, Any] = test_python_programs.STATICS.get(name, {})
    program = PROGRAMS[name].program(mode=mode, **statics)
    (ast,) = parse_text(str(program))
    assert elaborate(ast, {}, {}, mode=mode) == program
