"""Programs whose author says what their derivative is (`as_if`, `on_gradient`), and functions that have it.

No difference of such a program shows its derivative. Near a point x0 there is a function that has it, to any
order: with v0, s0 and m0 the values of v, s and m at x0,

    as_if(v, s)             v0 + s - s0, as far as s is present, where v is present
    on_gradient(x, g: m*g)  x0 + conj(m0) * (x - x0), where x is present

`unmarked` writes it, with v0, s0 and m0 as tensors, and its differences show what the program's gradient must be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import strategies as st
from torch import Tensor

from plait.compiler.meaning.interpret import interpret
from plait.compiler.meaning.partial import Sizes
from plait.compiler.rewrites.rewrite import rebuild, spread, substitute
from plait.compiler.rewrites.simplify import rewrite_program
from plait.dsl.constructors import build, build_special
from plait.dsl.program import (
    AsIf,
    Const,
    Declaration,
    Form,
    Leaf,
    Map,
    OnGradient,
    Output,
    Program,
    children,
    walk,
)
from strategies import Draw, Example
from writer import add, mul, sub

MARKS = (AsIf, OnGradient)


def is_marked(program: Program) -> bool:
    return any(isinstance(form, MARKS) for form in program.forms)


# --- a function with that derivative


class _Unmarked:
    """One program at one point: its forms without marks, and the values that they hold."""

    def __init__(self, program: Program, tensors: Mapping[str, Tensor], sizes: Sizes) -> None:
        self.program, self.tensors, self.sizes = program, dict(tensors), sizes
        self.added: list[Declaration] = []

    def held(self, form: Form) -> Leaf:
        """The value of a form at the point, as a tensor; 0 where it is absent."""
        nothing = Const(False) if form.kind == "bool" else Const(0.0)
        whole = spread(build.otherwise(form, nothing), form.axes)
        items = tuple((axis,) for axis in whole.axes)
        asked = replace(
            self.program, inputs=(*self.program.inputs, *self.added), outputs=(Output("held", whole, items),),
            updates=(), names=(),
        )  # fmt: skip
        name = f"held{len(self.added)}"
        self.tensors[name] = interpret(asked, self.tensors, self.sizes)["held"]
        leaf = Leaf("input", name, whole.axes, whole.kind)
        self.added.append(Declaration(leaf, items))
        return leaf

    def there(self, form: Form, value: Form) -> Form:
        """The value where a form is present."""
        return build.when(self.held(build.present(form)), value)

    def __call__(self, form: Form) -> Form:
        """A form whose operands have no marks."""
        match form:
            case AsIf(value=v, surrogate=s):
                moved = build.otherwise(sub(s, self.held(s)), Const(0.0))
                return self.there(v, add(self.held(v), moved))
            case OnGradient(value=x, rule=Map(op="mul", args=(Leaf(role="bound"), m))):
                factor = build.otherwise(m, Const(0.0))
                factor = build.apply("conj", factor) if factor.kind == "complex" else factor
                moved = mul(self.held(factor), sub(x, self.held(x)))
                return self.there(x, add(self.held(x), moved))
            case OnGradient():
                raise AssertionError("a rule is written as its cotangent times a value")
            case _:
                return form


def unmarked(
    program: Program, tensors: Mapping[str, Tensor], sizes: Sizes
) -> tuple[Program, dict[str, Tensor]]:
    """A program without marks that has the value and, at these tensors, all derivatives of this one."""
    maker = _Unmarked(program, tensors, sizes)
    done: dict[Form, Form] = {}
    for form in walk(output.value for output in program.outputs):
        done[form] = maker(rebuild(form, [done[child] for child in children(form)]))
    outputs = tuple(
        replace(each, value=spread(done[each.value], each.value.axes)) for each in program.outputs
    )
    made = replace(program, inputs=(*program.inputs, *maker.added), outputs=outputs, updates=(), names=())
    return made, maker.tensors


# --- drawing


@st.composite
def marked(draw: Draw, strategy: st.SearchStrategy[Example]) -> Example:
    """A program of the strategy with one or two of its values marked."""
    example = draw(strategy)
    program = example.program
    for number in range(draw(st.integers(1, 2))):
        reals = [form for form in program.forms if form.kind == "real" and not isinstance(form, Const)]
        inside = {
            leaf for form in program.forms if isinstance(form, OnGradient) for leaf in (form.cotangent,)
        }
        reals = [form for form in reals if inside.isdisjoint(walk((form,)))]
        if not reals:
            break
        value = draw(st.sampled_from(reals))
        fitting = [form for form in reals if set(form.axes) <= set(value.axes)]
        mark = _mark(draw, value, draw(st.sampled_from(fitting)), f"g{number}")
        program = rewrite_program(program, lambda root, v=value, m=mark: substitute(root, {v: m}))
    return replace(example, program=program)


def _mark(draw: Draw, value: Form, other: Form, name: str) -> Form:
    """The value marked, with another one over some of its axes."""
    cotangent = build_special.cotangent(value, name)
    curve = build.apply("sin", other)
    match draw(st.sampled_from(("as if", "on gradient", "half", "stop"))):
        case "as if":
            return build_special.as_if(value, curve)
        case "on gradient":
            return build_special.on_gradient(
                value, cotangent, mul(cotangent, build.otherwise(curve, Const(2.0)))
            )
        case "half":
            return build_special.on_gradient(value, cotangent, mul(cotangent, Const(0.5)))
        case _:
            return build_special.stop(value)
