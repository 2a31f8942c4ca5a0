"""What a machine is like, as far as a schedule or a printer asks. Never constants in code: records."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal


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
    """A GPU by Triton's words: `cuda` 80, 90, 100; `hip` gfx942. The rates are the vendor's figures for
    `device`, dense, a second: bytes of memory, and operations on float64, float32, tf32 and 16-bit
    operands (matrix units where they take that type)."""

    name: str
    backend: Literal["cuda", "hip"]
    arch: int | str
    warp: int
    device: str
    bytes_rate: float
    float64_rate: float
    float32_rate: float
    tf32_rate: float
    half_rate: float


AVX512 = CpuTarget("avx512", ("-march=native",), 64, 11)
AVX2 = CpuTarget("avx2", ("-mavx2", "-mfma"), 32, 6)
BASELINE = CpuTarget("baseline", (), 16, 4)
NEON = CpuTarget("neon", (), 16, 8)

GPUS = {
    "sm_80": GpuTarget("sm_80", "cuda", 80, 32, "A100 80GB SXM", 2.04e12, 19.5e12, 19.5e12, 156e12, 312e12),
    "sm_90": GpuTarget("sm_90", "cuda", 90, 32, "H100 SXM", 3.35e12, 67e12, 67e12, 495e12, 989e12),
    "sm_100": GpuTarget("sm_100", "cuda", 100, 32, "B200", 8.0e12, 37e12, 75e12, 1.1e15, 2.25e15),
    "gfx942": GpuTarget("gfx942", "hip", "gfx942", 64, "MI300X", 5.3e12, 163e12, 163e12, 654e12, 1.307e15),
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
