"""Modules in threads and in processes: pickles read elsewhere, workers of data loaders, forks."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import plait
from module_block import make_pair, pictures
from plait.backends.cpp import build

TEXT = """
mixer mixed(x[b, h, c]) -> y[b, h, c]:
  near dh: 1
  like j: c
  param w[c, dh]
  param m[c, j]
  v = sum[dh](w * x[h+dh])
  y = x + tanh(sum[j](m * v[c: j]))
"""


def mixed(number: int = 0) -> nn.Module:
    """A module for 5 channels; those of different numbers are built apart."""
    torch.manual_seed(number)
    return plait.parse(TEXT.replace("tanh(", f"{number} + tanh(")).module(c=5)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources of the libraries that are built from now on."""
    sources: list[str] = []
    run = subprocess.run

    def counted(command: Any, **options: Any) -> Any:
        sources.extend(word for word in command if word.endswith(".cpp"))
        time.sleep(0.05)  # so that a second thread would come while the first one builds
        return run(command, **options)

    monkeypatch.setattr(build.subprocess, "run", counted)
    return sources


def test_threads_make_one_build(cache_folder: Path, builds: list[str]) -> None:
    """The first call and the first backward come from all threads at once."""
    module, count = mixed(), 6
    inputs = [torch.randn(2, 7 + number % 2, 5) for number in range(count)]
    barrier = Barrier(count)

    def work(number: int) -> tuple[Tensor, Tensor]:
        x = inputs[number].clone().requires_grad_()
        barrier.wait(30)
        y = module(x)
        (gradient,) = torch.autograd.grad(y.sum(), x)
        return y.detach(), gradient

    with ThreadPoolExecutor(count) as pool:
        found = list(pool.map(work, range(count)))
    assert len(builds) == len(set(builds)) == 2
    for x, (y, gradient) in zip(inputs, found, strict=True):
        leaf = x.clone().requires_grad_()
        expected = module(leaf)
        expected.sum().backward()
        assert torch.equal(y, expected.detach())
        assert leaf.grad is not None and torch.equal(gradient, leaf.grad)


def test_threads_of_a_direct_call_make_one_build(cache_folder: Path, builds: list[str]) -> None:
    shifted = plait.parse("mixer shifted(x[b, h]) -> y[b, h]:\n  y = 3*x[h-1] otherwise 0.25\n")
    barrier = Barrier(4)

    def work(number: int) -> Tensor:
        barrier.wait(30)
        return shifted(torch.full((2, 3), float(number)))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(4)))
    assert len(builds) == 1
    assert [y[0].tolist() for y in found] == [[0.25, 3.0 * n, 3.0 * n] for n in range(4)]


# --- processes


def in_fork(work: Any, *arguments: Any) -> Any:
    """What `work(*arguments)` gives in a forked child, through a pipe; a child that hangs fails the test."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        try:
            sender.send_bytes(pickle.dumps(work(*arguments)))
        finally:
            os._exit(0)
    try:
        assert receiver.poll(60), "the child hangs"
        return pickle.loads(receiver.recv_bytes())
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def called(module: nn.Module, data: list[float], shape: tuple[int, ...]) -> tuple[int, list[float]]:
    """Only plait runs on more than one thread here: torch's own kernels hang in a forked child."""
    with torch.no_grad():
        return torch.get_num_threads(), module(torch.tensor(data).view(shape)).flatten().tolist()


@pytest.mark.parametrize("number", [0, 77], ids=["built before", "built in the child"])
def test_a_forked_child_runs_kernels_on_many_threads(number: int) -> None:
    """The parent's kernels have started libgomp's threads, which do not follow into the child."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        x = torch.randn(64, 33, 5)
        expected = mixed(0)(x).detach()
        used, found = in_fork(called, mixed(number), x.flatten().tolist(), tuple(x.shape))
    finally:
        torch.set_num_threads(threads)
    assert used == 2
    assert torch.equal(torch.tensor(found).view(expected.shape), mixed(number)(x).detach())


class Samples(Dataset[Tensor]):
    """Each sample goes through a module where it is loaded."""

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        self.module, self.x = module, x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Tensor:
        with torch.no_grad():
            return self.module(self.x[index][None])[0]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_data_loader(start: str) -> None:
    module, x = mixed(1), torch.randn(6, 9, 5)
    expected = module(x).detach()
    loader = DataLoader(
        Samples(module, x), batch_size=3, num_workers=2, multiprocessing_context=start, timeout=120
    )
    assert torch.equal(torch.cat(list(loader)), expected)
    assert torch.equal(module(x).detach(), expected)


def test_a_worker_builds_what_is_new() -> None:
    module, x = mixed(2), torch.randn(4, 3, 5)
    loader = DataLoader(
        Samples(module, x), batch_size=2, num_workers=2, multiprocessing_context="fork", timeout=120
    )
    assert torch.equal(torch.cat(list(loader)), module(x).detach())


def test_a_pickle_is_read_by_another_process(tmp_path: Path) -> None:
    ours, _ = make_pair()
    x = pictures()
    torch.save({"module": ours.eval(), "x": x, "y": ours(x)}, tmp_path / "saved")
    code = (
        "import torch, sys; saved = torch.load(sys.argv[1], weights_only=False)\n"
        "module, x, y = saved['module'], saved['x'], saved['y']\n"
        "assert torch.equal(module(x), y), (module(x) - y).abs().max()\n"
        "x.requires_grad_(); module(x).sum().backward(); assert x.grad is not None\n"
        "print(type(module).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "saved")], capture_output=True, text=True, check=False
    )
    assert done.stdout == "PlaitModule\n", done.stderr
