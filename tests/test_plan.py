"""What the compiler decides: which values are stored and why, what streams, and the reports of it."""

from __future__ import annotations

import pickle
import warnings

import pytest
import torch

import plait
from plait import Program, parse
from plait.compiler.fusion.check_plan import check_plan
from plait.compiler.fusion.plan import Plan
from plait.compiler.gradient.derive import gradient
from plait.compiler.gradient.residuals import from_kept, keep
from plait.compiler.pipeline import STEPS, plan_program
from plait.compiler.rewrites.total import MOST_WORK, Totality
from plait.dsl.errors import CompilerFault
from plait.dsl.mistakes import InvalidArgument, NotFused, UnknownBackend
from plait.dsl.program import Map, Reduce
from plait.dsl.proofs.inequalities import PRODUCTS, Inequalities
from plait.dsl.shapes.polynomial import Polynomial
from plait.dsl.shapes.sizes import expand_batch


def program(text: str) -> Program:
    return parse(text).program()


def plan(text: str) -> Plan:
    return plan_program(expand_batch(program(text), 1), verify=True).plan


def families(text: str) -> dict[str, str]:
    return {group.result.name: group.family for group in plan(text).groups}


CIRCULAR = """
mixer circular(q[..., h, w, d], k[..., h, w, d], v[..., h, w, d]; radius = 8) -> o[..., h, w, d]:
  near dh, dw: radius
  s = sum[d](q * k[h+dh, w+dw]) * size(d) ** -0.5
  p = softmax[dh, dw | dh*dh + dw*dw < radius*radius](s)
  o = sum[dh, dw](p * v[h+dh, w+dw])
"""

HEADS = "q[..., t, d], k[..., t, d], v[..., t, d]"


def attention(score: str, weights: str = "s", declare: str = "like s: t", header: str = HEADS) -> str:
    return f"""
mixer attention({header}) -> o[..., t, d]:
  {declare}
  e = {score}
  p = softmax[{weights}](e)
  o = sum[s](p * v[t: s])
"""


STREAMS = {
    "window": CIRCULAR,
    "dense": attention("sum[d](q * k[t: s])"),
    "causal": attention("sum[d](q * k[t: s])", "s | s <= t"),
    "scaled in the query": attention("sum[d](q * 0.5 * k[t: s])"),
    "band and bias": attention("sum[d](q * k[t: s]) - abs(s - t) * 0.5", "s | abs(s - t) < 5"),
    "table of biases": attention("sum[d](q * k[t: s]) + b[t: s]", header=f"{HEADS}, b[t]"),
    "mask by data": attention(
        "sum[d](q * k[t: s])", "s | (m[t: s] | (s == t))", header=f"{HEADS}, m[t]: bool"
    ),
    "grouped queries": attention(
        "sum[d](q * k[n: m // 2, t: s])",
        declare="like s: t\n  require size(m) == size(n) * 2",
        header="q[..., m, t, d], k[..., n, t, d], v[..., n, t, d]",
    )
    .replace("o[..., t, d]", "o[..., m, t, d]")
    .replace("v[t: s]", "v[n: m // 2, t: s]"),
    "table of distances": attention(
        "sum[d](q * k[t: s]) + table[r: t - s + size(t) - 1]",
        declare="like s: t\n  axis r: size(t) * 2 - 1\n  param table[r]",
    ),
    "soft-capped": attention("tanh(sum[d](q * k[t: s]) / 20) * 20"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_one_streaming_kernel(name: str) -> None:
    assert families(STREAMS[name]) == {"o": "stream"}


def test_an_epilogue_joins_the_stream() -> None:
    text = CIRCULAR.replace("o = sum", "y = sum") + "  o = y * 2 + q\n"
    assert families(text) == {"o": "stream"}


def test_computed_keys_are_stored_first() -> None:
    found = families(attention("sum[d](q * (k * k)[t: s])"))
    assert list(found.values()) == ["tiles", "stream"]


NORMALISED = """
mixer normalised(x[..., t, c], k[..., t, d], v[..., t, d]) -> o[..., t, d]:
  param w[d, c]
  y = sum[c](w * x)
  z = y - mean[d](y)
  q = z / sqrt(mean[d](z * z) + 0.00001)
  like s: t
  p = softmax[s](sum[d](q * k[t: s]))
  o = sum[s](p * v[t: s])
"""


def test_a_normalised_query_is_stored_and_not_its_statistics() -> None:
    """One kernel of the linear map and the norm, in place of one for each sum that the query is made of."""
    assert families(NORMALISED) == {"q": "tiles", "o": "stream"}


ITERATED = """
mixer retrieval(q[..., t, d], k[..., s, d], v[..., s, e]) -> o[..., t, e]:
  p = softmax[s](sum[d](q * k))
  x = sum[s](p * k)
  r = softmax[s](sum[d](x * k))
  y = sum[s](r * k)
  u = softmax[s](sum[d](y * k))
  o = sum[s](u * v)
"""


def test_what_is_made_of_a_sum_is_stored_before_a_window() -> None:
    """Stored without it, the bias would be added again in every halo, entry by entry, and taps would need masks."""
    found = plan("""
mixer f(x[b, c, h, w]) -> y[b, o, h, w]:
  near dh, dw: 1
  param v[o, c]
  param u[o]
  param k[o, dh, dw]
  z = sum[c](v * x) + u
  y = sum[dh, dw](k * z[h: h + dh, w: w + dw])
""")
    assert [type(group.result.form) for group in found.groups] == [Map, Reduce]


def test_iterated_attention_is_a_stream_a_step() -> None:
    assert families(ITERATED) == {"x": "stream", "y": "stream", "o": "stream"}


def test_no_scores_of_iterated_attention_are_stored_for_its_gradient() -> None:
    """A state, and a gradient that goes back into one, are stored: no sum over channels streams past them."""
    _, kept = keep(program(ITERATED), "auto")
    reverse = expand_batch(from_kept(gradient(program(ITERATED)), kept), 1)
    found = plan_program(reverse, verify=True).plan
    assert not [each.name for each in found.stored.values() if {"t", "s"} <= {a.name for a in each.axes}]
    sums = [len(group.results) for group in found.groups if group.family == "sum"]
    assert sums == [2, 2, 1, 2, 2, 2], (
        "dq of a step and what scales the next one; dk as keys and as values together"
    )


def test_what_is_not_streamed_says_why() -> None:
    per_query = "q[..., t, d], k[..., t, u, d], v[..., t, u, d]"
    text = f"""
mixer local({per_query}) -> o[..., t, d]:
  e = sum[d](q * k)
  o = sum[u](softmax[u](e) * v)
"""
    (group,) = [group for group in plan(text).groups if group.result.name == "o"]
    assert group.family == "tiles"
    assert group.reason == "every axis of the queries is also one of the keys: nothing lies in the lanes"


def test_pointwise_chains_are_one_kernel() -> None:
    text = "mixer chain(x[h], y[h]) -> z[h]:\n  a = x * y\n  b = exp(a) - x\n  z = b / (1 + b*b)\n"
    made = plan(text)
    assert [group.result.name for group in made.groups] == ["z"]
    assert all(edge.fused for edge in made.edges)


def test_a_normalisation_stores_its_statistics() -> None:
    """Each statistic would be computed again for every channel; the reason says so."""
    body = "  m = mean[c](x)\n  s = mean[c]((x - m)**2)\n  y = (x - m) / sqrt(s + 1e-6)\n"
    text = f"mixer norm(x[t, c]) -> y[t, c]:\n{body}"
    made = plan(text)
    reasons = {edge.producer: edge.reason for edge in made.edges if not edge.fused}
    assert len(made.groups) > 1
    assert all("read 2 times" in reason or "again for every c" in reason for reason in reasons.values()), (
        reasons
    )


def test_a_broken_plan_is_refused() -> None:
    made = plan("mixer norm(x[t, c]) -> y[t, c]:\n  y = x / sum[c](x)\n")
    assert len(made.groups) == 2
    backwards = Plan(made.program, made.groups[::-1], made.edges)
    with pytest.raises(CompilerFault, match="reads what is made after it"):
        check_plan(backwards)
    with pytest.raises(CompilerFault, match="an output has no group"):
        check_plan(Plan(made.program, made.groups[:1], made.edges))


def test_every_step_is_dumped_in_order() -> None:
    seen: list[str] = []
    plan_program(program(STREAMS["dense"].replace("..., ", "")), dump=lambda name, made: seen.append(name))
    assert (
        seen
        == [step.name for step in STEPS]
        == [
            "simplify",
            "order",
            "share",
            "count",
            "split",
            "cut",
            "chunk",
            "name",
            "to_fx",
            "fuse",
            "tokens",
            "join",
        ]
    )


# --- reports, graphs, refusals


def test_a_report_is_of_the_last_call() -> None:
    compiled = plait.compile(parse(CIRCULAR))
    before = str(compiled.explain())
    assert "(not called yet: sizes that shape the code are examples)" in before
    q, k, v = torch.randn(3, 2, 9, 8, 4)
    compiled(q, k, v)
    after = str(compiled.explain())
    assert after.splitlines()[:2] == [
        "circular: 1 kernel",
        "  o[batch0, h, w, d]: streaming softmax: queries in the lanes, keys pass by, no scores in memory",
    ]
    assert "    bytes      16*batch0*d*h*w = 9,216 at least" in after
    assert "tiles of h by 8, w by 8" in after


def test_the_graph_has_one_node_a_kernel_and_runs() -> None:
    compiled = plait.compile(parse("mixer norm(x[b, (h w=3)]) -> y[b, (h w)]:\n  y = x / sum[h](x)\n"))
    with pytest.raises(InvalidArgument, match="nothing was called yet"):
        _ = compiled.graph
    x = torch.rand(2, 12)
    want = compiled(x)
    graph = compiled.graph
    kernels = [
        node for node in graph.graph.nodes if str(getattr(node.target, "name", "")).startswith("norm_")
    ]
    assert len(kernels) == len(compiled.kernels) == 2
    (got,) = graph(x)
    assert torch.equal(got, want)


SCATTER = "mixer scatter(x[t], ids[t]: index v, y[v]) -> z[v]:\n  z = place(x, v: ids) otherwise y\n"


def test_unfused_parts_are_said_or_refused() -> None:
    tensors = (torch.ones(4), torch.tensor([0, 2, 2, 0]), torch.zeros(3))
    with pytest.warns(UserWarning, match="1 of 2 steps of `scatter` run as reference operations"):
        warned = plait.compile(parse(SCATTER))(*tensors)
    with pytest.raises(NotFused, match="adds up at positions that depend on data"):
        plait.compile(parse(SCATTER), on_unfused="error")(*tensors)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet = plait.compile(parse(SCATTER), on_unfused="quiet")(*tensors)
    assert torch.equal(warned, torch.tensor([2.0, 0.0, 2.0]))
    assert torch.equal(warned, quiet)


def test_no_such_backend() -> None:
    with pytest.raises(UnknownBackend, match="there is no backend `cuda`"):
        plait.compile(parse(CIRCULAR), backend="cuda")  # pyright: ignore[reportArgumentType]


def test_a_mistake_survives_a_process() -> None:
    """Workers of a DataLoader hand their exceptions over pickled."""
    with pytest.raises(plait.PlaitError) as caught:
        parse("mixer f(x[h]) -> y[h]:\n  y = sum[e](x)\n")
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is type(caught.value)
    assert str(again) == str(caught.value)


def counts(text: str) -> int:
    forms = plan(text).program.forms
    return sum(isinstance(form, Reduce) and form.op == "count" for form in forms)


def test_what_is_present_everywhere_is_counted_by_sizes() -> None:
    assert counts("mixer f(x[t, c]) -> y[t]:\n  y = mean[c](x)\n") == 0
    assert counts("mixer f(x[t, c]) -> y[t]:\n  y = mean[c](when(x > 0, x)) otherwise 0\n") == 1
    assert counts("mixer f(x[t]) -> y[t]:\n  near d: 1\n  y = mean[d](x[t+d])\n") == 1


INTRICATE = """
mixer f(x[w, h], y[h, c]) -> o[h]:
  like c_1: c
  v = sum[h](x[w: 0] * y)
  u = sum[c_1](x[w: c_1%3] * v[c: clamp(h + 1, 0, size(c) - 1)])
  axis n: (size(h) + 1) // 2
  z = u * lse[n](y[h: 0][c: (n+2)%size(c)]) * y[c: h % size(c)]
  o = z[h+1] otherwise z otherwise 0
"""


def test_proofs_of_presence_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goals whose polynomials grow cost more than others: the plan of a drawn program took minutes."""
    combined, terms = Inequalities._combined, 0

    def counted(
        self: Inequalities, goal: Polynomial, slope: Polynomial, fact: Polynomial, symbol: int, rising: bool
    ) -> Polynomial | None:
        nonlocal terms
        terms += len(goal.terms) * len(fact.terms)
        return combined(self, goal, slope, fact, symbol, rising)

    monkeypatch.setattr(Inequalities, "_combined", counted)
    total = Totality(gradient(program(INTRICATE)))
    for form in total.program.forms:
        total.of(form)
    assert terms <= MOST_WORK * PRODUCTS
