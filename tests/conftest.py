"""What every test stands on: a cache folder that is not the user's, hypothesis profiles, devices.

tests/README.md says where a new test goes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from interpreting import Interpreting

CACHES = {"PLAIT_CACHE_DIR": "plait", "TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
"""The variable that says where each tool caches, and its folder below the one of this run."""

LONGEST = ("test_triton_programs", "test_unions", "test_triton_families", "test_papers_triton")
"""The files that take more than half a minute, longest first."""

DIVIDED = "test_attack"
"""The file whose tests are handed to workers one by one, behind all others: they fill up what is left over."""

VALUES = (
    "test_papers", "test_papers_configs", "test_unions", "test_generated", "test_nonfinite", "test_hoisting",
    "test_layouts", "test_bfloat16", "test_budget", "test_merge", "test_reflections", "test_joined_tiles",
    "test_autograd", "test_tiles_cpp", "test_windows",
)  # fmt: skip
"""The files that ask for the values of many small kernels: building them at -O0 takes two thirds of the time."""

TEAMS = (
    "test_cpp", "test_deterministic", "test_module_processes", "test_phases", "test_recompute", "test_split",
    "test_one_artefact",
)  # fmt: skip
"""The files that run one program on several numbers of threads."""

os.environ["PLAIT_VERIFY"] = "1"  # the checkers of plans, graphs and kernels run after every step

# Building is most of what tests wait for, and takes half as long so. `make test-all` says -O3; what is said of
# the code itself takes the fixture `optimised`.
os.environ.setdefault("PLAIT_CXX_LEVEL", "-Og")

# Two workers have two threads each: one that waits for another sleeps, or it would take the time of a third.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# `default` is what every change must pass: the same examples each time, and few enough to wait for.
# `all` looks for new ones, and keeps what failed in .hypothesis for the next run.
settings.register_profile(
    "default",
    derandomize=True,
    deadline=None,
    max_examples=50,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "all",
    derandomize=False,
    deadline=None,
    max_examples=1000,
    phases=list(Phase),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
# Said here, since hypothesis would otherwise take its own `ci` profile where CI is set.
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--accept",
        action="store_true",
        help="write what was found over what was expected (documents, golden sources); read the diff after",
    )
    parser.addoption("--attack", type=int, help="how many programs test_attack.py draws")
    parser.addoption("--from", type=int, help="where it starts to draw")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many programs the attack drew, how many of them it deployed, and how many faults it found."""
    reports = [each for key in ("passed", "failed") for each in terminalreporter.stats.get(key, [])]
    found = [value for each in reports for key, value in each.user_properties if key == "attacked"]
    if found:
        drawn, deployed, faults = (sum(counts) for counts in zip(*found, strict=True))
        said = f"attack on the compiler: {drawn} programs, {deployed} deployed, {faults} faults found"
        terminalreporter.write_line(said)


def pytest_configure(config: pytest.Config) -> None:
    """One fresh cache folder a run, shared by its workers, so that each kernel is built once."""
    if hasattr(config, "workerinput"):
        return
    folder = tempfile.mkdtemp(prefix="plait-tests-")
    for variable, name in CACHES.items():
        os.environ[variable] = str(Path(folder, name))
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that the workers end together, and each is one worker's. A gpu
    test on a machine without one is skipped, with the reason; not where kernels are interpreted."""
    last = len(LONGEST) + 1
    places = {name: i for i, name in enumerate(LONGEST)} | {DIVIDED: last}
    items.sort(key=lambda item: places.get(item.path.stem, last - 1))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.name if item.path.stem == DIVIDED else item.path.stem))
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if not wanting or os.environ.get("TRITON_INTERPRET") == "1":
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device"))


@pytest.fixture
def accept(request: pytest.FixtureRequest) -> bool:
    """Whether this run replaces expected texts by found ones."""
    return bool(request.config.getoption("--accept"))


@pytest.fixture(autouse=True)
def quickly_built(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that run once are not optimised, unless the run asks for another level."""
    if request.path.stem in VALUES and os.environ["PLAIT_CXX_LEVEL"] == "-Og":
        monkeypatch.setenv("PLAIT_CXX_LEVEL", "-O0")


@pytest.fixture(autouse=True)
def teams(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where threads are what is tested, small launches call all of them too."""
    if request.path.stem in TEAMS:
        monkeypatch.setattr("plait.backends.cpp.launch.MANY", 0)


@pytest.fixture
def optimised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are built as users build them."""
    monkeypatch.setenv("PLAIT_CXX_LEVEL", "-O3")


@pytest.fixture(scope="module")
def triton() -> Iterator[Interpreting]:
    """The process in which Triton's kernels are interpreted."""
    process = Interpreting()
    yield process
    process.close()


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of this test's own, also seen by the processes that it starts."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("PLAIT_CACHE_DIR", str(folder))
    return folder
