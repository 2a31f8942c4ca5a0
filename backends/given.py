"""The tensors of a call beside what its program declares. What does not fit is told at the declaration, with
the place of the call and what it gave; all of it at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..dsl.errors import Label, PlaitError, raise_all
from ..dsl.mistakes import UnknownArgument, WrongDevice, WrongDtype
from ..dsl.ops import Kind
from ..dsl.position import place_of_call
from ..dsl.program import Declaration, Program


def check_given(program: Program, tensors: Mapping[str, object]) -> None:
    """Every declared tensor is there and no other, they are on one device, in memory that a kernel can read,
    and of the declared kinds. Raises UnknownArgument, WrongDtype, WrongDevice."""
    raise_all([*_names(program, tensors), *_layouts(program, tensors)])
    found = [(d, tensor) for d in program.declarations if isinstance(tensor := tensors[d.leaf.name], Tensor)]
    raise_all([*_devices(found), *kinds(program, {d.leaf.name: tensor for d, tensor in found})])


def _names(program: Program, tensors: Mapping[str, object]) -> Iterator[PlaitError]:
    declared = {each.leaf.name: each for each in program.declarations}
    for name, declaration in declared.items():
        if name not in tensors:
            yield UnknownArgument(
                f"{declaration.leaf.role} `{name}` of `{program.name}` has no tensor",
                at=declaration.span, label="declared here", notes=called(tensors),
            )  # fmt: skip
    for name in tensors:
        if name not in declared:
            yield UnknownArgument(
                f"`{program.name}` has no tensor `{name}`", notes=[f"tensors: {', '.join(declared)}"]
            )


def _layouts(program: Program, tensors: Mapping[str, object]) -> Iterator[PlaitError]:
    for declaration in program.declarations:
        name = declaration.leaf.name
        given = tensors.get(name)
        if name not in tensors or _is_strided(given):
            continue
        if not isinstance(given, Tensor):
            what, help_ = type(given).__name__, f"make it one with torch.as_tensor({name})"
        elif given.is_nested:
            what, help_ = "nested tensor", "pad it, and pass its lengths as an input of their own"
        else:
            what, help_ = f"tensor in {given.layout}", "convert it with .to_dense()"
        yield WrongDtype(
            f"{declaration.leaf.role} `{name}` takes a dense tensor, and found a {what}",
            at=declaration.span, label=f"given a {what}", notes=called(), helps=[help_],
        )  # fmt: skip


def _is_strided(given: object) -> bool:
    return isinstance(given, Tensor) and given.layout == torch.strided and not given.is_nested


def _devices(found: Sequence[tuple[Declaration, Tensor]]) -> Iterator[PlaitError]:
    first = {tensor.device: declaration for declaration, tensor in reversed(found)}
    if len(first) > 1:
        places = list(reversed(first.items()))
        shown = ", ".join(f"`{declaration.leaf.name}` on {device}" for device, declaration in places)
        *others, (odd, last) = places
        yield WrongDevice(
            f"the tensors of one call lie on different devices: {shown}", at=last.span, label=f"on {odd}",
            labels=[Label(each.span, f"on {device}") for device, each in others if each.span is not None],
            notes=called({each.leaf.name: tensor for each, tensor in found}),
        )  # fmt: skip


def kinds(program: Program, tensors: Mapping[str, Tensor]) -> Iterator[PlaitError]:
    """A WrongDtype for each tensor that is not of the declared kind; nothing is converted."""
    meant = {"bool": "torch.bool", "int": "torch.int64", "complex": "torch.complex64"}
    for declaration in program.declarations:
        leaf, dtype = declaration.leaf, tensors[declaration.leaf.name].dtype
        if not _fits(dtype, leaf.declared):
            yield WrongDtype(
                f"{leaf.role} `{leaf.name}` is {leaf.declared} and its tensor is {dtype}",
                at=declaration.span, label=f"given {dtype}", notes=called(tensors),
                helps=[f"convert it with .to({meant.get(leaf.declared, 'torch.float32')})"],
            )  # fmt: skip


def _fits(dtype: torch.dtype, kind: Kind) -> bool:
    """Whether a tensor of `dtype` is of a kind, without any conversion."""
    match kind:
        case "bool":
            return dtype == torch.bool
        case "int":
            return dtype == torch.int64
        case "real":
            return dtype.is_floating_point
        case "complex":
            return dtype.is_complex


def called(tensors: Mapping[str, object] | None = None) -> list[str]:
    """The notes that say where the call is, if it is in a file, and with which tensors."""
    place = place_of_call()
    at = f" at {place}" if place else ""
    rows = {f"{name}:": x for name, x in (tensors or {}).items() if isinstance(x, Tensor)}
    if not rows:
        return [f"called{at}"] if place else []
    wide = max(map(len, rows))
    return [f"called{at} with", *(f"  {name:<{wide}} {_shown(tensor)}" for name, tensor in rows.items())]


def _shown(tensor: Tensor) -> str:
    """`float32[8, 64] on cuda:0`."""
    where = "" if tensor.device.type == "cpu" else f" on {tensor.device}"
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}{where}"


def plain(tensor: Tensor) -> Tensor:
    """The tensor without its graph, its values in memory as they are: torch keeps a minus sign, and zeros
    that are all zero, as a mark beside the memory."""
    detached = tensor.detach()
    return detached.clone() if marked(detached) else detached


def marked(tensor: Tensor) -> bool:
    """Whether its values are not what lies in memory."""
    return tensor.is_neg() or tensor._is_zerotensor()
