"""How the tensors of a module begin: their shapes, and the initialisers and distributions of
`dsl.constructors.initialisers` with torch's generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import init

from ..dsl.constructors.build import size
from ..dsl.constructors.initialisers import Initialiser, initialiser, read_initialiser
from ..dsl.errors import PlaitError, raise_all
from ..dsl.mistakes import DuplicateParameter, InvalidArgument, InvalidSize
from ..dsl.program import Axis, Declaration, Program
from ..dsl.shapes.size_forms import axes_within, evaluate_size
from .precision import dtype_of

FILLS: Mapping[str, Callable[..., object]] = {
    "constant": lambda tensor, value: tensor.fill_(value),
    "normal": lambda tensor, mean, std: tensor.normal_(mean, std),
    "uniform": lambda tensor, low, high: tensor.uniform_(low, high),
    "trunc_normal": lambda tensor, std, mean, low, high: init.trunc_normal_(tensor, mean, std, low, high),
    "xavier_uniform": lambda tensor, gain: init.xavier_uniform_(tensor, gain),
    "xavier_normal": lambda tensor, gain: init.xavier_normal_(tensor, gain),
    "kaiming_uniform": lambda tensor, slope: init.kaiming_uniform_(tensor, slope),
    "kaiming_normal": lambda tensor, slope: init.kaiming_normal_(tensor, slope),
    "orthogonal": lambda tensor, gain: init.orthogonal_(tensor, gain),
    "bernoulli": lambda tensor, p: tensor.bernoulli_(p),
    "gumbel": lambda tensor, location, scale: tensor.exponential_().log_().mul_(-scale).add_(location),
}
"""A real tensor filled in place, by name of the initialiser and its numbers."""

BY_FAN = ("xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "orthogonal")
"""Initialisers that need an output and an input dimension, the first two."""

LINEAR = initialiser("kaiming_uniform", 5**0.5)
"""What torch.nn.Linear and Conv do: uniform between -1 and 1 over the root of the fan-in."""


def filled(tensor: Tensor, how: Initialiser) -> Tensor:
    """The real tensor, filled in place."""
    FILLS[how.name](tensor, *how.numbers)
    return tensor


def begin(declaration: Declaration, shape: Sequence[int], dtype: torch.dtype, device: object) -> Tensor:
    """A new tensor for a parameter or buffer, with its initial value.

    Without an initialiser a weight of two or more dimensions begins as those of torch.nn.Linear and Conv
    do, a vector or scalar whose key ends in `weight` at 1 (the scale of a norm), every other at 0.
    Raises InvalidArgument.
    """
    how = read_initialiser(declaration.init) if declaration.init is not None else _default(declaration)
    if how.name in BY_FAN and len(shape) < 2:
        raise InvalidArgument(
            f"`{declaration.leaf.name}` has {len(shape)} dimensions, and `{how}` needs an output and an input",
            at=declaration.span,
        )
    tensor = torch.empty(tuple(shape), dtype=dtype, device=device)  # type: ignore[call-overload]
    with torch.no_grad():
        if dtype.is_complex:
            parts = (
                filled(part, how) for part in (torch.empty_like(tensor.real), torch.empty_like(tensor.imag))
            )
            return torch.complex(*parts) if how.name != "constant" else tensor.fill_(how.numbers[0])
        if dtype.is_floating_point:
            return filled(tensor, how)
    if how.name != "constant" or not how.numbers[0].is_integer():
        raise InvalidArgument(
            f"`{declaration.leaf.name}` is {declaration.leaf.declared}, and cannot begin as `{how}`",
            at=declaration.span,
        )
    return tensor.fill_(int(how.numbers[0]))


def _default(declaration: Declaration) -> Initialiser:
    leaf = declaration.leaf
    if leaf.declared in ("int", "bool") or leaf.role == "buffer":
        return initialiser("constant", 0.0)
    if len(declaration.items) >= 2:
        return LINEAR
    return initialiser("constant", 1.0 if leaf.name.split(".")[-1] == "weight" else 0.0)


# --- the tensors of a module


def declared_tensors(
    programs: Sequence[Program], real: torch.dtype, device: object
) -> Iterator[tuple[Declaration, Tensor]]:
    """Every parameter and buffer of the programs once, with its initial value.

    Raises InvalidSize for those whose size is not known, DuplicateParameter for those that differ between
    programs, all together, and InvalidArgument.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    declared: dict[str, Declaration] = {}
    mistakes: list[PlaitError] = []
    for program in programs:
        for each in (*program.parameters, *program.buffers):
            try:
                shape = _shape(program, each)
            except InvalidSize as mistake:
                mistakes.append(mistake)
                continue
            first = shapes.setdefault(each.leaf.name, shape)
            if first != shape:
                mistakes.append(DuplicateParameter(
                    f"`{each.leaf.name}` of `{program.name}` has shape {first} in one of its programs and {shape} "
                    "in another", at=each.span, label="declared here",
                ))  # fmt: skip
            declared.setdefault(each.leaf.name, each)
    raise_all(mistakes)
    for name, each in declared.items():
        yield each, begin(each, shapes[name], dtype_of(each.leaf.declared, real), device)


def _shape(program: Program, declaration: Declaration) -> tuple[int, ...]:
    """The shape of a parameter or buffer; raises InvalidSize where the program leaves it open."""
    known = dict(program.fixed)
    unknown = [
        axis for axis in axes_within([size(axis) for axis in declaration.leaf.over]) if axis not in known
    ]
    if unknown:
        shown = ", ".join(f"`{axis.name}`" for axis in unknown)
        raise InvalidSize(
            f"{declaration.leaf.role} `{declaration.leaf.name}` of `{program.name}` is over {shown}, whose size "
            "a module must know",
            at=declaration.span, label="declared here",
            helps=[f"give it: `.module({', '.join(f'{axis.name}=...' for axis in unknown)})`"],
        )  # fmt: skip
    return tuple(_extent(item, known) for item in declaration.items)


def _extent(item: Sequence[Axis], known: Mapping[Axis, int]) -> int:
    total = 1
    for axis in item:
        total *= evaluate_size(size(axis), known)
    return total
