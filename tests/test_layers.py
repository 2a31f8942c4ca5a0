"""The import rule as data: who may import whom, which module may load which library, and how long things get.

dsl <- compiler <- backends <- face <- stdlib, examples; never upward, no cycles, no project import hidden
in a function. A new module goes into its row of `LAYERS`, after everything that it imports.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping

import networkx
import pytest

from tree import FACE, PACKAGES, ROOT, Import, full_name, imports, module_paths, sources

LAYERS: tuple[tuple[str, str], ...] = (
    # where a thing stands in the user's text, and what is wrong with it
    ("dsl", "dsl source position errors mistakes"),
    # the first waist, and the text that decides equality
    ("dsl", "ops words program canonical memo arithmetic"),
    # reading a text
    ("dsl.text", "text tokens header syntax mentions precedence reading parse scope signature"),
    # the checked constructors and what both spellings share
    ("dsl.constructors", "constructors build build_special static renaming inline batch arguments outputs"),
    ("dsl.constructors", "layouts initialisers"),
    # sizes
    ("dsl.shapes", "shapes polynomial size_forms size_mistakes sizes size_rules"),
    # presence, and what a program must keep
    ("dsl.proofs", "proofs presence array_ops boxes grid algebra inequalities bounds prove requirements"),
    ("dsl.proofs", "totality absence rules check"),
    # printing a text
    ("dsl.printing", "printing sugar written show_forms show_ranges show_plan show"),
    # the Python spelling, and what both are made into
    ("dsl.python", "python trace layers refusals asked value tracing definitions functions pointwise"),
    ("dsl.python", "domains recurrence calculus"),
    (
        "dsl.elaboration",
        "elaboration elaborate_values elaborate_forms elaborate_functions declarations compose",
    ),
    ("dsl.elaboration", "elaborate_calls elaborate_statements elaborate_body elaborate mixer text_mixers"),
    # the meaning
    ("compiler", "compiler"),
    ("compiler.meaning", "meaning partial storage memory operations interpret to_fx"),
    # programs from programs
    ("compiler.rewrites", "rewrites affine residues rewrite conditions simplify marks total cuts weights"),
    # which values are stored
    ("compiler.fusion", "fusion graphs plan work check_plan contraction folds keys key_classes"),
    ("compiler.fusion", "attention_family sum_family outlets tile_group fuse tokens join unfused"),
    # what is computed in another order, or elsewhere
    ("compiler.algorithms", "algorithms linear split chunks order shared taps merge hoist deploy"),
    # derivatives, and what the forward call keeps for them
    ("compiler.gradient", "gradient derive_rules indices reflections skewed gather derive tangent residuals"),
    # the second waist, and what makes one
    ("compiler.kernels", "kernels kernel check_kernel kernel_builder written phases flat prune"),
    ("compiler.schedules", "schedules reductions lower loops schedule reach stream_bounds key_stream"),
    (
        "compiler.schedules",
        "stream stream_sum roles entries halo factors tile_reduce tiles windows target phasing",
    ),
    ("compiler", "pipeline"),
    # what explain() knows
    (
        "compiler.report",
        "report trips seen reads cost receptive fields loops_in_words notes room together layout drawing page explain",
    ),
    # what needs no printer: a call that finds its kernels in the cache
    (
        "backends",
        "given reference one_thread derivatives hoists precision budget rounding pages executable",
    ),
    ("backends", "workspace running kernel_graph cache"),
    # the printers, apart from each other
    ("backends", "cpp cpp.ops cpp.emit cpp.intervals cpp.layout cpp.widths cpp.indices cpp.nests cpp.scope"),
    (
        "backends",
        "cpp.fills cpp.takes cpp.stores cpp.exact cpp.folds cpp.accumulators cpp.stencils cpp.groups",
    ),
    ("backends", "cpp.dots cpp.scalars cpp.effort"),
    ("backends", "cpp.phases cpp.printer cpp.build cpp.pool cpp.launch cpp.rates cpp.produce"),
    ("backends", "triton triton.ops triton.library triton.names triton.layout triton.options triton.emit"),
    ("backends", "triton.scope triton.folds triton.dots triton.exact triton.tiles triton.printer"),
    ("backends", "triton.rounded triton.widths triton.files triton.launch triton.aot triton.worker"),
    # the door to them, and what goes through it
    ("backends", "backends assemble shapes compiled registry autograd fill hoisted deployed module"),
    ("face", "doctor inspection runtime api targets cli __main__ plait"),
    # layers, then papers, then what finds them
    (
        "stdlib",
        "common stochastic norms activations linears convolutions pooling resampling attention positions",
    ),
    (
        "stdlib",
        "catalogue settings official papers papers.convnext papers.convit papers.cswin papers.metaformer",
    ),
    ("stdlib", "stdlib"),
)
"""The modules from lowest to highest: each imports only from those before it, in its row or above.

A row gives its layer and its modules without the layer's name: `source` in `dsl` is `dsl.source`.
"""

DOORS = (FACE, "api", "runtime", "backends", "stdlib", "stdlib.catalogue")
"""The only modules that may import a project module late: what they offer loads when it is asked for."""

FOR_STDLIB = (FACE, "dsl.errors", "dsl.mistakes")
"""What the standard library may import of plait: the public face, and the mistakes that it raises."""

LIBRARIES: dict[str, tuple[str, ...]] = {
    "torch": ("compiler", "backends", "api", "runtime", "inspection", "doctor", "stdlib"),
    "triton": ("backends.triton",),
    "sympy": ("dsl.proofs.algebra",),
    "networkx": ("compiler.fusion.graphs",),
    "lark": ("dsl",),
    "hypothesis": ("checks",),
    "click": ("cli",),
    "rich": ("cli", "backends"),
    "numpy": ("dsl.proofs.grid",),
    "safetensors": ("api", "stdlib"),
}
"""Where each library may be imported: these modules and those below them, and nowhere else."""

FUNCTION_LINES = 40
FILE_LINES = 400

LONG_FUNCTIONS: dict[str, tuple[int, str]] = {}
"""`module:function` -> the lines that it may have, and why it is better whole."""

LONG_FILES: dict[str, tuple[int, str]] = {
    "dsl.program": (540, "the first waist is one page: every form beside its law"),
}
"""module -> the lines that it may have, and why it is better whole."""


# --- the rules, as functions from sources to what is wrong with them


def order() -> list[str]:
    """Every module of the table, lowest first, by its full name without `plait.`."""
    names: list[str] = []
    for layer, row in LAYERS:
        for word in row.split():
            own = word == layer.rpartition(".")[2]
            names.append(word if layer == "face" else layer if own else f"{layer}.{word}")
    return names


def imported(texts: Mapping[str, str]) -> dict[str, list[Import]]:
    return {name: imports(name, text, texts) for name, text in texts.items()}


def upward(texts: Mapping[str, str], ranks: list[str]) -> Iterator[str]:
    """Imports of a module that does not stand before the importing one."""
    for name, found in imported(texts).items():
        for each in found:
            if each.ours is None or name not in ranks or each.ours not in ranks:
                continue
            if ranks.index(each.ours) >= ranks.index(name):
                yield f"{name}:{each.line} imports {each.ours}, which does not stand before it in LAYERS"


def unlisted(texts: Mapping[str, str], ranks: list[str]) -> Iterator[str]:
    """Modules that the table lacks, with the place where they fit."""
    found = imported(texts)
    for name in texts:
        if name in ranks:
            continue
        below = [ranks.index(each.ours) for each in found[name] if each.ours in ranks]
        users = [other for other in texts if any(each.ours == name for each in found[other])]
        above = [ranks.index(user) for user in users if user in ranks]
        after = f"after {ranks[max(below)]}" if below else "anywhere"
        before = f" and before {ranks[min(above)]}" if above else ""
        yield f"{name} is in no row of LAYERS: put it {after}{before}"


def suggested(texts: Mapping[str, str], ranks: list[str]) -> Iterator[str]:
    """An order of each layer that holds for the tree as it is, as near to the present one as can be."""
    graph = networkx.DiGraph()
    graph.add_nodes_from(texts)
    for name, found in imported(texts).items():
        graph.add_edges_from((each.ours, name) for each in found if each.ours in texts)

    def place(name: str) -> tuple[int, str]:
        if name in ranks:
            return ranks.index(name), ""
        below = (ranks.index(other) for other in networkx.ancestors(graph, name) if other in ranks)
        return max(below, default=-1), name

    sorted_names = list(networkx.lexicographical_topological_sort(graph, key=place))
    for layer in (*PACKAGES, "face"):
        words = [name.removeprefix(f"{layer}.") for name in sorted_names if _layer(name) == layer]
        yield f"{layer}: {' '.join(words)}"


def _layer(name: str) -> str:
    first = name.split(".")[0]
    return first if first in PACKAGES else "face"


def cycles(texts: Mapping[str, str]) -> Iterator[str]:
    """Groups of modules that import each other."""
    graph = networkx.DiGraph()
    for name, found in imported(texts).items():
        graph.add_edges_from((name, each.ours) for each in found if each.ours is not None)
    for group in networkx.strongly_connected_components(graph):
        loop = group if len(group) > 1 else {n for n in group if graph.has_edge(n, n)}
        if loop:
            yield "a cycle: " + " <-> ".join(sorted(loop))


def hidden(texts: Mapping[str, str]) -> Iterator[str]:
    """Project imports inside a function, and imports by string, outside the doors."""
    for name, found in imported(texts).items():
        if name in DOORS:
            continue
        for each in found:
            if each.ours is not None and each.function is not None:
                yield f"{name}:{each.line} imports {each.ours} inside {each.function}()"
        for node in ast.walk(ast.parse(texts[name])):
            if isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
                yield f"{name}:{node.lineno} imports by string; only {', '.join(DOORS)} may"


def _called(node: ast.Call) -> str:
    match node.func:
        case ast.Name(id=word) | ast.Attribute(attr=word):
            return word
        case _:
            return ""


def absolute(texts: Mapping[str, str]) -> Iterator[str]:
    """`import plait...` inside the package; relative imports work under every name of it."""
    for name, found in imported(texts).items():
        for each in found:
            if each.ours is not None and not each.relative:
                yield f"{name}:{each.line} imports {each.module} by its absolute name"


def misplaced_libraries(texts: Mapping[str, str], known: frozenset[str]) -> Iterator[str]:
    """Libraries imported where they may not be, or that pyproject.toml does not name."""
    for name, found in imported(texts).items():
        for each in found:
            library = each.module.split(".")[0]
            if each.ours is not None or library in sys.stdlib_module_names:
                continue
            if library not in known:
                yield f"{name}:{each.line} imports {library}, which is no dependency in pyproject.toml"
            elif not any(name == place or name.startswith(f"{place}.") for place in LIBRARIES[library]):
                yield f"{name}:{each.line} imports {library}; only {LIBRARIES[library]} may"


def crossed(texts: Mapping[str, str]) -> Iterator[str]:
    """What may see only the public face, and the two printers, which may not see each other."""
    for name, found in imported(texts).items():
        for each in found:
            ours = each.ours or ""
            if name.startswith("stdlib") and ours not in ("", *FOR_STDLIB) and not ours.startswith("stdlib"):
                yield f"{name}:{each.line} imports {ours}; the standard library uses only the public face"
            for one, other in (("cpp", "triton"), ("triton", "cpp")):
                if name.startswith(f"backends.{one}") and ours.startswith(f"backends.{other}"):
                    yield f"{name}:{each.line} imports {ours}; what both printers need is neither's"


def long_functions(texts: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """`module:function` of every function over the budget, with its lines from `def` to its end."""
    for name, text in texts.items():
        for path, node in _functions(ast.parse(text), ()):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{name}:{path}", lines


Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(node: ast.AST, path: tuple[str, ...]) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, Function | ast.ClassDef)
        below = (*path, child.name) if named else path
        if isinstance(child, Function):
            yield ".".join(below), child
        yield from _functions(child, below)


def long_files(texts: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    for name, text in texts.items():
        lines = text.count("\n") + 1
        if lines > FILE_LINES:
            yield name, lines


def over_budget(found: Iterator[tuple[str, int]], exceptions: Mapping[str, tuple[int, str]]) -> list[str]:
    """What is too long and not excused, and what is excused and no longer needs it."""
    lengths = dict(found)
    most = {name: exceptions.get(name, (0, ""))[0] for name in lengths}
    long = [f"{name} has {lines} lines" for name, lines in lengths.items() if lines > most[name]]
    stale = [f"{name} needs no exception any more" for name in exceptions if name not in lengths]
    return long + stale


def dependencies() -> frozenset[str]:
    """The libraries that pyproject.toml says plait needs; each is imported by its own name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return frozenset(word.split(">")[0] for word in project["dependencies"])


# --- the rules hold


def shown(problems: list[str]) -> str:
    return "\n  " + "\n  ".join(problems)


def test_every_module_has_its_place() -> None:
    gone = [name for name in order() if name not in module_paths()]
    problems = [*unlisted(sources(), order()), *(f"{name} is in LAYERS and not in the tree" for name in gone)]
    if problems and not list(cycles(sources())):
        problems += ["", "orders that hold:", *suggested(sources(), order())]
    assert not problems, shown(problems)


def test_imports_point_one_way() -> None:
    problems = [*upward(sources(), order()), *cycles(sources())]
    assert not problems, shown(problems)


def test_no_project_import_is_hidden() -> None:
    problems = [*hidden(sources()), *absolute(sources())]
    assert not problems, shown(problems)


def test_libraries_stay_where_they_belong() -> None:
    problems = [*misplaced_libraries(sources(), dependencies()), *crossed(sources())]
    assert not problems, shown(problems)


def test_every_dependency_has_its_place() -> None:
    assert dependencies() == set(LIBRARIES)


def test_examples_use_only_the_public_face() -> None:
    known = module_paths()
    problems: list[str] = []
    for path in sorted((ROOT / "examples").glob("*.py")):
        for each in imports(f"examples.{path.stem}", path.read_text(encoding="utf-8"), known):
            if each.ours is not None and each.ours != FACE and not each.ours.startswith("stdlib"):
                problems.append(f"examples/{path.name}:{each.line} imports {full_name(each.ours)}")
    assert not problems, shown(problems)


def test_functions_stay_short() -> None:
    problems = over_budget(long_functions(sources()), LONG_FUNCTIONS)
    assert not problems, shown(problems)


def test_files_stay_short() -> None:
    problems = over_budget(long_files(sources()), LONG_FILES)
    assert not problems, shown(problems)


def test_only_the_two_facades_are_not_strict() -> None:
    loose = {name for name, text in sources().items() if "# pyright: basic" in text}
    assert loose <= {"dsl.proofs.algebra", "compiler.fusion.graphs"}


# --- what an import costs


def loaded(statement: str) -> set[str]:
    """The heavy libraries in memory after `statement` ran in a process of its own."""
    heavy = "('torch', 'triton', 'sympy', 'networkx', 'numpy', 'hypothesis')"
    code = f"import sys\n{statement}\nprint(*(name for name in {heavy} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_plait_is_light() -> None:
    assert loaded("import plait") == set()


def test_the_language_loads_no_library() -> None:
    names = [full_name(name) for name in module_paths() if name.split(".")[0] == "dsl"]
    light = [name for name in names if name != "plait.dsl.proofs.algebra"]
    assert light
    assert loaded("import " + ", ".join(light)) == set()


# --- the rules see what they are for

GOOD = {"dsl": "", "dsl.a": "import math", "dsl.b": "from .a import x", FACE: "", "compiler": ""}
RANKS = ["dsl", "dsl.a", "dsl.b", "compiler", FACE]


def test_good_sources_pass() -> None:
    problems = [*upward(GOOD, RANKS), *unlisted(GOOD, RANKS), *cycles(GOOD), *hidden(GOOD), *absolute(GOOD)]
    problems += [*misplaced_libraries(GOOD, frozenset()), *crossed(GOOD)]
    assert problems == []


PLANTED = {
    "upward": ({"dsl.a": "from .b import x"}, "dsl.a:1 imports dsl.b"),
    "upward to another package": ({"dsl.a": "from .. import compiler"}, "dsl.a:1 imports compiler"),
    "for types only": ({"dsl.a": "if TYPE_CHECKING:\n  from .b import x"}, "dsl.a:2 imports dsl.b"),
    "unlisted": ({"dsl.c": "from .a import x"}, "dsl.c is in no row of LAYERS: put it after dsl.a"),
    "cycle": ({"dsl.a": "from . import b"}, "a cycle: dsl.a <-> dsl.b"),
    "hidden": ({"dsl.b": "def f():\n  from .a import x"}, "dsl.b:2 imports dsl.a inside f()"),
    "by string": ({"dsl.b": "importlib.import_module('plait.dsl.a')"}, "dsl.b:1 imports by string"),
    "absolute": (
        {"dsl.b": "from plait.dsl.a import x"},
        "dsl.b:1 imports plait.dsl.a.x by its absolute name",
    ),
    "no dependency": ({"dsl.b": "import requests"}, "dsl.b:1 imports requests, which is no dependency"),
    "torch in dsl": ({"dsl.b": "def f():\n  import torch.fx"}, "dsl.b:2 imports torch; only"),
    "stdlib": ({"stdlib.x": "from ..dsl import a"}, "stdlib.x:1 imports dsl.a; the standard library"),
    "printers": (
        {"backends.cpp.x": "from ..triton import y", "backends.triton": "", "backends.triton.y": ""},
        "backends.cpp.x:1 imports backends.triton.y; what both",
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_mistake_is_found(planted: str) -> None:
    bad, expected = PLANTED[planted]
    texts = {**GOOD, **bad}
    problems = [*upward(texts, RANKS), *unlisted(texts, RANKS), *cycles(texts), *hidden(texts)]
    problems += [*absolute(texts), *misplaced_libraries(texts, frozenset({"torch"})), *crossed(texts)]
    assert any(problem.startswith(expected) for problem in problems), shown(problems)


def test_a_long_function_is_found() -> None:
    text = "class A:\n  def f(self):\n" + "    pass\n" * FUNCTION_LINES
    assert dict(long_functions({"dsl.a": text})) == {"dsl.a:A.f": FUNCTION_LINES + 1}
    assert over_budget(
        long_functions({"dsl.a": text}), {"dsl.a:A.f": (41, "why"), "dsl.b:g": (50, "why")}
    ) == ["dsl.b:g needs no exception any more"]


def test_a_heavy_import_is_found() -> None:
    assert "networkx" in loaded("import networkx")


def test_packages_are_the_layers() -> None:
    layers = [layer.partition(".")[0] for layer, _ in LAYERS]
    assert list(dict.fromkeys(layers)) == sorted(
        set(layers), key=["dsl", "compiler", "backends", "face", "stdlib"].index
    )
    assert set(layers) <= {*PACKAGES, "face"}
