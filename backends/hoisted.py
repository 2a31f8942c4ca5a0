"""Values made of weights only, computed once for as long as the weights stay as they are.

A call that nobody differentiates, traces or transforms runs the rest of the program on what was computed from
the weights before; any other one runs the whole program. Weights have stayed if they are the same tensors in
the same memory with the same version counters, which every edit that torch sees raises: optimiser steps,
load_state_dict, edits in place under no_grad. Edits through `.data` or NumPy it does not see: switching the
module between train() and eval(), which forgets what was computed, is for those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor
from torch.autograd import forward_ad

from ..compiler.rewrites.weights import promising
from ..dsl.program import Program
from . import hoists
from .autograd import PLAIN, Differentiable
from .compiled import Compiled

Mark = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """What was computed, from which weights. `weights` holds each, and a view of the memory that it had, so
    that nothing else can come to have the identity of the one or the place of the other."""

    marks: tuple[Mark, ...]
    weights: tuple[tuple[Tensor, Tensor], ...]
    values: dict[str, Tensor]


@dataclass(slots=True, eq=False)
class Memory:
    """What one module remembers, an entry a program. Copies of the module begin with nothing."""

    entries: dict[int, Entry] = field(default_factory=dict[int, Entry], repr=False)

    def clear(self) -> None:
        self.entries = {}

    def __deepcopy__(self, memo: object) -> Memory:
        return Memory()

    def __reduce__(self) -> tuple[object, ...]:
        return Memory, ()


@dataclass(frozen=True, slots=True, eq=False)
class Hoisted:
    """A program in two: `weights` gives the tensors `names` of those named in `reads`; `rest` takes them as
    parameters."""

    weights: Compiled
    rest: Differentiable
    names: tuple[str, ...]
    reads: tuple[str, ...]

    def ran(self) -> tuple[Compiled, ...]:
        """The programs that calls have run so far."""
        return self.rest.ran() + ((self.weights,) if self.weights.last is not None else ())

    def __call__(self, tensors: Mapping[str, Tensor], memory: Memory) -> dict[str, Tensor] | None:
        """The results, or None for a call that has to run the whole program."""
        given = [tensors[name] for name in self.reads]
        every = list(tensors.values())
        if not _plain(every) or not _alike(every) or _capturing(given):
            return None
        marks = tuple(map(_mark, given))
        entry = memory.entries.get(id(self))
        if entry is None or entry.marks != marks:
            values = self.weights.run(dict(zip(self.reads, given, strict=True)))
            entry = Entry(marks, tuple((each, each.detach()) for each in given), values)
            memory.entries[id(self)] = entry
        return self.rest({**tensors, **entry.values})


def split(program: Program, compiled: Compiled) -> Hoisted | None:
    """The program in two, where it holds values made of weights that are worth it."""
    known = compiled.backend != "reference" and promising(program)
    found = hoists().hoist(program) if known else None
    if found is None:
        return None

    def made(part: Program) -> Compiled:
        return compiled.beside(part)

    return Hoisted(made(found.weights), Differentiable(made(found.rest)), found.names, found.reads)


def _plain(tensors: Sequence[Tensor]) -> bool:
    """Whether nobody looks on: autograd, forward mode, transforms, tracing, tensors of other classes."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return False
    if forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active():
        return False
    own = all(type(tensor) in PLAIN and not is_legacy_batchedtensor(tensor) for tensor in tensors)
    return own and not torch._C._len_torch_dispatch_stack()


def _mark(tensor: Tensor) -> Mark:
    """What changes when a tensor does. The stream is there because what was computed on one is not yet there
    for another."""
    stream = torch.cuda.current_stream(tensor.device).cuda_stream if tensor.is_cuda else 0
    own = (id(tensor), tensor.data_ptr(), tensor._version, tensor.dtype, tensor.device, stream)
    return (*own, tuple(tensor.shape), tensor.stride())


def _alike(tensors: Sequence[Tensor]) -> bool:
    """Whether all reals are of one dtype that kernels compute in, so that a value is stored as computed."""
    reals = {each.dtype for each in tensors if each.is_floating_point()}
    return len(reals) == 1 and reals <= {torch.float32, torch.float64}


def _capturing(tensors: Sequence[Tensor]) -> bool:
    """Whether the launches are recorded for later, or a tensor has no version counter."""
    if any(tensor.is_inference() for tensor in tensors):
        return True
    return any(tensor.is_cuda for tensor in tensors) and torch.cuda.is_current_stream_capturing()
