"""The compiled program as a torch.fx GraphModule: one node a kernel or reference operation.

It runs, on tensors of the sizes that it was made for, and gives what the compiled program gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from ..dsl.program import Axis
from .executable import Call, Executable, Operation, Result, unpack
from .given import plain
from .pages import fresh


@dataclass(frozen=True, eq=False)
class Named:
    """A callable with the names that fx prints."""

    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "__name__", self.name)
        object.__setattr__(self, "__qualname__", self.name)
        object.__setattr__(self, "__module__", "plait.kernels")


@dataclass(frozen=True, eq=False)
class Unpacked(Named):
    """A given tensor, seen with one dimension an axis."""

    shape: tuple[int, ...]
    packs: tuple[int, ...]

    def __call__(self, tensor: Tensor) -> Tensor:
        return unpack(tensor.detach(), self.shape, self.packs)


@dataclass(frozen=True, eq=False)
class Launched(Named):
    """One kernel: it takes the tensors that it reads and gives those that it writes."""

    call: Call
    numbers: tuple[int, ...]
    made: tuple[tuple[str, tuple[int, ...], torch.dtype], ...]

    def __call__(self, *reads: Tensor, device: torch.device) -> tuple[Tensor, ...]:
        held = {name: fresh(shape, dtype, device) for name, shape, dtype in self.made}
        given = map(plain, reads)
        self.call.built(
            [held[name] if name in held else next(given) for name in self.call.tensors], self.numbers
        )
        return tuple(held.values())


@dataclass(frozen=True, eq=False)
class Referred(Named):
    """One reference operation on the tensors by name."""

    operation: Operation
    names: tuple[str, ...]
    sizes: Mapping[Axis, int]

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.operation(dict(zip(self.names, tensors, strict=True)), self.sizes).values())


@dataclass(frozen=True, eq=False)
class Laid(Named):
    """A result in the layout of the header."""

    result: Result

    def __call__(self, tensor: Tensor) -> Tensor:
        return self.result.of(tensor)


def _part(values: tuple[Tensor, ...], index: int) -> Tensor:
    return values[index]


def kernel_graph(
    executable: Executable,
    shapes: Mapping[str, list[int]],
    numbers: list[list[int]],
    sizes: Mapping[Axis, int],
    device: torch.device,
) -> GraphModule:
    """The graph of one shape of call."""
    slots = {slot.name: slot for slot in executable.slots}
    graph = Graph()
    nodes = _given(graph, executable, shapes)
    for step, values in zip(executable.steps, numbers, strict=True):
        if isinstance(step, Call):
            made = list(dict.fromkeys(n for n in step.tensors if not slots[n].given and n not in nodes))
            reads = [nodes[name] for name in step.tensors if name in nodes]
            shaped = tuple((name, tuple(shapes[name]), slots[name].dtype) for name in made)
            target = Launched(step.built.name, step, tuple(values), shaped)
            node = graph.call_function(target, tuple(reads), {"device": device})
        else:
            made = [name for name in (step.name, f"{step.name}?") if name in slots]
            referred = Referred(identifier(step.name), step, tuple(nodes), sizes)
            node = graph.call_function(referred, tuple(nodes.values()))
        for i, name in enumerate(made):
            nodes[name] = graph.call_function(_part, (node, i))
    results: list[Node] = []
    for result in executable.outputs:
        node = nodes[result.slot]
        laid = Laid(identifier(result.name), result)
        plain = result.plain and slots[result.slot].dtype == result.dtype
        results.append(node if plain else graph.call_function(laid, (node,)))
    graph.output(tuple(results))
    graph.lint()
    return GraphModule(torch.nn.Module(), graph)


def _given(graph: Graph, executable: Executable, shapes: Mapping[str, list[int]]) -> dict[str, Node]:
    """The placeholders, in order, and their views with one dimension an axis."""
    given = [slot for slot in executable.slots if slot.given]
    nodes = {slot.name: graph.placeholder(identifier(slot.name)) for slot in given}
    for slot in given:
        if any(pack != 1 for pack in slot.packs):
            view = Unpacked("view", tuple(shapes[slot.name]), slot.packs)
            nodes[slot.name] = graph.call_function(view, (nodes[slot.name],))
    return nodes


def identifier(name: str) -> str:
    """A name of a tensor as Python allows it."""
    return "".join(c if c.isalnum() else "_" for c in name)
