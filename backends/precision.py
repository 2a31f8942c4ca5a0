"""The dtypes of a call: what its tensors are stored in, what it computes in, what it gives.

Tensors may be float64, float32, bfloat16 and float16. Kernels compute in float64 where they are float64
and in float32 elsewhere: a load widens, a store rounds to nearest even, and what lies between two kernels
is of the type that is computed in. Float64 mixes with no other. The results have the dtype that torch
promotes the inputs and parameters to (bfloat16 inputs and float32 parameters give float32, as in
`torch.add`); buffers and draws decide only where there are neither. An updated buffer keeps its dtype, a
gradient has that of what it is the gradient of. Autocast changes none of this: plait stands among the
operations that take the widest dtype of their arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..dsl.errors import Label, raise_all
from ..dsl.mistakes import WrongDtype
from ..dsl.ops import Kind
from ..dsl.program import Declaration, Program
from .given import called, kinds

if TYPE_CHECKING:
    from ..compiler.kernels.kernel import RealType

STORED: dict[torch.dtype, RealType] = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}
"""The dtypes that kernels load and store."""

NARROW = (torch.float16, torch.bfloat16)
"""Those that nothing is computed in."""

DTYPES: dict[RealType, torch.dtype] = {name: dtype for dtype, name in STORED.items()}

Types = tuple[tuple[str, "RealType"], ...]
"""A real type for each of some names."""

Like = tuple[tuple[str, str], ...]
"""Results by name that have the dtype of a declared tensor."""


@dataclass(frozen=True, slots=True)
class Precision:
    """`computed` in kernels; the declared tensors (`given`) and results (`made`) that are stored in
    another type, by name."""

    computed: Literal["float32", "float64"]
    given: Types = ()
    made: Types = ()

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.computed]


SINGLE = Precision("float32")


def result_names(program: Program) -> tuple[str, ...]:
    """Of the outputs, then `update:NAME` of the updated buffers."""
    outputs = (output.name for output in program.outputs)
    return (*outputs, *(f"update:{each.buffer.name}" for each in program.updates))


def uniform(program: Program, dtype: torch.dtype) -> Precision:
    """That of a call whose real tensors are all of `dtype`."""
    stored = STORED[dtype]
    if dtype in (torch.float32, torch.float64):
        return Precision("float64" if dtype == torch.float64 else "float32")
    names = [each.leaf.name for each in program.declarations if each.leaf.declared == "real"]
    declared: Types = tuple((name, stored) for name in names)
    made: Types = tuple((name, stored) for name in result_names(program))
    return Precision("float32", declared, made)


def dtype_of(kind: Kind, real: torch.dtype) -> torch.dtype:
    """The dtype of a tensor of a kind where reals are `real`. Complex numbers are of two float32 or float64."""
    match kind:
        case "bool":
            return torch.bool
        case "int":
            return torch.int64
        case "real":
            return real
        case "complex":
            return torch.complex128 if real == torch.float64 else torch.complex64


# --- what the tensors of a call say


def reals(program: Program, tensors: Mapping[str, Tensor]) -> dict[str, torch.dtype]:
    """The dtype of each real tensor, and that of the parts of each complex one. Raises WrongDtype for a
    tensor that is not of the declared kind."""
    raise_all(list(kinds(program, tensors)))
    found: dict[str, torch.dtype] = {}
    for leaf in (declaration.leaf for declaration in program.declarations):
        dtype = tensors[leaf.name].dtype
        if leaf.declared in ("real", "complex"):
            found[leaf.name] = dtype.to_real() if dtype.is_complex else dtype
    return found


def promoted(program: Program, found: Mapping[str, torch.dtype], default: torch.dtype) -> torch.dtype:
    """The dtype of results that are like no one tensor. Raises WrongDtype for float64 among others, and
    for dtypes that no kernel knows among others."""
    dtypes = set(found.values())
    if not dtypes:
        return default
    if len(dtypes) > 1 and (torch.float64 in dtypes or not dtypes <= STORED.keys()):
        raise _several(program, found)
    deciding = [found[each.leaf.name] for each in program.declarations if _decides(each, found)]
    return reduce(torch.promote_types, deciding or dtypes)


def _several(program: Program, found: Mapping[str, torch.dtype]) -> WrongDtype:
    """Dtypes that do not go together, each at the first tensor that has it."""
    spans = {each.leaf.name: each.span for each in program.declarations}
    first = {dtype: name for name, dtype in reversed(list(found.items()))}
    *others, last = [(spans[name], dtype, name) for dtype, name in reversed(list(first.items()))]
    shown = ", ".join(f"`{name}` is {dtype}" for _, dtype, name in (*others, last))
    return WrongDtype(
        f"the real tensors of one call have one dtype: {shown}",
        at=last[0], label=f"given {last[1]}",
        labels=[Label(span, f"given {dtype}") for span, dtype, _ in others if span is not None],
        notes=["of different ones only float32, bfloat16 and float16 go together", *called()],
        helps=["convert them with .to(...), or the module with .to(dtype)"],
    )  # fmt: skip


def unknown_type(program: Program, found: Mapping[str, torch.dtype], backend: str) -> WrongDtype:
    """Of a call whose dtypes no kernel knows."""
    odd = [each for each in program.declarations if found.get(each.leaf.name, torch.float32) not in STORED]
    shown = sorted({str(found[each.leaf.name]) for each in odd})
    return WrongDtype(
        f"the {backend} backend knows float32, float64, bfloat16 and float16, and not {', '.join(shown)}",
        at=odd[0].span, label=f"given {found[odd[0].leaf.name]}", notes=called(),
        helps=['convert them with .float(), or ask for backend="reference"'],
    )  # fmt: skip


def other_type(
    program: Program, found: Mapping[str, torch.dtype], common: torch.dtype, wanted: torch.dtype
) -> WrongDtype:
    """Of a call of a program that was compiled for `wanted`."""
    shown = ", ".join(f"`{name}` is {dtype}" for name, dtype in found.items())
    at = next(each for each in program.declarations if found.get(each.leaf.name) == common)
    return WrongDtype(
        f"compiled for {wanted}, and the tensors are {common}", at=at.span, label=f"given {common}",
        notes=[shown, *called()], helps=[f"convert them with .to({wanted}), or compile without `dtype=`"],
    )  # fmt: skip


def _decides(declaration: Declaration, found: Mapping[str, torch.dtype]) -> bool:
    return declaration.leaf.name in found and declaration.leaf.role in ("input", "parameter")


def result_reals(
    program: Program, found: Mapping[str, torch.dtype], common: torch.dtype, like: Like
) -> dict[str, torch.dtype]:
    """The dtype of the reals of each result: `update:NAME` is like its buffer."""
    models = dict(like) | {f"update:{each.buffer.name}": each.buffer.name for each in program.updates}
    return {name: found.get(models.get(name, ""), common) for name in result_names(program)}


def precision(found: Mapping[str, torch.dtype], made: Mapping[str, torch.dtype]) -> Precision | None:
    """What kernels are written for; None where no kernel knows the dtypes."""
    given = {*found.values(), *made.values()}
    if not given <= STORED.keys():
        return None
    computed = "float64" if torch.float64 in given else "float32"
    own = DTYPES[computed]
    return Precision(
        computed,
        tuple((name, STORED[dtype]) for name, dtype in found.items() if dtype != own),
        tuple((name, STORED[dtype]) for name, dtype in made.items() if dtype != own),
    )
