"""What a machine is like, as far as a schedule or a printer asks. Never constants in code: records."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CpuTarget:
    """`block_rows` x `block_vectors` accumulators fill the vector registers; `flags` select the
    instructions; `wide` asks for 64-bit integers in the lanes."""

    name: str
    flags: tuple[str, ...]
    vector_bytes: int
    block_rows: int
    block_vectors: int = 2
    run: int = 32
    tile: int = 64
    wide: bool = False

    def widened(self) -> CpuTarget:
        return replace(self, wide=True)


@dataclass(frozen=True, slots=True)
class GpuTarget:
    """A GPU by Triton's words: `cuda` 80, 90, 100; `hip` gfx942."""

    name: str
    backend: str
    arch: int | str
    warp: int


AVX512 = CpuTarget("avx512", ("-march=native",), 64, 11)
AVX2 = CpuTarget("avx2", ("-mavx2", "-mfma"), 32, 6)
BASELINE = CpuTarget("baseline", (), 16, 4)
NEON = CpuTarget("neon", (), 16, 8)

GPUS = {
    "sm_80": GpuTarget("sm_80", "cuda", 80, 32),
    "sm_90": GpuTarget("sm_90", "cuda", 90, 32),
    "sm_100": GpuTarget("sm_100", "cuda", 100, 32),
    "gfx942": GpuTarget("gfx942", "hip", "gfx942", 64),
}


def this_cpu() -> CpuTarget:
    """The record of the machine that runs this."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return NEON
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return BASELINE
    if " avx512f" in flags and " avx512dq" in flags:
        return AVX512
    return replace(AVX2, flags=("-march=native",)) if " avx2" in flags and " fma" in flags else BASELINE
