"""Programs run by the meaning of their kernels: the schedule against the interpreter, without a printer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from agreement import agree
from kernel_meaning import run
from plait.backends.executable import ground, shape_of
from plait.compiler.kernels.kernel import Kernel, RealType
from plait.compiler.kernels.written import Written
from plait.compiler.meaning.interpret import interpret
from plait.compiler.pipeline import Planned, plan_program, shape_forms, write_kernels
from plait.compiler.schedules.schedule import Schedule, StreamSchedule, TileSchedule, WindowSchedule
from plait.dsl.constructors.batch import expand_batch
from plait.dsl.elaboration.elaborate import elaborate
from plait.dsl.program import Axis, Form, Leaf, Program
from plait.dsl.shapes.size_forms import evaluate_size
from plait.dsl.shapes.sizes import bind_sizes
from plait.dsl.text.parse import parse_text

SMALL = TileSchedule(
    width=8,
    run=4,
    window_run=2,
    least_width=4,
    outputs=3,
    chunk=4,
    resident=64,
    depth=32,
    streamed_outputs=True,
    halo=True,
)
"""A machine so small that ugly sizes overhang every tile of it."""


def read(text: str, batch: int = 0, **statics: int) -> Program:
    """The last mixer of a text, its batch made of so many axes."""
    mixer = parse_text(text)[-1]
    return expand_batch(elaborate(mixer, statics, {}), batch)


def kernels(
    program: Program,
    sizes: Mapping[Axis, int],
    tiles: TileSchedule = SMALL,
    real: RealType = "float64",
    windows: WindowSchedule | None = None,
) -> tuple[Planned, dict[str, Written]]:
    """The plan and the kernels of a program, everything checked on the way."""
    planned = plan_program(program, outputs=tiles.streamed_outputs, verify=True)
    forms = [ground(form) for form in shape_forms(planned)]
    known = {axis: evaluate_size(form, sizes) for axis, form in zip(planned.shape_axes, forms, strict=True)}
    schedule = Schedule(1, StreamSchedule(8, 4, False), tiles, windows)
    return planned, write_kernels(planned, known, real, schedule, verify=True)


def meant(
    program: Program,
    tensors: Mapping[str, Tensor],
    tiles: TileSchedule = SMALL,
    windows: WindowSchedule | None = None,
) -> dict[str, Tensor]:
    """The stored values of a program by the meaning of its kernels."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    sizes = numbers_of(program, shapes)
    planned, written = kernels(program, sizes, tiles, windows=windows)
    held = dict(tensors)
    for group in planned.plan.groups:
        made = written[group.result.name]
        given: list[Tensor] = []
        for buffer, (form, there) in zip(made.kernel.buffers, made.tensors, strict=True):
            name = form.name if isinstance(form, Leaf) and buffer.role == "in" else _stored(planned, form)
            name = f"{name}?" if there else name
            if buffer.role == "out":
                shape = [evaluate_size(each, sizes) for each in shape_of(planned.plan.stored[form].axes)]
                kind = (
                    torch.bool
                    if there
                    else {"real": torch.float64, "int": torch.int64, "bool": torch.bool}[form.kind]
                )
                held[name] = torch.zeros(shape, dtype=kind)
            given.append(_unpacked(program, name, held[name], sizes))
        numbers = [evaluate_size(ground(form), sizes) for form in made.numbers]
        outs = run(made.kernel, given, numbers)
        held |= dict(zip(_outs(planned, made), outs, strict=True))
    return held


def _stored(planned: Planned, form: Form) -> str:
    return planned.plan.stored[form].name


def _outs(planned: Planned, made: Written) -> Sequence[str]:
    return [
        _stored(planned, form) + ("?" if there else "")
        for buffer, (form, there) in zip(made.kernel.buffers, made.tensors, strict=True)
        if buffer.role == "out"
    ]


def numbers_of(program: Program, shapes: Mapping[str, tuple[int, ...]]) -> dict[Axis, int]:
    """The sizes of the axes of a program whose batch is explicit."""
    return {axis: size for axis, size in bind_sizes(program, shapes).items() if isinstance(size, int)}


def _unpacked(program: Program, name: str, tensor: Tensor, sizes: Mapping[Axis, int]) -> Tensor:
    for declaration in program.declarations:
        if declaration.leaf.name == name:
            return tensor.reshape([evaluate_size(each, sizes) for each in shape_of(declaration.leaf.over)])
    return tensor


def agrees(
    text: str,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    batch: int = 0,
    tiles: TileSchedule = SMALL,
    windows: WindowSchedule | None = None,
    **statics: int,
) -> dict[str, Kernel]:
    """Assert that the kernels of a text mean what the text means on random inputs; return them."""
    program = read(text, batch, **statics)
    generator = torch.Generator().manual_seed(5)
    tensors = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()
    }
    found = meant(program, tensors, tiles, windows)
    laid = {name: found[name].reshape(value.shape) for name, value in interpret(program, tensors).items()}
    agree(laid, program, tensors, torch.float64)
    sizes = numbers_of(program, {name: tuple(t.shape) for name, t in tensors.items()})
    return {name: each.kernel for name, each in kernels(program, sizes, tiles, windows=windows)[1].items()}
