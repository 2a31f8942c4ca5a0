"""The file that holds a source, what a launch refuses, and kernels on a GPU."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from interpreting import Interpreting
from kernel_corners import CORNERS
from kernel_sketches import (
    Case,
    circular,
)
from plait.compiler.kernels.kernel import Kernel
from plait.dsl.mistakes import WrongDevice, WrongDtype, WrongRank
from triton_cases import agrees_on_a_gpu, close, dense, launched


def places(case: Case) -> tuple[Path, str]:
    from plait.backends.triton.launch import build

    built = build(case.kernel)
    return built.path, built.source


def test_the_source_is_a_file_of_the_cache(triton: Interpreting) -> None:
    path, source = triton.call(places, circular((1, 5, 9)))
    assert path.read_text(encoding="utf-8") == source
    assert path.parent.name == "triton"
    path.write_text("broken", encoding="utf-8")
    assert triton.call(places, circular((1, 5, 9))) == (path, source)
    assert path.read_text(encoding="utf-8") == source
    assert not list(path.parent.glob("*.tmp"))


def pickled(case: Case) -> bytes:
    from plait.backends.triton.launch import build

    return pickle.dumps(build(case.kernel))


def unpickled(data: bytes, case: Case) -> tuple[str, list[Tensor]]:
    built = pickle.loads(data)
    built.path.unlink()
    built(case.tensors, case.sizes)
    return built.backend, case.tensors


def test_a_built_kernel_outlives_its_process(triton: Interpreting) -> None:
    case = circular((1, 5, 9))
    backend, tensors = triton.call(unpickled, pickled(case), case)
    assert backend == "triton"
    close(tensors[-1], dense(case, 4), 64)


def compiled(case: Case) -> None:
    """A launch in this process, where nothing is interpreted."""
    from plait.backends.triton.launch import build

    build(case.kernel)(case.tensors, case.sizes)


def test_cpu_tensors_need_the_interpreter() -> None:
    with pytest.raises(WrongDevice) as caught:
        compiled(circular((1, 5, 9)))
    assert str(caught.value) == (
        "WrongDevice: Triton kernel `circular` cannot run on cpu tensors\n"
        '  help: move them to a GPU, or ask for backend="cpp"\n'
        "  help: to interpret the kernel on the CPU, slowly, start Python with TRITON_INTERPRET=1\n"
        "  see: docs/errors.md#wrong-device"
    )


def test_one_call_has_one_device() -> None:
    case = circular((1, 5, 9))
    case.tensors[1] = torch.empty(1, 5, 9, 16, device="meta")
    with pytest.raises(WrongDevice, match="`q` on cpu, `k` on meta, `v` on cpu, `o` on cpu"):
        compiled(case)


def test_tensors_are_what_the_buffers_say() -> None:
    q, k, *rest = circular((1, 5, 9)).tensors
    for wrong, mistake, words in (
        (k[0], WrongRank, "`k` has 3 dimensions where kernel `circular` takes 4"),
        (k.double(), WrongDtype, r"`k` is torch\.float64 where kernel `circular` takes torch\.float32"),
    ):
        with pytest.raises(mistake, match=words):
            compiled(replace(circular((1, 5, 9)), tensors=[q, wrong, *rest]))


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", CORNERS, ids=lambda kernel: kernel.__name__)
def test_corners_on_a_gpu(kernel: Callable[[], Case]) -> None:
    agrees_on_a_gpu(kernel(), 64)


@pytest.mark.gpu
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 7, 11), (2, 64, 64)])
def test_circular_attention_on_a_gpu(sizes: tuple[int, int, int]) -> None:
    case = circular(sizes, 64, 8)
    (found,) = launched(Case(case.kernel, [tensor.cuda() for tensor in case.tensors], case.sizes))
    close(found.cpu(), dense(case, 8), 64)


def test_kernels_are_plain_data() -> None:
    """What travels between processes is the kernel itself."""
    kernel: Kernel = circular((1, 5, 9)).kernel
    assert pickle.loads(pickle.dumps(kernel)) == kernel
