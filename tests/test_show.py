"""Programs to texts and back: what every form prints as, and that nothing is lost on the way.

`tests/program_forms.py` draws programs with all forms; each must come back equal from its own text.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from plait.dsl.canonical import canonical
from plait.dsl.constructors import build, build_special
from plait.dsl.elaboration.elaborate import elaborate
from plait.dsl.printing.show import show
from plait.dsl.program import (
    At,
    Axis,
    Const,
    Coordinate,
    Declaration,
    Form,
    Item,
    Leaf,
    Map,
    Otherwise,
    Output,
    Program,
    Scalar,
    Size,
    fresh_axis,
)
from plait.dsl.text.parse import parse_file, parse_text
from program_forms import programs

EXAMPLES = Path(__file__).parent.parent / "examples"
b, c, d, h, t, w, z = map(Axis, "bcdhtwz")
x = Leaf("input", "x", (b, h))
y = Leaf("input", "y", (b, h))


def program(*outputs: Form, inputs: tuple[Leaf, ...] = (x, y)) -> Program:
    """The outputs o, o1, ... over the axes that they have."""
    return Program(
        "f",
        tuple(Declaration(leaf, singles(leaf.over)) for leaf in inputs),
        tuple(Output(f"o{number or ''}", value, singles(value.axes)) for number, value in enumerate(outputs)),
    )


def singles(axes: tuple[Axis, ...]) -> tuple[Item, ...]:
    return tuple((axis,) for axis in axes)


def read(text: str, **statics: Scalar | str) -> Program:
    """The last mixer of a text."""
    mixers = parse_text(text)
    return elaborate(mixers[-1], statics, {each.name: each for each in mixers})


def returned(given: Program) -> str:
    """The program's text, which must give the program back, and itself when printed again."""
    text = show(given)
    found = read(text)
    assert canonical(found) == canonical(given), text
    assert show(found) == text
    return text


def body(given: Program) -> list[str]:
    """The lines of a program's text below its header."""
    return [line.removeprefix("  ") for line in returned(given).splitlines()[1:]]


def same(text: str) -> None:
    """A text that the printer itself would write."""
    assert returned(read(text)) == text.strip("\n")


# --- the example of the design


def test_circular_attention() -> None:
    (mixer,) = parse_file(EXAMPLES / "circular_attention.plait")
    assert show(elaborate(mixer, {}, {})) == (
        "mixer circular_attention(q[..., h, w, d], k[..., h, w, d], v[..., h, w, d]; radius = 8) -> o[..., h, w, d]:\n"
        "  near dh, dw: radius\n"
        "  s = sum[d](q * k[h+dh, w+dw]) * size(d) ** -0.5\n"
        "  p = softmax[dh, dw | dh*dh + dw*dw < radius*radius](s)\n"
        "  o = sum[dh, dw](p * v[h+dh, w+dw])"
    )
    assert show(elaborate(mixer, {"radius": 3}, {}, sizes={"d": 64})).splitlines()[:3] == [
        "mixer circular_attention(q[..., h, w, d=64], k[..., h, w, d], v[..., h, w, d]; radius = 3) "
        "-> o[..., h, w, d]:",
        "  near dh, dw: radius",
        "  s = sum[d](q * k[h+dh, w+dw]) * size(d) ** -0.5",
    ]


def test_without_the_author_s_names_reductions_are_statements() -> None:
    (mixer,) = parse_file(EXAMPLES / "circular_attention.plait")
    unnamed = replace(elaborate(mixer, {}, {}), names=())
    assert returned(unnamed).splitlines()[1:] == [
        "  near dh, dw: radius",
        "  v1 = sum[d](q * k[h+dh, w+dw])",
        "  v2 = softmax[dh, dw | dh*dh + dw*dw < radius*radius](v1 * size(d) ** -0.5)",
        "  o = sum[dh, dw](v2 * v[h+dh, w+dw])",
    ]


# --- texts that stand for themselves


@pytest.mark.parametrize(
    "text",
    [
        """
mixer f(x[..., h, d], m[b, s]: bool, ids[b, t]: index v, z[c=3]: complex, g[b]?, q[b, (h w), 1], n, k[c, d]) -> o[d]:
  o = sum[..., h](x)
""",
        """
mixer pooled(x[b, h]; k = 3, s = 2, p = 1) -> o[b, oh]:
  require size(h)%s == 0
  axis i: k
  axis oh: (size(h) + 2*p - k)//s + 1
  o = max[i](x[h: oh*s+i-p])
""",
        """
mixer convolution(x[b, c, h, w]; radius = 1) -> o[b, c, h, w]:
  near dh, dw: radius
  param weight[c, 1, dh, dw] = "dwconv.weight" init trunc_normal(0.02) frozen also "tied.weight"
  param bias[c] = "dwconv.bias" init 0
  param head.scale[(h w)]
  o = (sum[dh, dw](weight * x[h+dh, w+dw]) + bias) * head.scale
""",
        """
mixer unions(s[b, t], u[b, h, w]) -> o[b]:
  n = lse[t; h, w | h < 3](s, u)
  o = sum[t; h, w](s * exp(s - n), u * exp(u - n))
""",
        """
mixer norm(x[b, c]) -> o[b, c]:
  mode train
  buffer mu[c] = "running_mean" init 0
  buffer steps: int = "num_batches_tracked"
  draw keep[b] from bernoulli(0.9)
  m = mean[b](x)
  o = (x - m) * keep
  update mu = 0.9*mu + 0.1*m
  update steps = steps + 1
""",
        """
mixer recurrence(x[..., t, c]) -> o[..., t, c], final[..., c]:
  previous p[t] = zeros(..., c)
  o = scan[t](p: sigmoid(x)*p + x)
  final = last(o)
""",
        """
mixer lanes(x[b, t]) -> o[b, t], i[b, t]: int:
  previous p[t, b]: real = 0
  previous q[t, b] = 0
  o, i = scan[reverse t until p > 10](p: p + x, q: q + 1)
""",
        """
mixer carry(x[b, t]) -> o[b]:
  previous p[t] = zeros(b)
  previous q[t] = zeros(b)
  previous r[t] = zeros(b)
  v = r + x
  a, _, s = scan[t](p: q, q: v, r: p)
  final = scan[last t: q](p: q, q: v, r: p)
  o = sum[t](a + s) + last(s) + final
""",
        """
mixer transforms(x[h, w]) -> o[h, w]:
  like y: h
  like s: w
  like u: h
  axis v: size(w)//2 + 1
  o = irfft[u, v -> y, s](rfft[h, w -> u, v](x))[y: h, s: w] + real(ifft[u -> y](fft[h -> u](x)))[y: h]
""",
        """
mixer solved(m[n, k], g[n]) -> o[n], i[n]: int:
  require size(n) == size(k)
  like u: n
  s = m[k: u]
  o = solve_spd[n, u -> u](s, g)[u: n] + solve[n, u -> u](s, g)[u: n]
  i = sort_indices[n -> u](g)[u: n]
""",
        """
mixer marks(x[c]) -> o[c], dx[c], dy[c]:
  a = as_if(to_real(floor(x)), x) * stop(x)
  cotangent g = a
  o = on_gradient(a, g: clamp(g, -1.0, 1.0))
  dx = vjp(a, x, x)
  dy = jvp(a, x: x)
""",
        """
mixer presence(x[h, w]) -> o[h, w], p[h, w]: bool:
  y = x[h+1] otherwise x[w-1] otherwise 0
  o = select(h%2 == 0, -y, when(x > 1, y) otherwise 1.0)
  p = present(when(h > w, x)) & any[h](x > 0) | ~all[w | w < h](x > 2)
""",
        """
mixer indices(x[h, w], i[h]: index w) -> o[h, w], j[h]: int:
  require size(h) == size(w)
  axis n: size(h) + size(w)
  k = cat[h, w -> n](x[w: i], x[h: w, w: reflect(w - 3, size(w))])
  o = x[h: w, w: h] + k[n: clamp(h + w, 0, size(n) - 1)] + place(x, w: 2*w) otherwise 0
  j = argmax[w](x) + argmax[h, w: h](x) + argmax[h, w: w](x)
""",
        """
mixer kinds(x[h]) -> o[h]: complex, i: int:
  o = cplx(x, 2.5)*(1.0 + 2.0j) + 0.5j + conj(complex(-0.0, inf))
  i = count[h](x)//2%3 + round(-1.5 * size(h)) - to_int(max[h](x))
""",
        """
mixer constants(x[h]) -> o[h]:
  o = x**2 + x**-2 + (-3)**h*inf - nan*x + pi/2*1e-30*x - -0.0
""",
        """
mixer "two words"("a b"["odd axis"], sum[h], h[h], n["max"]; count = 3, kind = "a \\"") -> p["odd axis", h, "max"]:
  p = "a b"*index("odd axis") + "sum"*"h"*index(h)*index("max")*n*"count"
""",
    ],
)
def test_texts_that_print_as_they_are(text: str) -> None:
    same(text)


# --- forms that only a compiler pass makes


def test_constants_that_are_not_folded() -> None:
    one, two = Const(1), Const(2)
    added = Map("add", (one, two))
    folded = program(
        Map("mul", (x, added)),
        Map("neg", (Const(3),)),
        Map("sqrt", (Const(4.0),)),
        Map("add", (added, Const(1.5))),
    )
    assert body(folded) == [
        "o = x * unfolded(1 + 2)",
        "o1 = unfolded(-3)",
        "o2 = unfolded(sqrt(4.0))",
        "o3 = unfolded(1 + 2) + 1.5",
    ]


def test_sizes_and_reads_that_a_constructor_would_drop() -> None:
    known = build.make_axis("n", Const(0), Const(3), "axis")
    kept = At(x, ((h, Coordinate(h)),))
    both = At(x, ((h, Coordinate(h)), (b, build.apply("add", Coordinate(b), Const(1)))))
    found = program(build.apply("mul", kept, Size(known)), both, At(x, ()))
    assert body(found) == [
        "axis n: 3",
        "o = unfolded(x[h: h]) * unfolded(size(n))",
        "o1 = unfolded(x[h: h, b: b+1])",
        "o2 = unfolded(x[])",
    ]


def test_a_size_that_is_known_is_not_the_number() -> None:
    sized = replace(program(build.apply("mul", x, Size(h))), fixed=((h, 7),))
    assert returned(sized) == "mixer f(x[b, h=7], y[b, h]) -> o[b, h]:\n  o = x * unfolded(size(h))"


@pytest.mark.parametrize(
    ("low", "size", "how", "line"),
    [
        (Const(-4), Const(9), "near", "near u: 4"),
        (Const(-4), Const(8), "near", "axis u: 8 from -4"),
        (Const(0), Const(9), "near", "axis u: 9"),
        (Const(-1), Const(4), "span", "span u: -1, 3"),
        (Const(-1), Size(h), "span", "axis u: size(h) from -1"),
        (Size(h), Map("sub", (Size(b), Size(h))), "span", "span u: size(h), size(b)"),
        (Map("neg", (Size(h),)), Map("add", (Map("mul", (Const(2), Size(h))), Const(1))), "near", "near u: size(h)"),
        (Const(0), Size(h), "like", "like u: h"),
        (Const(0), Size(h), "axis", "axis u: size(h)"),
        (Const(2), Size(h), "axis", "axis u: size(h) from 2"),
    ],
)  # fmt: skip
def test_ranges(low: Form, size: Form, how: str, line: str) -> None:
    axis = fresh_axis("u", low, size, how)  # type: ignore[arg-type]
    assert body(program(build.apply("mul", x, Coordinate(axis))))[0] == line


def test_axes_of_one_name_are_printed_apart() -> None:
    axes = [build.near_axis("u", Const(radius)) for radius in (1, 1, 2)]
    own = build.near_axis("h", Const(3))
    product: Form = x
    for axis in (*axes, own):
        product = build.apply("mul", product, Coordinate(axis))
    assert body(program(product)) == [
        "near u, u_1: 1",
        "near u_2: 2",
        "near h_1: 3",
        "o = x * u * u_1 * u_2 * h_1",
    ]


def test_an_axis_that_the_body_makes_may_be_one_of_the_header() -> None:
    oh = build.make_axis("oh", Const(0), build.apply("floordiv", Size(h), Const(2)), "axis")
    pooled = Leaf("input", "cot.o", (b, oh))
    text = returned(program(build.apply("mul", pooled, Const(2.0)), inputs=(x, pooled)))
    assert text == ("mixer f(x[b, h], cot.o[b, oh]) -> o[b, oh]:\n  axis oh: size(h) // 2\n  o = cot.o * 2.0")


def test_axes_of_the_signature_that_the_header_lacks() -> None:
    weight = Leaf("parameter", "w", (c, h))
    found = program(build.reduce("sum", [(build.apply("mul", x, weight), (c,))]))
    found = replace(found, parameters=(Declaration(weight, ((c,), (h,))),), fixed=((d, 5),))
    assert body(found) == ["axis d=5, c", "param w[c, h]", "o = sum[c](x * w)"]


def test_a_name_that_is_an_axis_too() -> None:
    own = Leaf("input", "h", (h,))
    found = Program(
        "f", (Declaration(own, ((h,),)),), (Output("b", build.apply("add", own, Coordinate(h)), ((h,),)),)
    )
    assert returned(found) == 'mixer f(h[h]) -> b[h]:\n  b = "h" + index(h)'


def test_an_output_named_like_a_static_argument() -> None:
    found = replace(program(build.apply("mul", x, y), x), statics=(("o", 3),))
    assert body(found) == ["output o = x * y", "o1 = x"]


def test_outputs_of_one_value_and_of_no_operation() -> None:
    product = build.apply("mul", x, y)
    assert body(program(product, product, x, Const(1.0), build.apply("exp", product))) == [
        "o = x * y", "o4 = exp(o)", "o1 = o", "o2 = x", "o3 = 1.0",
    ]  # fmt: skip


def test_another_first_value_for_one_variable() -> None:
    leaf = build_special.previous(t, Const(0.0), "p")
    scans = [build_special.scan(t, [build_special.carry(leaf, Const(first), leaf)]) for first in (0.0, 1.0)]
    assert body(program(*scans)) == [
        "previous p[t] = 0.0",
        "o = scan[t](p: p)",
        "o1 = scan[t](p: p from 1.0)",
    ]


def test_sugar_that_hides_a_named_value_is_not_used() -> None:
    norm = build.reduce("lse", [(x, (h,))])
    weights = build.softmax([(x, (h,))])[0]
    masked = build.when(build.apply("gt", x, Const(0.0)), x)
    total = build.reduce("sum", [(masked, (h,))])
    assert body(program(weights, norm)) == ["o1 = lse[h](x)", "o = exp(x - o1)"]
    assert body(program(weights)) == ["o = softmax[h](x)"]
    assert body(program(total)) == ["o = sum[h | x > 0.0](x)"]
    assert body(replace(program(total), names=(("m", masked),))) == ["m = when(x > 0.0, x)", "o = sum[h](m)"]
    assert body(program(total, build.apply("exp", masked), build.apply("sin", masked))) == [
        "v1 = when(x > 0.0, x)", "o = sum[h](v1)", "o1 = exp(v1)", "o2 = sin(v1)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("radius", "radius"),
        ("radius * 2", "radius * 2"),
        ("-(-(radius * 2))", "--(radius * 2)"),
        ("radius * 3", "16"),
        ("128 // 2 ** (radius - 5)", "16"),  # a power is a real value, and reals are not divided so
        ("other", "16"),
        ("radius *", "16"),
        ("__import__('os').system('true')", "16"),
        ("radius" + " + 0" * 1000, "16"),
        ("(" * 90 + "16", "16"),
    ],
)
def test_a_constant_prints_as_written_only_where_that_is_its_value(written: str, shown: str) -> None:
    value = 8 if written == "radius" else 16
    constant = Const(value, written=written)
    found = replace(program(build.apply("mul", x, constant)), statics=(("radius", 8),))
    expected = shown if value == 16 or shown == "radius" else "8"
    right = f"({expected})" if " " in expected and not expected.startswith("-") else expected
    assert body(found) == [f"o = x * {right}"]


# --- size and depth


def chain(length: int) -> Form:
    form: Form = x
    for _ in range(length):
        form = build.apply("sin", form)
    return form


def doubled(length: int) -> Form:
    form: Form = x
    for _ in range(length):
        form = build.apply("mul", form, form)
    return form


def terms(count: int) -> Form:
    form: Form = x
    for _ in range(count):
        form = build.apply("add", form, y)
    return form


def fallbacks(count: int) -> Form:
    form: Form = x
    for number in range(count):
        form = Otherwise(form, build.at(x, {h: build.apply("add", Coordinate(h), Const(number))}))
    return form


def extents(count: int) -> Form:
    extent: Form = Size(h)
    for _ in range(count):
        extent = build.apply("add", extent, Size(b))
    return build.apply("mul", x, Coordinate(build.make_axis("u", Const(0), extent, "axis")))


def chained_axes(count: int) -> Form:
    axis = h
    for _ in range(count):
        axis = build.make_axis("u", Const(0), build.apply("add", Size(axis), Const(1)), "axis")
    return build.apply("mul", x, Coordinate(axis))


@pytest.mark.parametrize(
    "form",
    [chain(5000), doubled(300), terms(5000), fallbacks(500), extents(2000), chained_axes(1000)],
    ids=["chain", "doubled", "terms", "fallbacks", "extents", "axes"],
)
def test_depth_is_no_limit(form: Form) -> None:
    text = returned(program(form))
    assert max(map(len, text.splitlines())) < 500


def test_a_thousand_terms_of_text() -> None:
    found = read(f"mixer f(a[h]) -> o[h]:\n  o = {' + '.join(['a'] * 1000)}")
    assert len(found.forms) == 1000
    returned(found)


def test_three_hundred_parentheses_of_text() -> None:
    found = read(f"mixer f(a[h]) -> o[h]:\n  o = {'(a + ' * 300}a{')' * 300}")
    assert len(found.forms) == 301
    returned(found)


# --- any program


@given(programs())
@settings(max_examples=100)
def test_every_program_comes_back_from_its_text(given_program: Program) -> None:
    returned(given_program)


def test_a_deep_form_has_a_short_repr() -> None:
    """Before, it ended in a RecursionError, as a debugger or a failing assert would."""
    h = Axis("h")
    value: Form = Leaf("input", "x", (h,))
    for _ in range(5000):
        value = build.apply("add", value, build.reduce("sum", [(value, (h,))]))
    assert repr(value).startswith("Map(op='add', args=(Map(op='add', ")
    assert "Map(...)" in repr(value)
    assert len(repr(value)) < 50_000
    assert repr(Const(2)) == "Const(value=2, written=None)"
