"""How one shape of call runs.

Kernels of the CPU take addresses. So what they need beside them (sizes, strides, places in the room between kernels)
is put down once for a shape of call, and a call is: make the results and the room, look up addresses, launch
(`Direct`). Other calls (kernels that take tensors, reference operations, parts along a cut) go tensor by tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..dsl.program import Axis
from .executable import Call, Executable, Result, packed_shape, unpack
from .given import marked, plain
from .pages import fresh
from .workspace import Workspace

Launch = Callable[[Sequence[int]], None]
"""A kernel of one shape of call, which takes the addresses of its tensors."""


@dataclass(frozen=True, slots=True)
class Direct:
    """A call by addresses. `launches` name places among the addresses: those of the `given` tensors, of the `made`
    ones (shape and dtype), of what lies in the room of `bytes`, at `offsets`. `results` name places among the `made`,
    with the layout where it is another one, and whether the tensor has another name already."""

    given: tuple[str, ...]
    made: tuple[tuple[tuple[int, ...], torch.dtype], ...]
    bytes: int
    offsets: tuple[int, ...]
    launches: tuple[tuple[Launch, tuple[int, ...]], ...]
    results: tuple[tuple[str, int, Result | None, bool], ...]

    def __call__(self, tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        """The results in new tensors, of which no two share memory."""
        made = [fresh(shape, dtype, device) for shape, dtype in self.made]
        at = [tensors[name].data_ptr() for name in self.given]
        at += [tensor.data_ptr() for tensor in made]
        if self.offsets:
            room = fresh((self.bytes,), torch.uint8, device)
            first = room.data_ptr()
            at += [first + offset for offset in self.offsets]
        for launch, places in self.launches:
            launch([at[place] for place in places])
        results: dict[str, Tensor] = {}
        for name, place, layout, again in self.results:
            tensor = made[place] if layout is None else layout.of(made[place])
            results[name] = tensor.clone() if again else tensor
        return results


@dataclass(slots=True)
class Running:
    """One shape of call: what to allocate and what to launch."""

    executable: Executable
    sizes: dict[Axis, int]
    shapes: dict[str, list[int]]
    numbers: list[list[int]]
    device: torch.device
    workspace: Workspace | None
    _direct: Direct | None = field(default=None, init=False, repr=False)
    _asked: bool = field(default=False, init=False, repr=False)

    def __call__(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The results, contiguous, none of which shares memory with another or with a given tensor."""
        if not self._asked:
            self._direct, self._asked = self._written(tensors), True
        if self._direct is not None and not any(map(marked, tensors.values())):
            return self._direct(tensors, self.device)
        return apart(self._by_tensors(tensors), tensors)

    # --- by tensors

    def _by_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        slots = [slot for slot in self.executable.slots if slot.given]
        held = {
            slot.name: unpack(plain(tensors[slot.name]), self.shapes[slot.name], slot.packs) for slot in slots
        }
        if self.workspace is not None:
            self.workspace.run(held, self.shapes, self.device)
        else:
            self._run(held)
        return {result.name: result.of(held[result.slot]) for result in self.executable.outputs}

    def _run(self, held: dict[str, Tensor]) -> None:
        """Run the steps, each value in a tensor of its own."""
        for slot in self.executable.slots:
            if not slot.given:
                held[slot.name] = fresh(self.shapes[slot.name], slot.dtype, self.device)
        for step, numbers in zip(self.executable.steps, self.numbers, strict=True):
            if isinstance(step, Call):
                step.built([held[name] for name in step.tensors], numbers)
            else:
                with self.device:  # what a reference operation makes lies beside what it is given
                    held |= step(held, self.sizes)

    # --- by addresses

    def _written(self, tensors: Mapping[str, Tensor]) -> Direct | None:
        """The call by addresses. None where a kernel takes tensors, a step is no kernel, the call runs in parts, or
        a result is what was given."""
        executable, given = self.executable, [slot for slot in self.executable.slots if slot.given]
        results = {result.slot for result in executable.outputs}
        in_parts = self.workspace is not None and self.workspace.cuts
        if in_parts or not executable.portable or results & {slot.name for slot in given}:
            return None
        made = [slot for slot in executable.slots if slot.name in results]
        part = Workspace(executable, self.sizes).part(())
        strides = {slot.name: _contiguous(self.shapes[slot.name]) for slot in executable.slots}
        for slot in given:
            view = unpack(tensors[slot.name].detach(), self.shapes[slot.name], slot.packs)
            strides[slot.name] = view.stride()
        names = [*(slot.name for slot in (*given, *made)), *(each.slot.name for each in part.laid)]
        places = {name: place for place, name in enumerate(names)}
        launches: list[tuple[Launch, tuple[int, ...]]] = []
        for step, numbers in zip(executable.steps, self.numbers, strict=True):
            assert isinstance(step, Call)
            launch = step.built.by_address([strides[name] for name in step.tensors], numbers)
            if launch is None:
                return None
            launches.append((launch, tuple(places[name] for name in step.tensors)))
        shapes, layouts = self._results([slot.name for slot in made])
        return Direct(
            tuple(slot.name for slot in given),
            tuple((shapes[slot.name], slot.dtype) for slot in made),
            part.bytes,
            tuple(each.first * each.slot.dtype.itemsize for each in part.laid),
            tuple(launches),
            layouts,
        )

    def _results(
        self, made: Sequence[str]
    ) -> tuple[dict[str, tuple[int, ...]], tuple[tuple[str, int, Result | None, bool], ...]]:
        """The shapes that the `made` slots are made in, and the results. A value with one name is made in the shape
        that it has outside."""
        shapes = {name: tuple(self.shapes[name]) for name in made}
        dtypes = {slot.name: slot.dtype for slot in self.executable.slots}
        layouts: list[tuple[str, int, Result | None, bool]] = []
        slots = [result.slot for result in self.executable.outputs]
        for i, result in enumerate(self.executable.outputs):
            same = result.dtype == dtypes[result.slot]
            ordered = result.order == tuple(range(len(result.order)))
            if same and ordered and slots.count(result.slot) == 1:
                shapes[result.slot] = tuple(packed_shape(shapes[result.slot], result.packs))
                layout = None
            else:
                layout = None if same and result.plain else result
            layouts.append((result.name, made.index(result.slot), layout, result.slot in slots[:i]))
        return shapes, tuple(layouts)


def apart(results: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The results, contiguous, none of which shares memory with another or with a given tensor."""
    taken = {_memory(tensor) for tensor in tensors.values()}
    found: dict[str, Tensor] = {}
    for name, made in results.items():
        tensor = made if _memory(made) not in taken else made.clone()
        taken.add(_memory(tensor))
        found[name] = tensor.contiguous()
    return found


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a new tensor."""
    strides: list[int] = []
    step = 1
    for extent in reversed(shape):
        strides.insert(0, step)
        step *= max(extent, 1)
    return tuple(strides)
