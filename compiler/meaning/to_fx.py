"""A Program as a torch.fx GraphModule that already runs: one node a form.

    placeholders      the declarations in order (inputs, parameters, buffers, draws); None for an
                      optional input that is not given
    sizes             binds the sizes of the call
    one call_function for each form, operands first; its args are the nodes of `operands_of(form)` (of a
                      leaf: its placeholder), its target an `Operation`, its only meta `plait`: Typed
    one call_function for each result, which lays a value out as its tensor
    output            the tuple of results: outputs, then updated buffers

Every later step can be compared with this module by running both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from ...dsl.ops import Kind
from ...dsl.program import Axis, Const, Coordinate, Declaration, Form, Leaf, Map, Program, Reduce, Size
from ...dsl.shapes.sizes import bind_sizes
from ...dsl.source import Span
from .interpret import evaluate
from .memory import operands_of, plan
from .partial import Partial, Sizes
from .storage import Result, load, results, store

META = "plait"
"""The one key of node.meta; form nodes have it, and no others."""


@dataclass(frozen=True, slots=True)
class Typed:
    """What a node stands for."""

    form: Form

    @property
    def axes(self) -> tuple[Axis, ...]:
        return self.form.axes

    @property
    def kind(self) -> Kind:
        return self.form.kind

    @property
    def span(self) -> Span | None:
        return self.form.span


@dataclass(frozen=True)
class Target:
    """A callable that a graph can hold: fx prints it as `plait_NAME`."""

    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "__name__", self.name)
        object.__setattr__(self, "__qualname__", self.name)
        object.__setattr__(self, "__module__", "plait")


@dataclass(frozen=True)
class Operation(Target):
    """The reference meaning of one form, on the values of its operands."""

    form: Form

    def __call__(self, *operands: Partial, sizes: Sizes) -> Partial:
        return evaluate(self.form, operands, sizes)


@dataclass(frozen=True)
class Load(Target):
    """A leaf: the tensor of a declaration as a value."""

    declaration: Declaration

    def __call__(self, tensor: Tensor | None, sizes: Sizes) -> Partial:
        return load(self.declaration, tensor, sizes)


@dataclass(frozen=True)
class Store(Target):
    """A result: a value as a tensor in the layout of the header."""

    result: Result

    def __call__(self, value: Partial, sizes: Sizes) -> Tensor:
        return store(self.result, value, sizes)


@dataclass(frozen=True, eq=False)
class Bind(Target):
    """The sizes of a call, from the shapes of its tensors."""

    program: Program

    def __call__(self, *tensors: Tensor | None) -> Sizes:
        names = (declaration.leaf.name for declaration in self.program.declarations)
        given = zip(names, tensors, strict=True)
        return bind_sizes(self.program, {name: tuple(x.shape) for name, x in given if x is not None})


def to_fx(program: Program) -> GraphModule:
    """The program as a module whose forward takes the declared tensors in order and returns the tuple
    of results. Raises NotYet for a form that the interpreter does not run."""
    graph = Graph()
    tensors = {each.leaf: _placeholder(graph, each) for each in program.declarations}
    declared: dict[Form, Declaration] = {each.leaf: each for each in program.declarations}
    sizes = graph.create_node(
        "call_function", Bind("bind_sizes", program), tuple(tensors.values()), {}, "sizes"
    )
    named = {form: name for name, form in program.names}
    nodes: dict[Form, Node] = {}
    for form, _ in plan(program.roots):
        name = identifier(named.get(form) or describe(form))
        if isinstance(form, Leaf):
            target, args = Load(name, declared[form]), (tensors[form],)
        else:
            target, args = Operation(name, form), tuple(nodes[operand] for operand in operands_of(form))
        nodes[form] = graph.create_node("call_function", target, args, {"sizes": sizes}, name)
        nodes[form].meta[META] = Typed(form)
    returned = [_result(graph, nodes, sizes, each) for each in results(program)]
    graph.output(tuple(returned))
    return GraphModule(torch.nn.Module(), graph, identifier(program.name))


def _placeholder(graph: Graph, declaration: Declaration) -> Node:
    node = graph.placeholder(identifier(declaration.leaf.name))
    node.target = node.name  # two declared names may give one identifier
    return node


def _result(graph: Graph, nodes: dict[Form, Node], sizes: Node, result: Result) -> Node:
    name = identifier(f"{result.key}_stored")
    return graph.create_node(
        "call_function", Store(name, result), (nodes[result.value],), {"sizes": sizes}, name
    )


def identifier(name: str) -> str:
    """`dwconv.weight` -> `dwconv_weight`."""
    return re.sub(r"\W", "_", name)


def describe(form: Form) -> str:
    """A readable name for a form that the author gave none."""
    match form:
        case Map(op=name) | Reduce(op=name):
            return name
        case Leaf(name=name):
            return f"{name}_value"
        case Coordinate(axis=axis):
            return f"index_{axis.name}"
        case Size(axis=axis):
            return f"size_{axis.name}"
        case Const(value=value):
            return f"constant_{value}"
        case _:
            return type(form).__name__.lower()
