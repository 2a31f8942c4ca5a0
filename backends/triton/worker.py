"""The process that compiles kernels ahead of time: JSON on stdin, JSON on stdout.

    python -m plait.backends.triton.worker

It is a process of its own because Triton imported for the interpreter cannot compile. A request is
{path, function, backend, arch, warp, signature, constants, aligned, options}; INT among the constants
is "int32" or "int64". The answer to each is {registers, spills, shared_memory, assembly} or {error}.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Compile one kernel and read what became of it."""
    spec = importlib.util.spec_from_file_location(Path(request["path"]).stem, request["path"])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    constants = {
        name: getattr(tl, value) if name == "INT" else value for name, value in request["constants"].items()
    }
    aligned = {(at,): [["tt.divisibility", 16]] for at in request["aligned"]}
    source = ASTSource(getattr(module, request["function"]), request["signature"], constants, aligned)
    target = GPUTarget(request["backend"], request["arch"], request["warp"])
    built = triton.compile(source, target=target, options=request["options"])
    read = _cuda if request["backend"] == "cuda" else _hip
    return {**read(built.asm), "shared_memory": built.metadata.shared}


def _cuda(assembly: Any) -> dict[str, Any]:
    """Registers of a thread and bytes of its stack, which holds what the registers do not."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(assembly["cubin"])
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found is not None, usage
    return {"registers": int(found[1]), "spills": int(found[2]), "assembly": assembly["ptx"]}


def _hip(assembly: Any) -> dict[str, Any]:
    """The same of a work item, from the metadata at the end of the assembly."""
    text = assembly["amdgcn"]
    numbers = {name: int(value) for name, value in re.findall(r"^\s+\.(\w+):\s+(\d+)$", text, re.MULTILINE)}
    spills = numbers["private_segment_fixed_size"]
    return {"registers": numbers["vgpr_count"], "spills": spills, "assembly": text}


def main() -> None:
    """Answer all requests of stdin. What compilers print goes to stderr."""
    answers: list[dict[str, Any]] = []
    for request in json.load(sys.stdin):
        try:
            answers.append(answer(request))
        except Exception as problem:
            answers.append({"error": f"{type(problem).__name__}: {problem}"})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
