"""What a call keeps for its gradient: which kernels a step takes, that results do not depend on it,
and that second derivatives are right with it; in which memory is in test_training_memory.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import on_triton
import plait
from agreement import agree
from interpreting import Interpreting
from plait import PlaitError, parse
from plait.compiler.algorithms.split import split_sums
from plait.compiler.gradient.derive import gradient
from plait.compiler.gradient.residuals import from_kept, keep
from plait.compiler.meaning.interpret import interpret
from plait.compiler.pipeline import plan_program
from plait.dsl.program import Leaf, Program, When
from plait.dsl.shapes.sizes import expand_batch

CIRCULAR = """
mixer circular(q[..., h, w, d], k[..., h, w, d], v[..., h, w, d]; radius = 3) -> o[..., h, w, d]:
  near dh, dw: radius
  s = sum[d](q * k[h+dh, w+dw]) * size(d) ** -0.5
  p = softmax[dh, dw | dh*dh + dw*dw < radius*radius](s)
  o = sum[dh, dw](p * v[h+dh, w+dw])
"""

DENSE = """
mixer dense(q[b, n, d], k[b, m, d], v[b, m, e]) -> o[b, n, e]:
  s = sum[d](q * k) * size(d) ** -0.5
  p = softmax[m](s)
  o = sum[m](p * v)
"""

CAUSAL = """
mixer causal(q[b, t, d], k[b, t, d], v[b, t, d]) -> o[b, t, d]:
  like s: t
  e = sum[d](q * k[t: s])
  p = softmax[s | s <= t](e)
  o = sum[s](p * v[t: s])
"""

GROUPED = """
mixer grouped(q[b, m, t, d], k[b, n, t, d], v[b, n, t, d]) -> o[b, m, t, d]:
  like s: t
  require size(m) % size(n) == 0
  e = sum[d](q * k[n: m // (size(m) // size(n)), t: s]) * (size(d) * 1) ** -0.5
  o = sum[s](softmax[s](e) * v[n: m // (size(m) // size(n)), t: s])
"""
"""As the library writes it: `attention` of `grouped` keys."""

TEMPERATURE = """
mixer temperature(q[b, m, t, d], k[b, m, t, d], v[b, m, t, d]) -> o[b, m, t, d]:
  like s: t
  param tau[m]
  e = sum[d](q * k[t: s]) * exp(tau)
  o = sum[s](softmax[s](e) * v[t: s])
"""

OFFSETS = """
mixer offsets(q[b, m, h, w, d], k[b, m, h, w, d], v[b, m, h, w, d]) -> o[b, m, h, w, d]:
  near dh, dw: 2
  param bias[m, dh, dw]
  e = sum[d](q * k[h+dh, w+dw]) * size(d) ** -0.5 + bias
  o = sum[dh, dw](softmax[dh, dw](e) * v[h+dh, w+dw])
"""

DISTANCES = """
mixer distances(q[b, t, d], k[b, t, d], v[b, t, d]) -> o[b, t, d]:
  like s: t
  axis r: size(t) * 2 - 1
  param table[r]
  p = softmax[s](sum[d](q * k[t: s]) + table[r: t - s + size(t) - 1])
  o = sum[s](p * v[t: s])
"""
ROTARY = """
mixer rotary(q[b, t, d], k[b, t, d], v[b, t, d]) -> o[b, t, d]:
  require size(d) % 2 == 0
  like s: t
  a = t * exp(d // 2 * -0.5)
  turned = q * cos(a) + select(d % 2 == 0, -q[d+1], q[d-1]) * sin(a)
  key = k * cos(a) + select(d % 2 == 0, -k[d+1], k[d-1]) * sin(a)
  p = softmax[s | s <= t](sum[d](turned * key[t: s]))
  o = sum[s](p * v[t: s])
"""
"""The channels of a pair are there since their number is even, which a proof has to see."""


DOCUMENTS = """
mixer documents(q[b, t, d], k[b, t, d], v[b, t, d], w[b, t]) -> o[b, t, d]:
  like s: t
  p = softmax[s | (s <= t) & (w[t: s] > 0)](sum[d](q * k[t: s]))
  o = sum[s](p * v[t: s]) otherwise 0.0
"""

PAIRS = """
mixer pairs(q[b, t, d], k[b, m, d], v[b, m, d], w[b, t, m], u[b, m]) -> o[b, t, d]:
  p = softmax[m | w > 0.9](sum[d](q * k) + u)
  o = sum[m](p * v) otherwise 0.0
"""

LINEAR = """
mixer linear(q[b, t, d], k[b, t, d], v[b, t, e]) -> o[b, t, e]:
  like s: t
  p = sum[d](q * k[t: s])
  o = sum[s | s <= t](p * v[t: s])
"""

PROJECTED = """
mixer projected(x[b, t, c]) -> y[b, t, c]:
  axis d: 5
  like s: t
  param wq[d, c]
  param wk[d, c]
  param wv[d, c]
  param w[c, d]
  q = sum[c](x * wq)
  k = sum[c](x * wk)
  v = sum[c](x * wv)
  p = softmax[s | abs(s - t) < 3](sum[d](q * k[t: s]))
  y = x + sum[d](sum[s](p * v[t: s]) * w)
"""


def planned(text: str, recompute: str) -> tuple[list[int], list[str]]:
    """How many results each kernel of the forward call and of the gradient has, and their families."""
    program = parse(text).program()
    reverse = gradient(program)
    kept_program, kept = keep(program, recompute, reverse)  # pyright: ignore[reportArgumentType]
    counts: list[int] = []
    families: list[str] = []
    for each in (kept_program, from_kept(reverse, kept)):
        for group in plan_program(expand_batch(each, 1), verify=True).plan.groups:
            counts.append(len(group.results))
            families.append(group.family)
    return counts, families


@pytest.mark.parametrize("text", [CIRCULAR, DENSE, CAUSAL], ids=["circular", "dense", "causal"])
def test_a_step_of_attention_is_four_kernels(text: str) -> None:
    """The result with its log-sum-exp; sum[d](g * o); dq; dk with dv."""
    assert planned(text, "auto") == ([2, 1, 1, 2], ["stream", "tiles", "sum", "sum"])


def test_grouped_queries_of_any_number_are_two_streams_backward() -> None:
    """What is kept is found in the simplified gradient; the keys' gradients are summed over each group's queries."""
    families = ["stream", "tiles", "sum", "sum", "tiles", "tiles"]
    assert planned(GROUPED, "auto") == ([2, 1, 1, 2, 1, 1], families)


def test_a_query_without_a_key_says_so() -> None:
    """Beside the log-sum-exp goes a bool; the gradient needs no other, since a pair that is seen has one."""
    families = ["stream", "tiles", "sum", "sum", "tiles"]  # the last is the gradient of a mask: zeros
    assert planned(DOCUMENTS, "auto") == ([3, 1, 1, 2, 1], families)
    linear = parse(LINEAR.replace("s <= t](p * v[t: s])", "s < t](p * v[t: s]) otherwise 0")).program()
    assert keep(linear, "auto") == (linear, ())
    program = parse(PAIRS).program()
    made, kept = keep(program, "auto")
    assert [each.value.kind for each in made.outputs] == ["real", "bool", "real"]
    back = from_kept(gradient(program, ["q", "k", "v"]), kept)
    assert [each.leaf.name for each in back.inputs[-2:]] == ["kept.1", "kept.o"]
    families = [each.family for each in plan_program(back, verify=True).plan.groups]
    assert families == ["tiles", "sum", "sum"]


def test_a_score_of_minus_infinity_is_seen() -> None:
    """A query whose only key scores -inf has a softmax of NaN; one without keys has 0, and no gradient."""
    program = parse(PAIRS).program()
    given = tensors({"q": (1, 2, 3), "k": (1, 2, 3), "v": (1, 2, 3), "w": (1, 2, 2), "u": (1, 2)})
    with torch.no_grad():
        given["w"].copy_(torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]))
        given["u"].fill_(-torch.inf)
    call = plait.compile(program, backend="cpp")
    out = call(**given)
    assert out[0, 0].isnan().all() and (out[0, 1] == 0).all()
    (dq,) = torch.autograd.grad(out.sum(), given["q"])
    assert dq[0, 0].isnan().all() and (dq[0, 1] == 0).all()


MASKED = """
mixer masked(a[t, d], b[s, d], m[t, s], n[s], u[s]) -> x[t, s], y[t, d]:
  x = sum[d](when(m > 0, a) * b) otherwise 9
  y = sum[s | u > 0](when(m > n, a) * when(n > 0, b)) otherwise 9
"""


def test_masks_over_pairs_go_behind_contractions() -> None:
    """The same values where any product is there, and nothing where none is."""
    program = parse(MASKED).program()
    made = split_sums(program)
    masked = [each.value for each in made.forms if isinstance(each, When) and isinstance(each.value, Leaf)]
    assert [each.name for each in masked if isinstance(each, Leaf)] == ["b"]
    for seed in range(20):
        torch.manual_seed(seed)
        shapes = {"a": (3, 2), "b": (4, 2), "m": (3, 4), "n": (4,), "u": (4,)}
        given = {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}
        agree(interpret(made, given), program, given, torch.float64)


def test_a_temperature_takes_no_pass_of_its_own() -> None:
    """One number a query comes with dq, and is summed over the queries."""
    assert planned(TEMPERATURE, "auto") == ([2, 1, 2, 2, 1], ["stream", "tiles", "sum", "sum", "tiles"])


@pytest.mark.parametrize(
    "text", [OFFSETS, DISTANCES, TEMPERATURE, CAUSAL, LINEAR, ROTARY], ids=lambda text: text.split()[1][:9]
)
def test_nothing_over_pairs_is_stored(text: str) -> None:
    """Tables of offsets and distances too: no stored value has more axes than a tensor of the program."""
    program = parse(text).program()
    for recompute in ("auto", "all"):
        reverse = gradient(program)
        made = from_kept(reverse, keep(program, recompute)[1])
        plan = plan_program(expand_batch(made, 1), verify=True).plan
        most = max(len(each.leaf.over) for each in program.declarations)
        assert max(len(each.axes) for each in plan.stored.values()) <= most
        pairs = {frozenset(("t", "s")), frozenset(("h", "dh"))}
        for each in plan.stored.values():
            names = {axis.name for axis in each.axes}
            assert not any(pair <= names for pair in pairs), (each.name, names)


def test_without_kept_values_statistics_stream_too() -> None:
    """The log-sum-exp and sum[s](p * dp), then dq, which waits for that sum, then dk with dv."""
    assert planned(CIRCULAR, "all") == ([1, 1, 1, 1, 2], ["stream", "sum", "sum", "sum", "sum"])


def test_scores_are_kept_on_demand() -> None:
    program = parse(DENSE).program()
    made, kept = keep(program, "none", gradient(program))
    assert [[axis.name for axis in each.form.axes] for each in kept] == [
        ["b", "n"],
        ["b", "n", "e"],
        ["b", "n", "m"],
    ]
    assert len(made.outputs) == 3


SIZES = {
    "circular": (CIRCULAR, [dict.fromkeys("qkv", s) for s in ((2, 1, 1, 1), (1, 5, 9, 3), (2, 9, 33, 17))]),
    "dense": (
        DENSE,
        [
            {"q": (b, n, d), "k": (b, m, d), "v": (b, m, e)}
            for b, n, m, d, e in ((1, 1, 1, 1, 1), (2, 7, 65, 3, 5), (1, 67, 13, 16, 8))
        ],
    ),
    "causal": (CAUSAL, [dict.fromkeys("qkv", s) for s in ((1, 1, 1), (2, 71, 5), (1, 13, 16))]),
    "grouped": (GROUPED, [{"q": (2, 4, 11, 3), "k": (2, 2, 11, 3), "v": (2, 2, 11, 3)}]),
    "temperature": (TEMPERATURE, [dict.fromkeys("qkv", (2, 3, 11, 4)) | {"tau": (3,)}]),
    "offsets": (OFFSETS, [dict.fromkeys("qkv", (2, 2, 7, 9, 4)) | {"bias": (2, 5, 5)}]),
    "distances": (DISTANCES, [dict.fromkeys("qkv", (2, 13, 4)) | {"table": (25,)}]),
    "documents": (DOCUMENTS, [dict.fromkeys("qkv", (2, 13, 4)) | {"w": (2, 13)}]),
    "pairs": (
        PAIRS,
        [
            {"q": (b, n, 3), "k": (b, m, 3), "v": (b, m, 3), "w": (b, n, m), "u": (b, m)}
            for b, n, m in ((1, 1, 1), (2, 13, 5), (1, 3, 67))
        ],
    ),
    "linear": (LINEAR, [{"q": (1, t, 3), "k": (1, t, 3), "v": (1, t, 5)} for t in (1, 13, 67)]),
    "projected": (
        PROJECTED,
        [{"x": (2, 9, 4), "wq": (5, 4), "wk": (5, 4), "wv": (5, 4), "w": (4, 5)}],
    ),
}


def tensors(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Of every sort of strides: contiguous, transposed, sliced."""
    random = torch.Generator().manual_seed(len(str(shapes)))
    made: dict[str, Tensor] = {}
    for place, (name, shape) in enumerate(shapes.items()):
        given = torch.randn(*shape[:-1], shape[-1] * 2, dtype=dtype, generator=random)
        each = given[..., ::2] if place % 3 == 1 else given[..., : shape[-1]]
        each = each.mT.contiguous().mT if place % 3 == 2 else each
        made[name] = each.requires_grad_()
    return made


def gradients(program: Program, given: dict[str, Tensor], **options: str) -> tuple[list[Tensor], Tensor]:
    """The gradients of all tensors, and the cotangent that they are for."""
    out = plait.compile(program, backend="cpp", **options)(**given)  # pyright: ignore[reportArgumentType]
    g = torch.linspace(-1.0, 1.0, out.numel(), dtype=out.dtype).reshape(out.shape)
    return list(torch.autograd.grad(out, list(given.values()), g, materialize_grads=True)), g


@pytest.mark.parametrize("recompute", ["auto", "all", "none"])
@pytest.mark.parametrize("name", SIZES)
def test_gradients_do_not_depend_on_what_is_kept(name: str, recompute: str) -> None:
    text, cases = SIZES[name]
    program = parse(text).program()
    reverse = gradient(program)
    for shapes in cases:
        given = tensors(shapes)
        found, g = gradients(program, given, recompute=recompute)
        values = {each: tensor.detach() for each, tensor in given.items()}
        named = dict(zip(given, found, strict=True))
        ordered = {each.name: named[each.name.removeprefix("grad.")] for each in reverse.outputs}
        agree(ordered, reverse, values | {f"cot.{program.outputs[0].name}": g}, torch.float64)


@pytest.mark.parametrize("name", ["dense", "circular", "causal", "temperature", "pairs"])
def test_the_same_schedule_in_triton(name: str) -> None:
    """Both programs of a step, under Triton's interpreter."""
    text, cases = SIZES[name]
    program = parse(text).program()
    reverse = gradient(program)
    made, kept = keep(program, "auto")
    back = from_kept(reverse, kept)
    given = {each: tensor.detach() for each, tensor in tensors(cases[0]).items()}
    process = Interpreting()
    try:
        values = process.call(on_triton.run, str(made), given)
        agree(values, made, given, torch.float64, "triton")
        more = given | {"cot.o": torch.ones_like(values["o"])}
        taken = {each.leaf.name for each in back.inputs}
        kept_values = {each.declaration.leaf.name: values[each.result] for each in kept}
        more |= {name: value for name, value in kept_values.items() if name in taken}
        agree(process.call(on_triton.run, str(back), more), back, more, torch.float64, "triton")
    finally:
        process.close()


@pytest.mark.parametrize("recompute", ["auto", "none"])
def test_second_derivatives_start_from_the_inputs(recompute: str) -> None:
    call = plait.compile(parse(CIRCULAR).program(radius=2), backend="cpp", recompute=recompute)  # pyright: ignore[reportArgumentType]
    given = [torch.randn(2, 3, 2, dtype=torch.float64).requires_grad_() for _ in range(3)]
    assert gradcheck(call, given)
    assert gradgradcheck(call, given, fast_mode=True)


def test_bits_do_not_depend_on_threads() -> None:
    program = parse(CIRCULAR).program()
    given = tensors(dict.fromkeys("qkv", (3, 19, 23, 8)), torch.float32)
    found = [gradients(program, given)[0]]
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(gradients(program, given)[0])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for each in found[1:] for a, b in zip(found[0], each, strict=True))


def test_narrow_tensors_keep_their_statistics_whole() -> None:
    """Rounded to bfloat16, a log-sum-exp near 30 would be off by a tenth, and so would every weight."""
    program = parse(DENSE).program()
    given = {name: tensor.detach() for name, tensor in tensors(SIZES["dense"][1][1], torch.float32).items()}
    given["q"], given["k"] = given["q"] * 6, given["k"] * 6
    narrow = {name: each.bfloat16().requires_grad_() for name, each in given.items()}
    wide = {name: each.detach().double().requires_grad_() for name, each in narrow.items()}
    found, _ = gradients(program, narrow)
    wanted, _ = gradients(program, wide)
    for each, expected in zip(found, wanted, strict=True):
        assert each.dtype == torch.bfloat16
        assert (each.double() - expected).norm() < 0.02 * expected.norm()


def test_what_recompute_may_be() -> None:
    with pytest.raises(PlaitError, match="auto, all, none"):
        plait.compile(parse(DENSE), recompute="some")  # pyright: ignore[reportArgumentType]
