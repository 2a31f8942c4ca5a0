"""The program as a GraphModule: it runs, it says what it is, and it means what the interpreter says."""

from __future__ import annotations

import copy
import re
from dataclasses import fields, replace

import pytest
import torch
from torch.fx import GraphModule, Interpreter, Node

from agreement import nearly
from partials import declared, items, not_yet_forms, of, program, random
from plait.compiler.meaning.interpret import interpret
from plait.compiler.meaning.memory import operands_of
from plait.compiler.meaning.partial import Partial
from plait.compiler.meaning.to_fx import META, Operation, Typed, to_fx
from plait.dsl.mistakes import AbsentOutput, AxisSizeMismatch, NotYet
from plait.dsl.program import Const, Form, Leaf, Output, Program, Update
from plait.dsl.python.domains import softmax
from plait.dsl.python.functions import axes, near
from plait.dsl.python.value import AxisValue, Value

h, w, d = axes("h w d")
dh, dw = near("dh dw", 1)
PLACES = (..., h, w, d)


def attention() -> Program:
    q, k, v = (declared(name, *PLACES) for name in "qkv")
    s = (of(q) * of(k)[h + dh, w + dw]).sum(d) * 0.5
    p = softmax(s, (dh, dw), where=dh * dh + dw * dw < 2)
    o = (p * of(v)[h + dh, w + dw]).sum(dh, dw)
    names = (("s", s.form), ("p", p.form), ("o", o.form))
    return replace(program([q, k, v], o, *PLACES), name="attention", names=names)


def tensors(*batch: int) -> list[torch.Tensor]:
    return [random(*batch, 4, 5, 3) + number for number in range(3)]


def form_nodes(module: GraphModule) -> dict[Form, Node]:
    return {node.meta[META].form: node for node in module.graph.nodes if META in node.meta}


def test_module_runs_and_equals_the_interpreter() -> None:
    module = to_fx(attention())
    module.graph.lint()
    for batch in ((), (2,), (2, 3), (0,)):
        q, k, v = tensors(*batch)
        (found,) = module(q, k, v)
        assert torch.equal(found, interpret(attention(), {"q": q, "k": k, "v": v})["o"])


def test_one_node_a_form_with_its_operands() -> None:
    p = attention()
    nodes = form_nodes(to_fx(p))
    assert set(nodes) == set(p.forms)
    for form, node in nodes.items():
        typed = node.meta[META]
        assert list(node.meta) == [META]
        assert isinstance(typed, Typed)
        assert (typed.form, typed.axes, typed.kind, typed.span) == (form, form.axes, form.kind, form.span)
        assert node.op == "call_function"
        if not isinstance(form, Leaf):
            assert node.args == tuple(nodes[operand] for operand in operands_of(form))
            target = node.target
            assert isinstance(target, Operation)
            again = Operation(target.name, form)
            assert (again, hash(again)) == (target, hash(target))
    assert [field.name for field in fields(Typed)] == ["form"]


def test_nodes_bear_the_author_names() -> None:
    module = to_fx(attention())
    names = [node.name for node in module.graph.nodes]
    assert names[:3] == ["q", "k", "v"]
    assert {"s", "p", "o", "o_stored"} <= set(names)
    assert type(module).__name__ == "attention"
    text = module.print_readable(print_output=False)
    assert re.search(r"^ *p = plait_p\(sub, sizes = sizes\)", text, re.MULTILINE)


def test_every_node_holds_the_value_of_its_form() -> None:
    """Running it step by step gives the partial values themselves, for whoever compares a pass."""
    module = to_fx(attention())
    seen: dict[str, object] = {}

    class Recording(Interpreter):
        def run_node(self, n: Node) -> object:
            seen[n.name] = super().run_node(n)
            return seen[n.name]

    Recording(module).run(*tensors(2))
    weights = seen["p"]
    assert isinstance(weights, Partial)
    assert weights.axes == form_nodes(module)[dict(attention().names)["p"]].meta[META].axes
    total = torch.where(weights.mask, weights.data, 0).sum()
    nearly(total, torch.tensor(2.0 * 4 * 5, dtype=torch.float64), weights.data.numel())


def test_parameters_buffers_and_updates() -> None:
    x, scale = declared("x", h), declared("conv.scale", h, role="parameter")
    twin, seen = declared("conv_scale", h, role="parameter"), declared("seen", kind="int", role="buffer")
    p = replace(
        program([x], of(x) * of(scale) - of(twin), h),
        parameters=(scale, twin),
        buffers=(seen,),
        updates=(Update(seen.leaf, (of(seen) + 1).form),),
    )
    module = to_fx(p)
    found = module(random(3), random(3) * 2, random(3) * 3, torch.tensor(5))
    assert torch.equal(found[0], 2 * random(3) ** 2 - 3 * random(3))
    assert found[1].item() == 6


def test_results_keep_the_order_of_the_header() -> None:
    x = declared("x", h, w)
    p = replace(
        program([x], of(x), h, w),
        outputs=tuple(
            Output(name, (of(x) * number).form, items(w, h))
            for number, name in enumerate(("b", "a"), start=1)
        ),
    )
    first, second = to_fx(p)(random(2, 3))
    assert torch.equal(first, random(2, 3).T)
    assert torch.equal(second, 2 * random(2, 3).T)


def test_optional_inputs_are_none() -> None:
    x, g = declared("x", h), declared("g", h, optional=True)
    module = to_fx(program([x, g], of(x) * of(g).otherwise(2), h))
    assert torch.equal(module(random(3), None)[0], 2 * random(3))
    assert torch.equal(module(random(3), random(3))[0], random(3) ** 2)


def test_a_constant_and_a_declaration_may_be_the_result() -> None:
    x = declared("x", h)
    p = replace(
        program([x], of(x), h),
        outputs=(Output("same", of(x).form, items(h)), Output("three", Const(3), ())),
    )
    same, three = to_fx(p)(random(2))
    assert torch.equal(same, random(2))
    assert three.item() == 3


def test_module_can_be_copied() -> None:
    q, k, v = tensors(2)
    module = to_fx(attention())
    assert torch.equal(copy.deepcopy(module)(q, k, v)[0], module(q, k, v)[0])


def test_mistakes_are_those_of_the_interpreter() -> None:
    q, k, v = tensors(2)
    with pytest.raises(AxisSizeMismatch, match="axis `h` has two sizes"):
        to_fx(attention())(q[:, 1:], k, v)
    x = declared("x", h)
    with pytest.raises(AbsentOutput, match="output `o` is absent at h=2"):
        to_fx(program([x], of(x)[h + 1], h))(random(3))
    for form in not_yet_forms().values():
        with pytest.raises(NotYet):
            to_fx(program([x], Value(form), *(AxisValue(axis) for axis in form.axes)))


def test_a_deep_program_is_no_problem() -> None:
    x = declared("x", h)
    value = of(x)
    for number in range(3000):
        value = value + number
    assert torch.equal(
        to_fx(program([x], value, h))(random(2))[0], interpret(program([x], value, h), {"x": random(2)})["o"]
    )
