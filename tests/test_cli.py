"""The command line as a new user meets it: what each command prints, where mistakes go, and exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from packaging.requirements import Requirement

from plait import CompilerFault, cli, doctor, targets
from plait.dsl.mistakes import InvalidArgument
from tree import ROOT

EXAMPLE = str(ROOT / "examples" / "circular_attention.py")
TEXT = str(ROOT / "examples" / "circular_attention.plait")
TWO = """
mixer smooth(x[h]; radius = 1) -> y[h]:
  near k: radius
  y = mean[k](x[h+k])

mixer twice(x[h]) -> y[h]:
  y = smooth(smooth(x))
"""
OPEN = """
mixer f(x[h]) -> y[h]:
  require size(h) % 2 == 1
  like k: h
  y = sum[k | 2*k % size(h) == h](x[h: k])
"""
PYTHON = """
from neighbour import factor
from plait import axes, mixer
h = axes("h")
@mixer("x[h] -> y[h]")
def scaled(x):
    return factor * x
@mixer("x[h] -> y[h]")
def negated(x):
    return -x
"""


def plait(*arguments: str, code: int = 0) -> Result:
    """The result of a command that ends with this exit code."""
    result = CliRunner().invoke(cli.main, arguments, prog_name="plait")
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


def shell(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A process of its own, with plait found on PYTHONPATH only."""
    found = os.pathsep.join((str(ROOT / "typings"), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "PYTHONPATH": found, **options.pop("env", {})}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a text of two mixers and a Python file that imports its neighbour."""
    (tmp_path / "two.plait").write_text(TWO)
    (tmp_path / "scales.py").write_text(PYTHON)
    (tmp_path / "neighbour.py").write_text("factor = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("scales", "neighbour", "broken"):
        sys.modules.pop(name, None)


# --- targets


@pytest.mark.parametrize("target", [EXAMPLE, f"{EXAMPLE}:circular_attention", TEXT])
def test_a_target_is_shown_as_text(target: str) -> None:
    shown = plait("show", target, "radius=3").stdout
    assert "q[..., h, w, d], k[..., h, w, d], v[..., h, w, d]; radius = 3) -> o" in shown


def test_a_text_of_two_mixers_has_both(files: Path) -> None:
    assert plait("show", "two.plait").stdout.startswith("mixer twice")
    assert plait("show", "two.plait:smooth", "radius=2").stdout.startswith("mixer smooth(x[h]; radius = 2)")


def test_a_python_file_finds_its_neighbours(files: Path) -> None:
    assert "y = 3 * x" in plait("show", "scales.py:scaled").stdout


def test_an_operator_of_the_catalogue_is_a_target() -> None:
    shown = plait("show", "convnext-block", "c=8").stdout
    assert "x[b, c=8, h, w]" in shown
    assert "dwconv.weight" in shown


def test_sizes_are_given_as_static_arguments_are() -> None:
    assert "d=16" in plait("show", TEXT, "d=16").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([f"{TEXT}:other"], ["UnknownName", "circular_attention.plait` has no mixer `other`", "mixers: "]),
        ([f"{EXAMPLE}:other"], ["has no mixer `other`", "circular_attention.py:circular_attention`"]),
        (["scales.py"], ["`scales.py` needs the name of a mixer", "`scales.py:scaled`, `scales.py:negated`"]),
        (["none.py:f"], ["UnreadableFile", "there is no file `none.py`"]),
        (["none.plait"], ["none.plait"]),
        (["convnet-block"], ["no operator `convnet-block`", "did you mean `convnext-block`"]),
        (["neighbour.py"], ["mixers: none"]),
        (["."], ["`.` is no file of mixers"]),
        ([TEXT, "radius"], ["InvalidArgument", "`radius` is no NAME=VALUE"]),
        ([TEXT, "radius=2", "radius=3"], ["`radius` is given twice"]),
        ([TEXT, "radios=2"], ["has no argument `radios`", "did you mean `radius`"]),
        ([TEXT, "radius=wide"], ["`radius` of `circular_attention` is an int"]),
    ],
)
def test_a_mistake_is_one_message_on_stderr(files: Path, arguments: list[str], words: list[str]) -> None:
    result = plait("show", *arguments, code=1)
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) < 24, "a message fits on one screen"
    for each in (*words, "see: docs/errors.md#"):
        assert each in result.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "x = 1\nimport nothing_of_this_name\n",
            "line 2 of `broken.py` ends in ModuleNotFoundError: No module named",
        ),
        ("x = 1\ny = 1 / 0\n", "line 2 of `broken.py` ends in ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", "line 1 of `broken.py` ends in SystemExit: 3"),
        ("x = (\n", "line 1 of `broken.py` is no Python: '(' was never closed"),
    ],
)
def test_a_file_that_cannot_be_imported_is_a_message(files: Path, text: str, words: str) -> None:
    Path("broken.py").write_text(text)
    result = plait("show", "broken.py:f", code=1)
    assert result.stderr.startswith(f"UnreadableFile: {words}")
    assert "Traceback" not in result.output


def test_a_mistake_in_a_mixer_points_into_the_file(files: Path) -> None:
    Path("broken.py").write_text(
        PYTHON.replace("factor * x", "x.sum(w)").replace('"h")', '"h")\nw = axes("w")')
    )
    assert "broken.py:" in plait("show", "broken.py:scaled", code=1).stderr


@pytest.mark.parametrize("text", ["q", "=1,2", "q=1,two", "q=-1", "q=1.5"])
def test_a_shape_is_read_or_refused(text: str) -> None:
    assert targets.shapes(["q=1, 2,3", "s="]) == {"q": (1, 2, 3), "s": ()}
    with pytest.raises(InvalidArgument, match="is no shape"):
        targets.shapes([text])


# --- commands


def test_check_says_that_nothing_is_wrong_and_what_is_open(files: Path) -> None:
    assert plait("check", TEXT).stdout == "circular_attention: no mistakes\n"
    Path("open.plait").write_text(OPEN)
    assert plait("check", "open.plait").stdout.startswith("open: that output `y` is present everywhere")


def test_compile_builds_libraries_that_exist() -> None:
    line = plait("compile", TEXT, "radius=2", "d=4").stdout
    found = re.fullmatch(r"circular_attention: cpp, (\S+)\n", line)
    assert found is not None
    assert Path(found[1]).is_file()


def test_compile_prints_the_source_once_and_the_kernel() -> None:
    source = plait("compile", TEXT, "radius=2", "d=4", "--source").stdout
    assert source.count('extern "C" void circular_attention(') == 1
    assert plait("compile", TEXT, "radius=2", "d=4", "--kernel").stdout.startswith(
        "kernel circular_attention float32"
    )
    assert "tl.load" in plait("compile", TEXT, "d=16", "--backend", "triton", "--source").stdout


def test_the_type_of_the_tensors_is_an_option() -> None:
    text = plait("compile", TEXT, "radius=2", "d=4", "--dtype", "bfloat16", "--kernel").stdout
    assert "in q: bfloat16[" in text and text.startswith("kernel circular_attention float32")
    assert "float64" in plait("compile", TEXT, "radius=2", "d=4", "--dtype", "float64", "--kernel").stdout
    shapes = [word for name in "qkv" for word in ("--shape", f"{name}=1,8,8,16")]
    halved = plait("explain", TEXT, *shapes, "--dtype", "bfloat16").stdout
    assert re.search(r"bytes +\S.* = 8,192 at least", halved), "half of the bytes of float32"
    assert "'int8' is not one of" in plait("aot", TEXT, "--dtype", "int8", code=2).stderr


def test_explain_tells_the_schedule() -> None:
    assert "streaming softmax" in plait("explain", TEXT).stdout


def test_explain_has_numbers_for_shapes_and_writes_a_page(files: Path) -> None:
    shapes = [word for name in "qkv" for word in ("--shape", f"{name}=1,8,8,16")]
    assert "FLOPs      128808*batch0*h*w = " not in plait("explain", TEXT).stdout
    assert re.search(r"bytes +\S.* = 16,384 at least", plait("explain", TEXT, *shapes).stdout)
    assert plait("explain", TEXT, *shapes, "--html", "out.html").stdout == "wrote out.html\n"
    assert Path("out.html").read_text().count("<svg") == 3, (
        "the graph, and what is read of q and v; k is read whole"
    )
    assert "cannot be written" in plait("explain", TEXT, "--html", "no/folder/out.html", code=1).stderr
    assert "`h`" in plait("explain", TEXT, "--shape", "q=1,8,8,16", "--shape", "k=1,9,8,16", code=1).stderr


def test_the_catalogue_lists_and_finds() -> None:
    every = plait("catalogue").stdout.splitlines()
    some = plait("catalogue", "ConvNet").stdout.splitlines()
    assert any(line.startswith("convnext-block ") and "2201.03545" in line for line in some)
    assert len(some) < len(every)
    assert "no operator has `xyzzy`" in plait("catalogue", "xyzzy", code=1).stderr


def test_every_operator_that_is_listed_can_be_shown() -> None:
    for line in plait("catalogue").stdout.splitlines():
        assert plait("show", line.split()[0]).stdout.startswith("mixer ")


def test_aot_needs_every_shape_and_a_known_gpu() -> None:
    assert "--shape k=..." in plait("aot", TEXT, "--shape", "q=1,8,8,16", code=1).stderr
    shapes = [word for name in "qkv" for word in ("--shape", f"{name}=1,8,8,16")]
    assert "sm_90" in plait("aot", TEXT, "--for", "sm_1", *shapes, code=1).stderr


def test_aot_reports_each_kernel() -> None:
    shapes = [word for name in "qkv" for word in ("--shape", f"{name}=1,8,8,16")]
    assert re.match(
        r"circular_attention for sm_80: \d+ registers", plait("aot", TEXT, "--for", "sm_80", *shapes).stdout
    )


def test_cache_names_its_folder_and_clears_it(cache_folder: Path) -> None:
    (cache_folder / "cpp").mkdir()
    (cache_folder / "cpp" / "a.so").write_bytes(b"x")
    assert plait("cache").stdout == f"{cache_folder}\n"
    assert plait("cache", "--clear").stdout == f"removed 1 files\n{cache_folder}\n"
    assert not (cache_folder / "cpp" / "a.so").exists()


def test_a_fault_of_plait_has_an_exit_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(target: str, given: object) -> None:
        raise CompilerFault("fuse", "two kernels write `o`")

    monkeypatch.setattr(cli, "program", broken)
    assert "please report it" in plait("show", TEXT, code=70).stderr


@pytest.mark.parametrize("name", sorted(cli.main.commands))
def test_every_command_has_help_that_fits(name: str) -> None:
    shown = plait(name, "--help").stdout
    assert shown.startswith(f"Usage: plait {name}")
    assert len(shown.splitlines()) < 30
    line = next(each for each in plait("--help").stdout.splitlines() if each.startswith(f"  {name} "))
    assert not line.endswith("..."), "the short help is whole"


def test_a_wrong_command_line_is_exit_code_2() -> None:
    assert "Missing argument 'TARGET'" in plait("show", code=2).stderr
    assert "No such command" in plait("shew", TEXT, code=2).stderr


# --- the doctor


def test_the_doctor_finds_everything_here() -> None:
    shown = plait("doctor").stdout
    for each in ("Python 3.", "ok  torch ", "ok  C++ compiler ", "CPU: ", "CUDA", "cache "):
        assert each in shown


def test_the_doctor_knows_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {Requirement(each).name: Requirement(each) for each in project["dependencies"]}
    assert set(doctor.PACKAGES) == set(wanted)
    for name, least in doctor.LEAST.items():
        assert str(wanted[name].specifier) == f">={'.'.join(map(str, least))}"
    assert project["requires-python"] == f">={'.'.join(map(str, doctor.LEAST_PYTHON))}"


def test_the_doctor_says_what_to_do_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    shown = plait("doctor", code=1).stdout
    assert re.search(r"^--  .*compiler.*: \S+", shown, re.MULTILINE)


def test_the_doctor_tells_of_a_compiler_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "false")
    assert "--  `false --version` fails" in plait("doctor", code=1).stdout


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'g++ 12' && case $* in *--version*) ;; *) echo 'cstring: no such file' >&2; exit 1;; esac",
         r"^--  `\S+` does not compile the simplest library \(cstring: no such file\): try another compiler"),
        ("echo 'g++ 12'", r"^--  the C\+\+ compiler makes no library: .*; CXX names another one$"),
    ],
    ids=["without headers", "no compiler at all"],
)  # fmt: skip
def test_the_doctor_tries_the_compiler(
    monkeypatch: pytest.MonkeyPatch, cache_folder: Path, tmp_path: Path, script: str, words: str
) -> None:
    broken = tmp_path / "broken"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    assert re.search(words, plait("doctor", code=1).stdout, re.MULTILINE)


def test_the_doctor_names_the_compiler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "--  no C++ compiler was found (tried: no-such-compiler): " in plait("doctor", code=1).stdout


def test_the_doctor_says_what_to_do_about_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: "2.1.0")
    shown = plait("doctor", code=1).stdout
    assert "--  torch 2.1.0 is too old: pip install 'torch>=2.11'" in shown


def test_the_doctor_says_what_to_do_about_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PLAIT_CACHE_DIR", str(tmp_path / "file"))
    shown = plait("doctor", code=1).stdout
    assert re.search(r"^--  cache.*PLAIT_CACHE_DIR names another folder$", shown, re.MULTILINE)


# --- in a shell


def test_the_version_is_known_where_plait_is_only_on_the_path() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    done = shell(sys.executable, "-m", "plait", "--version")
    assert (done.returncode, done.stdout) == (0, f"plait {wanted}\n"), done.stderr


def test_a_reader_that_leaves_early_is_no_error() -> None:
    done = shell("sh", "-c", f"'{sys.executable}' -m plait show '{TEXT}' | true")
    assert done.stderr == ""


def test_output_in_a_pipe_is_plain() -> None:
    done = shell(sys.executable, "-m", "plait", "show", TEXT, env={"NO_COLOR": "1", "TERM": "dumb"})
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert done.stdout == plait("show", TEXT).stdout


def test_help_and_texts_load_no_torch() -> None:
    run = f"main({['show', TEXT]!r}, standalone_mode=False)"
    code = f"import sys; from plait.cli import main; {run}; print('torch' in sys.modules)"
    assert shell(sys.executable, "-c", code).stdout.endswith("False\n")
