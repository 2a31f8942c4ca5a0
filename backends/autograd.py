"""`Differentiable`: a compiled program in the graph of autograd, in reverse and forward mode, under vmap.

Derivatives are programs: backward calls the Differentiable of the gradient program, so it can itself be
differentiated, as often as one likes; forward mode calls that of the tangent program. Both are derived
when they are first needed, for the tensors that need them. Eager calls go through an autograd.Function;
calls that torch traces (torch.compile, torch.export, FakeTensor) go through the operator of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor
from torch._functorch.utils import unwrap_dead_wrappers
from torch.autograd import Function, forward_ad
from torch.nn import Parameter

from ..compiler.meaning.storage import results
from ..dsl.canonical import canonical
from ..dsl.ops import SMOOTH
from ..dsl.program import Form, Program
from . import derivatives
from .cache import COMPILING
from .compiled import Compiled
from .precision import NARROW, Like
from .registry import DEVICES, Dims, Run, Tensors, operator, untraced
from .shapes import Fakes, batches

if TYPE_CHECKING:
    from ..compiler.gradient.residuals import Kept, Sums

PLAIN = (Tensor, Parameter)
"""Tensors with memory of their own. Any other class (FakeTensor, DTensor ...) has its own idea of a call,
which only an operator reaches."""

Derive = Callable[[Program, Sequence[str]], Program]


def gradient(program: Program, wrt: Sequence[str]) -> Program:
    """See `compiler.gradient.derive.gradient`."""
    return derivatives().gradient(program, wrt)


def tangent(program: Program, wrt: Sequence[str]) -> Program:
    """See `compiler.gradient.tangent.tangent`."""
    return derivatives().tangent(program, wrt)


@dataclass(slots=True, eq=False)
class Differentiable:
    """Call it as `Compiled.run`: all tensors by name; all results by name, updated buffers (under
    `update:NAME`) and whatever is not real or complex outside the graph.

    Autocast changes no dtype (see `precision`), and is off inside. `kept` are the results that are there for
    the gradient only, or also: a call that autograd watches runs a twin that has them.
    """

    compiled: Compiled
    kept: tuple[Kept, ...] = ()
    names: tuple[str, ...] = field(init=False)
    outputs: tuple[str, ...] = field(init=False)
    results: tuple[str, ...] = field(init=False)
    """The names of the outputs, then `update:NAME` of the updated buffers."""
    smooth: tuple[str, ...] = field(init=False)
    """The names of the outputs that carry derivatives."""
    operator: Any = field(init=False, default=None, repr=False)
    _known: frozenset[str] = field(init=False, repr=False)
    _derived: dict[object, tuple[Differentiable, tuple[str, ...]]] = field(init=False, repr=False)
    _twins: dict[object, Differentiable] = field(init=False, repr=False)
    _sums: Sums | None = field(init=False, default=None, repr=False)
    _fakes: Fakes | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        program = self.compiled.program
        self.names = tuple(declaration.leaf.name for declaration in program.declarations)
        self.outputs = tuple(output.name for output in program.outputs)
        self.results = tuple(result.key for result in results(program))
        extra = {each.result for each in self.kept if each.added}
        self.smooth = tuple(
            output.name
            for output in program.outputs
            if output.value.kind in SMOOTH and output.name not in extra
        )
        self._known = frozenset(self.names)
        self._derived, self._twins = {}, {}

    @property
    def name(self) -> str:
        return self.compiled.program.name

    @property
    def identity(self) -> str:
        made = self.compiled
        options = f"{made.backend} {made.dtype} {made.on_unfused} {made.deterministic}"
        return f"{options}\n{canonical(made.program)}"

    def ran(self) -> tuple[Compiled, ...]:
        """The programs that calls have run so far: its own, those in its place, their derivatives."""
        others = [*self._twins.values(), *(each for each, _ in self._derived.values())]
        found = [self.compiled, *(each for other in others if other is not self for each in other.ran())]
        return tuple(each for i, each in enumerate(found) if each.last and (i == 0 or each is not found[0]))

    # --- calls

    def __call__(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Raises what `Compiled.run` raises."""
        if torch.compiler.is_compiling():
            if len(tensors) != len(self.names) or any(name not in tensors for name in self.names):
                return self.compiled.run(tensors)
            return self._traced([tensors[name] for name in self.names])
        if tensors.keys() != self._known:
            return self.compiled.run(tensors)
        given = [tensors[name] for name in self.names]
        device = given[0].device.type if given else "cpu"
        if _opaque(given) or device not in DEVICES or torch._C._len_torch_dispatch_stack():
            return self._traced(given)
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return self._eager(given)
        return self._eager(given)

    def _eager(self, given: Sequence[Tensor]) -> dict[str, Tensor]:
        if not _watched(given):
            made = self.compiled.run(dict(zip(self.names, given, strict=True)))
            return {name: made[name] for name in self.results}
        call = self.keeping(given)
        made = dict(zip(call.results, call.record(call.launch, given), strict=True))
        return {name: made[name] for name in self.results}

    def keeping(self, tensors: Sequence[Tensor]) -> Differentiable:
        """What runs in place of this where a gradient may be asked for: it keeps what that reads."""
        own = self.compiled
        wrt = tuple(name for name, each in zip(self.names, tensors, strict=True) if each.requires_grad)
        if not wrt or own.derived or own.recompute == "all":
            return self
        rounded = any(each.dtype in NARROW for each in tensors)
        key = wrt if own.recompute == "none" else None, rounded, self._too_large(tensors)
        if key not in self._twins:
            with COMPILING:
                if key not in self._twins:
                    self._twins[key] = self._twin(wrt, rounded, key[2])
        return self._twins[key]

    def _too_large(self, tensors: Sequence[Tensor]) -> frozenset[Form]:
        """What `recompute="auto"` does not keep at these sizes."""
        own = self.compiled
        if own.recompute != "auto":
            return frozenset()
        sums = self._sums
        if sums is None:
            sums = self._sums = cast("Sums", derivatives().Sums(own.program))
        return sums.too_large(
            [tensor.shape for tensor in tensors],
            lambda: own.bind(dict(zip(self.names, tensors, strict=True))),
        )

    def _twin(self, wrt: Sequence[str], rounded: bool, without: frozenset[Form]) -> Differentiable:
        own, programs = self.compiled, derivatives()
        reverse = None
        if own.recompute == "none":
            reverse = programs.gradient(programs.apart(replace(own.program, updates=())), wrt)
        program, kept = programs.keep(own.program, own.recompute, reverse, rounded=rounded, without=without)
        if not kept:
            return self
        added = tuple(each.result for each in kept if each.added)
        compiled = own.beside(program, own.derived, own.like, added)
        return Differentiable(compiled if added else own, kept)

    def _traced(self, given: Sequence[Tensor]) -> dict[str, Tensor]:
        self.registered()
        made = self.operator(*given)
        return dict(zip(self.results, (made,) if len(self.results) == 1 else made, strict=True))

    @untraced
    def registered(self) -> bool:
        """Make the operator."""
        with COMPILING:
            if self.operator is None:
                self.operator = operator(self)
        return True

    # --- what runs

    def launch(self, *tensors: Tensor) -> Tensors:
        """The results as new tensors, none of which shares memory with another or with a given one."""
        made = self.compiled.run(dict(zip(self.names, tensors, strict=True)))
        return tuple([made[name] for name in self.results])

    def fake(self, *tensors: Tensor) -> Tensors:
        """Empty tensors like the results of `launch`. Raises AxisSizeMismatch and its kin."""
        return self.empty(tensors, [tuple(tensor.shape) for tensor in tensors])

    def empty(self, tensors: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]) -> Tensors:
        """Results without values for tensors of these shapes."""
        if self._fakes is None:
            self._fakes = Fakes(self.compiled.program, self.compiled.dtype, self.compiled.like)
        given = dict(zip(self.names, tensors, strict=True))
        return self._fakes(given, dict(zip(self.names, shapes, strict=True)))

    def record(self, run: Run, tensors: Sequence[Tensor]) -> Tensors:
        """`run(*tensors)` in the graph of autograd."""
        return _Call.apply(self, run, *tensors)

    # --- derivatives

    def derivative(
        self, derive: Derive, wrt: Sequence[str], outputs: Sequence[str], tensors: Sequence[Tensor],
        directions: Sequence[Tensor],
    ) -> list[Tensor]:  # fmt: skip
        """What the derived program of the named outputs makes of `tensors` and of one direction more for
        each input that it adds, in its order of outputs."""
        key = (derive.__name__, tuple(wrt), tuple(outputs))
        if key not in self._derived:
            with COMPILING:
                if key not in self._derived:
                    self._derived[key] = self._derive(derive, wrt, outputs)
        derived, names = self._derived[key]
        given = dict(zip(self.names, tensors, strict=True)) | dict(zip(names, directions, strict=True))
        return list(derived(given).values())

    def recovered(
        self, wrt: Sequence[str], outputs: Sequence[str], tensors: Sequence[Tensor],
        kept: Sequence[Tensor], cotangents: Sequence[Tensor],
    ) -> list[Tensor]:  # fmt: skip
        """The gradient for `wrt`, from what the call kept. It can not be derived again."""
        key = ("recovered", tuple(wrt), tuple(outputs))
        if key not in self._derived:
            with COMPILING:
                if key not in self._derived:
                    self._derived[key] = self._derive(gradient, wrt, outputs, self.kept)
        derived, names = self._derived[key]
        given = dict(zip(self.names, tensors, strict=True))
        given |= {each.declaration.leaf.name: tensor for each, tensor in zip(self.kept, kept, strict=True)}
        given |= zip([name for name in names if name not in given], cotangents, strict=True)
        return list(derived({name: given[name] for name in derived.names}).values())

    def _derive(
        self, derive: Derive, wrt: Sequence[str], outputs: Sequence[str], kept: tuple[Kept, ...] = ()
    ) -> tuple[Differentiable, tuple[str, ...]]:
        """The derived program, in terms of what is `kept`, and the names of the inputs that it adds."""
        own = self.compiled
        asked = tuple(each for each in own.program.outputs if each.name in outputs)
        programs = derivatives()
        program = derive(programs.apart(replace(own.program, outputs=asked, updates=())), wrt)
        program = programs.from_kept(program, kept) if kept else program
        names = tuple(each.name for each in program.outputs)
        like = tuple(zip(names, wrt, strict=True)) if derive is gradient else self._like(outputs, names)
        made = Differentiable(own.beside(program, True, like))
        return made, tuple(each.leaf.name for each in programs.added(own.program, program))

    def _like(self, outputs: Sequence[str], tangents: Sequence[str]) -> Like:
        """A tangent has the dtype of what it is the tangent of."""
        models = dict(self.compiled.like)
        pairs = zip(outputs, tangents, strict=True)
        return tuple((tangent, models[name]) for name, tangent in pairs if name in models)

    # --- vmap

    def mapped(self, run: Run, count: int, dims: Dims, tensors: Sequence[Tensor]) -> tuple[Tensors, Dims]:
        """`run` for each of `count` entries along `dims`: in one call where the mapped dimension can
        be one more of `...`, else one after another. The results, and where the entries lie."""
        places = batches(self.compiled.program)
        mapped = [name for name, dim in zip(self.names, dims, strict=True) if dim is not None]
        if places is None or any(name not in places for name in mapped):
            return self._one_by_one(run, count, dims, tensors)
        joined: list[Tensor] = []
        for name, dim, tensor in zip(self.names, dims, tensors, strict=True):
            if name not in places:
                joined.append(tensor)
            elif dim is not None:
                joined.append(tensor.movedim(dim, places[name]))
            else:
                shape = list(tensor.shape)
                shape.insert(places[name], count)
                joined.append(tensor.unsqueeze(places[name]).expand(shape))
        return run(*joined), tuple(places[name] for name in self.results)

    def _one_by_one(
        self, run: Run, count: int, dims: Dims, tensors: Sequence[Tensor]
    ) -> tuple[Tensors, Dims]:
        if count == 0:
            shapes = [
                (*tensor.shape[:dim], *tensor.shape[dim + 1 :]) if dim is not None else tuple(tensor.shape)
                for tensor, dim in zip(tensors, dims, strict=True)
            ]
            nothing = (made.new_empty((0, *made.shape)) for made in self.empty(tensors, shapes))
            return tuple(nothing), (0,) * len(self.results)
        calls = [
            run(
                *(
                    each if dim is None else each.select(dim, at)
                    for each, dim in zip(tensors, dims, strict=True)
                )
            )
            for at in range(count)
        ]
        return tuple(torch.stack(parts) for parts in zip(*calls, strict=True)), (0,) * len(self.results)


def differentiable(compiled: Compiled) -> Differentiable:
    """The compiled program as a call that autograd sees."""
    return Differentiable(compiled)


def _opaque(tensors: Sequence[Tensor]) -> bool:
    """Whether a kernel cannot reach some memory: a tensor of another class, or of `is_grads_batched`."""
    return any(type(tensor) not in PLAIN or is_legacy_batchedtensor(tensor) for tensor in tensors)


def _watched(tensors: Sequence[Tensor]) -> bool:
    """Whether anyone looks on: autograd, forward mode, or a transform of torch.func."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return True
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


# --- autograd


class _Call(Function):
    """One call. Its tensors are those of the program, in order."""

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """That of Function, which reads the signature of `forward` at every call: 40 us here."""
        if kwargs or torch._C._are_functorch_transforms_active():
            return super().apply(*args, **kwargs)
        return cast("Any", super(Function, cls)).apply(*unwrap_dead_wrappers(args))

    @staticmethod
    def forward(program: Differentiable, run: Run, *tensors: Tensor) -> Tensors:
        return run(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        program, _, *tensors = inputs
        ctx.program = program
        made = dict(zip(program.results, output, strict=True))
        ctx.save_for_backward(*tensors, *[made[each.result] for each in program.kept])
        ctx.save_for_forward(*tensors)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*[tensor for name, tensor in made.items() if name not in program.smooth])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        program: Differentiable = ctx.program
        needed = zip(program.names, ctx.needs_input_grad[2:], strict=True)
        wrt = [name for name, need in needed if need]
        given = {
            name: cotangent
            for name, cotangent in zip(program.results, cotangents, strict=True)
            if cotangent is not None and name in program.smooth
        }
        found: list[Tensor] = []
        saved, count = ctx.saved_tensors, len(program.names)
        tensors, kept = saved[:count], saved[count:]
        if wrt and given and kept and not torch.is_grad_enabled():
            found = program.recovered(wrt, tuple(given), tensors, kept, tuple(given.values()))
        elif wrt and given:
            found = program.derivative(gradient, wrt, tuple(given), tensors, tuple(given.values()))
        gradients = dict(zip(wrt, found, strict=False))
        return (None, None, *(gradients.get(name) for name in program.names))

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        program: Differentiable = ctx.program
        pairs = zip(program.names, tangents[2:], strict=True)
        given = {name: direction for name, direction in pairs if direction is not None}
        found: list[Tensor] = []
        if given:
            tensors = ctx.saved_tensors[: len(program.names)]
            directions = tuple(given.values())
            found = program.derivative(tangent, tuple(given), program.smooth, tensors, directions)
        pushed = dict(zip(program.smooth, found, strict=False))
        return tuple(pushed.get(name) for name in program.results)

    @staticmethod
    def vmap(
        info: Any, in_dims: Dims, program: Differentiable, run: Run, *tensors: Tensor
    ) -> tuple[Tensors, Dims]:
        def again(*tensors: Tensor) -> Tensors:
            return program.record(program.launch, tensors)

        return program.mapped(again, info.batch_size, in_dims[2:], tensors)
