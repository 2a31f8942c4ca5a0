"""Ahead of time: what a GPU's compiler makes of a kernel, on a machine without that GPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...compiler.kernels.kernel import Buffer, Kernel
from ...compiler.schedules.target import GPUS, GpuTarget
from ...dsl.errors import CompilerFault
from ...dsl.mistakes import InvalidArgument, UnknownBackend
from .files import stored
from .options import Options, default_options
from .printer import Source, print_triton
from .widths import fits_int32

INSTRUCTIONS: Mapping[str, Mapping[str, str]] = {
    "cuda": {
        "mma": r"\bmma\.sync",
        "wgmma": r"\bwgmma\.mma_async",
        "tcgen05": r"\btcgen05\.mma",
        "multiply_add": r"\bfma\.rn",
        "exponential": r"\bex2\.approx",
        "load": r"\bld\.global|\bcp\.async\.c[ag]",
        "vector_load": r"\bld\.global\S*\.v[24]\.|\bcp\.async\.cg",
        "store": r"\bst\.global",
        "vector_store": r"\bst\.global\S*\.v[24]\.",
    },
    "hip": {
        "mma": r"\bv_mfma_",
        "multiply_add": r"\bv_(?:pk_)?fma",
        "exponential": r"\bv_exp_f",
        "load": r"\b(?:global|buffer)_load_",
        "vector_load": r"\b(?:global|buffer)_load_dwordx[24]",
        "store": r"\b(?:global|buffer)_store_",
        "vector_store": r"\b(?:global|buffer)_store_dwordx[24]",
    },
}
"""What is counted in the assembly. `mma`, `wgmma` and `tcgen05` run on matrix units."""

TYPICAL = 1024
"""The size that kernels are compiled for, as far as the width of integers depends on it."""

POINTERS = {"float32": "*fp32", "float64": "*fp64", "bfloat16": "*bf16", "float16": "*fp16"}


@dataclass(frozen=True, slots=True)
class Work:
    """What one call of a kernel does: operations on reals, and bytes read and written once each."""

    operations: float
    bytes: float


@dataclass(frozen=True, slots=True)
class KernelReport:
    """A compiled kernel. `registers` are those of a thread, `spills` the bytes of memory that a thread
    uses in place of registers, `shared_memory` the bytes of a program; `instructions` are counted in
    `assembly` (PTX, or the machine code of gfx942) as it stands, loops not multiplied.
    `predicted_time` is the roofline of the target in seconds, if the work of a call is known."""

    name: str
    target: str
    registers: int
    spills: int
    shared_memory: int
    instructions: Mapping[str, int]
    predicted_time: float | None
    source: str
    assembly: str

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.instructions.items() if count)
        time = "" if self.predicted_time is None else f", at best {self.predicted_time * 1e6:.1f} us"
        return (
            f"{self.name} for {self.target}: {self.registers} registers, {self.spills} bytes spilled, "
            f"{self.shared_memory} bytes of shared memory{time}\n  {counts}"
        )


def reports(
    kernels: Sequence[Kernel],
    target: str,
    *,
    options: Sequence[Options] | None = None,
    work: Sequence[Work] | None = None,
) -> list[KernelReport]:
    """Compile kernels for a target, one of `GPUS`, as for contiguous tensors whose rows are aligned
    and sizes near a thousand. One process compiles them all.

    Raises InvalidArgument for an unknown target, UnknownBackend where Triton is missing, and
    CompilerFault where Triton refuses a kernel.
    """
    return reports_for([(kernel, target) for kernel in kernels], options=options, work=work)


def reports_for(
    jobs: Sequence[tuple[Kernel, str]],
    *,
    options: Sequence[Options] | None = None,
    work: Sequence[Work] | None = None,
) -> list[KernelReport]:
    """As `reports`, each kernel for a target of its own."""
    targets = [_target(name) for _, name in jobs]
    kernels = [kernel for kernel, _ in jobs]
    if options is None:
        options = [
            default_options(each, target.backend) for each, target in zip(kernels, targets, strict=True)
        ]
    sources = [print_triton(*each) for each in zip(kernels, options, strict=True)]
    answers = _compile([request(*each) for each in zip(kernels, sources, targets, options, strict=True)])
    made: list[KernelReport] = []
    for i, (kernel, target) in enumerate(zip(kernels, targets, strict=True)):
        if "error" in answers[i]:
            raise CompilerFault(f"triton for {target.name}", str(answers[i]["error"]), str(kernel))
        time = None if work is None else roofline(kernel, options[i], target, work[i])
        made.append(_report(kernel, sources[i], target, answers[i], time))
    return made


def _target(name: str) -> GpuTarget:
    if name not in GPUS:
        raise InvalidArgument(f"there is no target `{name}`", helps=[f"one of: {', '.join(GPUS)}"])
    return GPUS[name]


def request(kernel: Kernel, source: Source, target: GpuTarget, options: Options) -> dict[str, object]:
    """What the worker is asked: the types of the parameters, and what is known of their values."""
    signature = {name: _pointer(each) for name, each in zip(source.buffers, kernel.buffers, strict=True)}
    narrow = fits_int32(kernel, [TYPICAL] * len(kernel.sizes))
    constants: dict[str, object] = {"INT": "int32" if narrow else "int64", "EVEN": True}
    aligned = list(range(len(source.buffers)))
    for name, buffer, dimension in source.strides:
        last = dimension == kernel.buffers[buffer].rank - 1
        if last:
            constants[name] = 1
        else:
            aligned.append(len(signature))
        signature[name] = "constexpr" if last else "i32"
    signature |= dict.fromkeys((*source.sizes, "first_tile"), "i32")
    signature |= {"INT": "constexpr", "EVEN": "constexpr"}
    return {
        "path": str(stored(source.function, source.text)),
        "function": source.function,
        "backend": target.backend,
        "arch": target.arch,
        "warp": target.warp,
        "signature": signature,
        "constants": constants,
        "aligned": aligned,
        "options": options.launch(target.arch // 10 if isinstance(target.arch, int) else 0),
    }


def _pointer(buffer: Buffer) -> str:
    return {"bool": "*i1", "int": "*i64"}.get(buffer.kind) or POINTERS[buffer.real]


def _compile(requests: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """The answers of one worker process, which never interprets and sees the modules of this one."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-m", f"{__package__}.worker"]
    text = json.dumps(list(requests))
    done = subprocess.run(command, input=text, capture_output=True, text=True, env=environment, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout)
    if "No module named 'triton'" in done.stderr:
        raise UnknownBackend("Triton is not installed here", helps=["pip install triton (Linux only)"])
    raise CompilerFault(
        "triton", f"the compiling process ended with {done.returncode}:\n{done.stderr[-2000:]}"
    )


def _report(
    kernel: Kernel, source: Source, target: GpuTarget, answer: Mapping[str, object], time: float | None
) -> KernelReport:
    assembly = str(answer["assembly"])
    counts = {name: len(re.findall(shape, assembly)) for name, shape in INSTRUCTIONS[target.backend].items()}
    registers, spills, shared = (int(str(answer[key])) for key in ("registers", "spills", "shared_memory"))
    return KernelReport(
        kernel.name, target.name, registers, spills, shared, counts, time, source.text, assembly
    )


def roofline(kernel: Kernel, options: Options, target: GpuTarget, work: Work) -> float:
    """The least seconds that a call can take: its bytes at the memory's rate, or its operations at the
    rate of the type they are done in, whichever is more."""
    rate = target.float32_rate
    if kernel.real == "float64":
        rate = target.float64_rate
    elif kernel.real in ("bfloat16", "float16"):
        rate = target.half_rate
    elif options.precision in ("tf32", "tf32x3"):
        rate = target.tf32_rate / (3 if options.precision == "tf32x3" else 1)
    return max(work.bytes / target.bytes_rate, work.operations / rate)
