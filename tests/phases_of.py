"""What of a program is launched at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from plait.backends.assemble import Assembler, schedule_for
from plait.backends.precision import uniform
from plait.compiler.schedules.phasing import Phasing
from plait.compiler.schedules.target import AVX2
from plait.dsl.program import Axis, Program


def phased(made: Program, together: bool = True) -> Phasing:
    """What is launched at once, on a machine with AVX2."""
    axes = {axis for d in made.declarations for axis in d.leaf.over if axis.size is None}
    sizes: Mapping[Axis, int] = {axis: dict(made.fixed).get(axis, 7) for axis in axes}
    types = uniform(made, torch.float32)
    schedule = replace(schedule_for("cpp", AVX2, types), phases=together)
    assembler = Assembler(made, "cpp", types, AVX2, schedule)
    return assembler.phasing(assembler.written(sizes))
