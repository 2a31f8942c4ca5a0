"""The programs of language.md section 2, in the Python spelling: each traces, declares what the papers'
own modules hold, and, where its sizes are fixed, becomes the plain numbers that Python was promised."""

from __future__ import annotations

from typing import Any

from plait import (
    Mixer,
    Value,
    as_if,
    axes,
    axis,
    bernoulli,
    buffer,
    cat,
    cdiv,
    clamp,
    cplx,
    draw,
    erf,
    exp,
    flat,
    floor,
    jvp,
    layer,
    lerp,
    maximum,
    merge,
    minimum,
    mixer,
    mode,
    near,
    on_gradient,
    param,
    place,
    previous,
    re,
    relu,
    require,
    scan,
    select,
    softmax,
    solve,
    split,
    sqrt,
    stop,
    union,
    update,
    vjp,
    when,
    zeros,
)
from plait.dsl.program import Axis, Form, OnGradient, Place, Program, Reduce, Scan

b, c, h, w, t, d, m, n, e, o = axes("b c h w t d m n e o")
l, s, p, x, y = axes("l s p x y")


def gelu(v: Value) -> Value:
    return v * 0.5 * (1 + erf(v / 2**0.5))


@layer
def layernorm(v, *over, eps=1e-5):
    mean = v.mean(*over)
    variance = ((v - mean) ** 2).mean(*over)
    return (v - mean) / sqrt(variance + eps) * param("weight", *over, init=1) + param("bias", *over, init=0)


@layer
def linear(v, src, dst, *, bias=True, ones=()):
    if dst is src:
        src = src.like()
        v = v[{dst: src}]
    out = (param("weight", dst, src, *ones) * v).sum(src)
    return out + param("bias", dst) if bias else out


@layer
def bn(v, ch, over, *, eps=1e-5):
    mu, var = buffer("running_mean", ch, init=0), buffer("running_var", ch, init=1)
    k = buffer("num_batches_tracked", kind="int")
    if mode() == "train":
        count = v.count(*over)
        mean = v.mean(*over)
        variance = ((v - mean) ** 2).mean(*over)
        update(mu, 0.9 * mu + 0.1 * mean)
        update(var, 0.9 * var + 0.1 * variance * count / (count - 1))
        update(k, k + 1)
        mu, var = mean, variance
    return (v - mu) / sqrt(var + eps) * param("weight", ch) + param("bias", ch)


@mixer("x[..., c, h, w] -> o[..., c, h, w]")
def normalised(x):
    return bn(x, c, (..., h, w), name="bn")


@mixer("x[b, c, h, w] -> o[b, c, h, w]")
def convnext(x, *, drop: float = 0.0):
    dh, dw = near("dh dw", 3)
    e = axis("e", 4 * c.size)
    u = (param("dwconv.weight", c, 1, dh, dw) * x[h + dh, w + dw]).sum(dh, dw) + param("dwconv.bias", c)
    z = layernorm(u, c, name="norm", eps=1e-6)
    z = linear(gelu(linear(z, c, e, name="pwconv1")), e, c, name="pwconv2")
    z = param("gamma", c, init=1e-6) * z
    if drop and mode() == "train":
        z = z * draw("keep", b, dist=bernoulli(1 - drop)) / (1 - drop)
    return x + z


@mixer("qkv[z=3, b, (h w), (m e)] -> o[b, (h w), (m e)]")
def lepe(qkv, *, hs: int, ws: int):
    z = axes("z")
    require(h.size % hs == 0, w.size % ws == 0)
    Y, p, X, s = axis("Y", h.size // hs), axis("p", hs), axis("X", w.size // ws), axis("s", ws)
    p2, s2 = p.like(), s.like()
    dp, ds = near("dp ds", 1)
    q, k, v = (qkv[{z: i, h: Y * hs + p, w: X * ws + s}] for i in range(3))
    k, v2 = k[{p: p2, s: s2}], v[{p: p2, s: s2}]
    a = softmax((q * k).sum(e) * e.size**-0.5, (p2, s2))
    local = (param("get_v.weight", (m, e), 1, dp, ds) * v[p + dp, s + ds]).sum(dp, ds)
    out = (a * v2).sum(p2, s2) + local + param("get_v.bias", (m, e))
    return out[merge(h, Y, p) | merge(w, X, s)]


@mixer(
    "qi[..., h, w, d], ki[..., h, w, d], vi[..., h, w, d], qt[..., t, d], kt[..., t, d], vt[..., t, d] "
    "-> image[..., h, w, d], text[..., t, d]"
)
def clear_core(qi, ki, vi, qt, kt, vt, *, r: int = 3, f: int = 0):
    dh, dw = near("dh dw", r)
    scale = d.size**-0.5
    tq = t.like("tq")
    window = when(dh * dh + dw * dw < r * r, (qi * ki[h + dh, w + dw]).sum(d) * scale)
    scores, values = [((qi * kt).sum(d) * scale, (t,)), (window, (dh, dw))], [vt, vi[h + dh, w + dw]]
    if f:
        require(h.size % f == 0, w.size % f == 0)
        u, v, a, g = axis("u", h.size // f), axis("v", w.size // f), axis("a", f), axis("g", f)
        S = param("processor.spatial_weight", 1, 1, 1, a, 1, g, 1)
        kd, vd = ((S * z[split(h, u, a) | split(w, v, g)]).sum(a, g) for z in (ki, vi))
        scores.append(((qi * kd).sum(d) * scale, (u, v)))
        values.append(vd)

    def mix(scores, values):
        weights = softmax(union(*scores))
        return union(*((q * v, over) for q, v, (_, over) in zip(weights, values, scores, strict=True))).sum()

    q2 = qt[{t: tq}]
    text = mix([((q2 * kt).sum(d) * scale, (t,)), ((q2 * ki).sum(d) * scale, (h, w))], [vt, vi])
    return mix(scores, values), text[{tq: t}]


@mixer("u[b, c, y, x], v[b, c, y, x], A[b, g, y, x, i, j] -> o[b, c, y, x]")
def contmix(u, v, A, *, G: int = 2, s: int = 3, k: int = 5):
    g, i, j = axes("g i j")
    H, W, C = y.size, x.size, c.size
    require(g.size == G, C % (2 * G) == 0)
    y2, x2, n, tt = y.like(), x.like(), axis("n", C // 2), axis("tt", s * s + k * k)
    bins = (y2 >= i * H // 7) & (y2 < cdiv((i + 1) * H, 7)) & (x2 >= j * W // 7) & (x2 < cdiv((j + 1) * W, 7))
    pooled = u[{y: y2, x: x2}].mean(y2, x2, where=bins)
    Z = (param("weight_proj.weight", tt, (i, j), 1, 1) * (A + pooled.mean(c))).sum(i, j)
    Z, outs = Z + param("weight_proj.bias", tt), []
    for half, (r, tab, t0) in enumerate(((s, "rpb1", 0), (k, "rpb2", s * s))):
        rh, rw = near("rh rw", r - 1)
        ki, kj, dv = axis("ki", r), axis("kj", r), axis("dv", C // 2 // G)
        ay, ax = clamp(y - r // 2, 0, H - r), clamp(x - r // 2, 0, W - r)
        require(r <= H, r <= W)
        bias = param(tab, g, rh, rw)[{rh: ay + ki - y, rw: ax + kj - x}]
        M = softmax(Z[{tt: t0 + ki * r + kj}] + bias, (ki, kj))
        taps = v[{c: half * (C // 2) + g * dv.size + dv, y: ay + ki, x: ax + kj}]
        outs.append((M * taps).sum(ki, kj)[{g: n // dv.size, dv: n % dv.size}])
    return cat(c, (outs[0], n), (outs[1], n))


@mixer("v[b, c, y, x] -> o[b, c, y, x]")
def scnn(v, *, width: int = 9):
    j = c.like("j")
    passes = (
        ("up_down", y, x, False),
        ("down_up", y, x, True),
        ("left_right", x, y, False),
        ("right_left", x, y, True),
    )
    for name, on, along, rev in passes:
        k = near("k", width // 2)
        K = param(f"message_passing.{name}.weight", c, j, *((1, k) if along is x else (k, 1)))
        p = previous(on, init=zeros(b, c, along), reverse=rev)
        v = scan(p, v + relu((K * p[{c: j, along: along + k}]).sum(j, k)))
    return v


@mixer("U[b, t, y, x, u], x0[b, y, x, p]: complex -> o[b, t, y, x], xT[b, y, x, p]: complex")
def convssm(U, x0, *, width: int = 1):
    u, ri = axes("u"), axis("ri", 2)
    dy, dx, ey, ex = near("dy dx ey ex", width)
    lam = cplx(minimum(param("Lambda_re", p), -1e-4), param("Lambda_im", p))
    A = exp(lam * exp(param("log_step", p, 1)))
    Bt, Ct = param("B", p, (u, dy, dx), ri), param("C", p, (ey, ex), ri)
    B = (A - 1) / lam * cplx(Bt[{ri: 0}], Bt[{ri: 1}])
    z = previous(t, init=x0)
    xs = scan(z, A * z + (B * U[y + dy, x + dx]).sum(dy, dx, u))
    out = 2 * re((cplx(Ct[{ri: 0}], Ct[{ri: 1}]) * xs[y + ey, x + ex]).sum(ey, ex, p))
    return out, xs.last


@mixer("x[b, c, t] -> o[b, c, t]")
def prepbn(x, *, r0: float = 1.0):
    warm, it, total = (buffer(name, kind="int") for name in ("warm", "iter", "total_step"))
    mu = buffer("running_mean", c)
    z = x - mu
    if mode() != "train":
        return z
    lam = r0 * it / total
    y1 = layernorm(x, c, name="norm1")
    update(mu, select(warm > 0, mu, 0.9 * mu + 0.1 * x.mean(b, t)))
    update(warm, select(warm > 0, warm - 1, warm))
    update(it, select((warm > 0) | (it <= 0), it, it - 1))
    return select(warm > 0, y1, lam * y1 + (1 - lam) * z)


@mixer("x[b, c, h, w] -> y[b, o, oh, ow], kernel[o, i, r, q]")
def dcls(x, *, G: int = 2, O: int = 4, I: int = 3, taps: int = 5, k0: int = 5, s0: int = 2, p0: int = 2):
    o, i, n, two = axis("o", O), axis("i", I), axis("n", taps), axis("two", 2)
    r, q = axis("r", k0), axis("q", k0)
    P = param("P", n, o, i, two)

    def tent(j, at):
        return select(j == floor(at), 1 - (at - floor(at)), select(j == floor(at) + 1, at - floor(at), 0.0))

    bump = tent(r, P[{two: 0}] + k0 // 2) * tent(q, P[{two: 1}] + k0 // 2)
    K = (param("weight", o, i, n) * bump).sum(n)
    oh, ow = axis("oh", (h.size + 2 * p0 - k0) // s0 + 1), axis("ow", (w.size + 2 * p0 - k0) // s0 + 1)
    taken = x[{c: o // (O // G) * I + i, h: oh * s0 + r - p0, w: ow * s0 + q - p0}].otherwise(0)
    return {"kernel": K, "y": (K * taken).sum(i, r, q) + param("bias", o)}


@mixer("x[b, c, h, w] -> y[b, o, oh, ow]")
def tract(x, *, k: int = 2, lam: float = 0.1):
    o, ky, kx = axis("o", 4), axis("ky", k), axis("kx", k)
    oh, ow = axis("oh", h.size // k), axis("ow", w.size // k)
    X = x[{h: oh * k + ky, w: ow * k + kx}].otherwise(0)
    n, taken, index = flat(c, ky, kx, name="n")
    m = n.like("m")
    Xs = stop(X)
    rows, columns = Xs[taken], Xs[merge(m, c, ky, kx)]
    S = (rows * columns).mean(b, oh, ow) + lam * select(n == m, 1.0, 0.0)
    weight = param("weight", o, c, ky, kx)
    W = on_gradient(weight, lambda g: solve(S, g[taken], n, m, "spd")[{m: index}])
    return (W * X).sum(c, ky, kx) + param("bias", o)


@mixer("x0[b, c], x1[b, c], u[b, c] -> y0[b, c], y1[b, c], row[b, c], r[b, c]")
def linear_scope(x0, x1, u):
    y0 = layernorm(gelu(linear(x0, c, c, name="fc")), c, name="norm")
    return {"y0": y0, "y1": jvp(y0, {x0: x1}), "row": vjp(y0, x0, u), "r": y0 - jvp(y0, {x0: x0})}


@mixer("x[b, t, d], logits[b, t, n] -> every[b, t, n, d], chosen[b, t, d], gated[b, t, d]")
def acm(x, logits):
    i, u = axis("i", n.size - 1), axis("u", 8)
    q = d.like()
    a = gelu((param("w1", d, (i, u)) * x).sum(d) + param("b1", (i, u)))
    rr = (param("w2", (i, u), q) * a).sum(u)[{q: d}]
    r = rr[{i: n - 1}].otherwise(0) + param("b2", (n, d))
    k = n.like()
    S = r[{n: k}].sum(k, where=k <= n)
    S1 = as_if(S, r)
    pick = logits.argmax(n)
    gated = S[{n: minimum(pick, pick.max(b, t) - 1)}].otherwise(0)
    return {"every": S1, "chosen": S1[{n: pick}], "gated": gated}


@mixer("q0[b, l, m, e], k[b, s, m, e], v[b, s, m, e], beta[m], T[m]: int -> o[b, l, m, e], steps[m]: int")
def hopfield(q0, k, v, beta, T, *, N: int = 3, eps: float = 1e-4):
    u = axis("u", N)

    def weights(q):
        return softmax(beta * (q * k).sum(e), s)

    p, p1 = previous(u, init=(q0, q0))
    now = weights(p)
    moved = sqrt(((now - weights(p1)) ** 2).sum(l, s)).max(b) > eps
    go = (u < T) & ((u == 0) | moved)
    found = scan((p, p1), ((now * k).sum(s), p), until=~go)
    q = found.last[0]
    return (weights(q) * v).sum(s), found.steps


ROWS = (("lk", "bn0", 5, 1), ("b1", "bn1", 3, 1), ("b2", "bn2", 3, 2))


@mixer("x[b, c, h, w] -> o[b, c, h, w]")
def dilated(x):
    total = zeros(b, c, h, w)
    for key, name, k, r in ROWS:
        u, v = near("u v", k // 2)
        read = (param(key + ".weight", c, 1, u, v) * x[h + r * u, w + r * v]).sum(u, v)
        total = total + bn(read, c, (b, h, w), name=name)
    return total


@mixer("xt[b, c, h, w] -> o[b, c2, h, w]")
def bpa(xt, *, C: int = 8, sg: float = 2.0):
    require(c.size == C)
    c2 = axis("c2", 2 * C)
    h2, w2 = h.like(), w.like()
    dh, dw = near("dh dw", 1)
    G = exp(-((h - h2) ** 2 + (w - w2) ** 2) / (2 * sg**2))
    Gs = (G / G.sum(h2, w2) * xt[{h: h2, w: w2}]).sum(h2, w2)
    u = 1 / (1 + exp(-xt))
    A = (u * u[h + dh, w + dw].otherwise(0)).sum(c) / C
    R = (softmax(A, (dh, dw)) * xt[h + dh, w + dw]).sum(dh, dw)
    n = (c * h.size + h) * w.size + w
    pieces = [v[{h: n // C // w.size, w: n // C % w.size, c: n % C}] for v in (Gs, R)]
    c3, c4 = axis("c3", C), axis("c4", C)
    both = cat(c2, (pieces[0][{c: c3}], c3), (pieces[1][{c: c4}], c4))
    k = c2.like()
    return (param("down.0.weight", c2, k, 1, 1) * both[{c2: k}]).sum(k)


@mixer("x[b, c, h, l] -> y[b, c, h, l]")
def sgconv(x, *, S: int = 3, mu: float = 0.5):
    d, pieces = axis("d", 4), []
    flag, norm_buf = buffer("flag", kind="bool", init=0), buffer("kernel_norm", c, h)
    for i in range(S):
        f = 2 ** max(0, i - 1)
        t = axis(f"t{i}", d.size * f)
        pos = maximum((t + 0.5) / f - 0.5, 0)
        K = param(f"kernel_list.{i}", c, h, d)
        pieces.append((lerp(K, d, floor(pos), pos - floor(pos), border=clamp) * mu ** (S - 1 - i), t))
    n, k = axis("n", sum(t.size for _, t in pieces)), l.like()
    kap = cat(n, *pieces)
    nrm = select(~flag, stop(sqrt((kap * kap).sum(n))), norm_buf)
    update(norm_buf, nrm)
    update(flag, True)
    kl = (kap / nrm)[{n: l}].otherwise(0)
    return (kl[{l: l - k}] * x[{l: k}]).sum(k) + x * param("D", c, h)


@mixer("y[b, d], bound[v]: int -> logits[b, v]")
def chain_logits(y, bound):
    v = axes("v")
    return (param("output.weight", v, d) * y).sum(d, where=d < bound).otherwise(0)


@mixer("x[b, c, n] -> z[b, n]")
def spartan(x):
    require(n.size >= c.size, n.size % 2 == 0)
    p, r = axis("p", n.size // 2), axis("r", 2)
    v = x.mean(c)
    f = v * v + (v * v)[{n: x.argmax(c)}].mean(n)
    F = f[{n: 2 * p + r}]
    f0, f1 = F[{r: 0}], F[{r: 1}]
    return select(n % 2 == 0, (f0 - f1)[{p: n // 2}], (f1 + f0)[{p: n // 2}])


# --- what they are


STATICS: dict[str, dict[str, int]] = {"lepe": {"hs": 4, "ws": 7}}
MIXERS = {name: each for name, each in globals().items() if isinstance(each, Mixer)}


def keys(program: Program) -> list[str]:
    return [declaration.leaf.name for declaration in (*program.parameters, *program.buffers, *program.draws)]


def count(program: Program, form: type[Form]) -> int:
    return sum(isinstance(each, form) for each in program.forms)


def test_every_program_traces_in_both_modes() -> None:
    assert len(MIXERS) == 18
    for name, each in MIXERS.items():
        for mode_ in ("eval", "train"):
            statics: dict[str, Any] = STATICS.get(name, {})
            program = each.program(mode=mode_, **statics)
            assert program.mode == mode_
            again = each.definition.arguments.request(statics, mode_, (), None)
            assert program == each.definition.make(again)


def test_layers_prefix_their_keys_and_splice_buffers_in() -> None:
    program = normalised.program(mode="train")
    assert keys(program) == [
        "bn.weight",
        "bn.bias",
        "bn.running_mean",
        "bn.running_var",
        "bn.num_batches_tracked",
    ]
    assert [update.buffer.name for update in program.updates] == keys(program)[2:]
    assert normalised.program().updates == ()
    assert keys(normalised.program()) == keys(program)


def test_a_draw_is_an_input_that_the_module_fills() -> None:
    program = convnext.program(mode="train", drop=0.1)
    (keep,) = program.draws
    assert (keep.leaf.name, keep.items, keep.init) == ("keep", ((Axis("b"),),), "bernoulli(0.9)")
    assert convnext.program(mode="train").draws == ()


def test_official_layouts() -> None:
    (weight, bias) = lepe.program(hs=4, ws=7).parameters
    assert [[axis.name for axis in item] for item in weight.items] == [["m", "e"], [], ["dp"], ["ds"]]
    assert [[axis.name for axis in item] for item in bias.items] == [["m", "e"]]
    (spatial,) = clear_core.program(f=2).parameters
    assert [[axis.name for axis in item] for item in spatial.items] == [[], [], [], ["a"], [], ["g"], []]
    assert convssm.program().parameters[3].items[1] == tuple(convssm.program().parameters[3].leaf.over[1:4])


def test_a_scan_runs_over_the_axis_of_its_carry() -> None:
    assert count(scnn.program(), Scan) == 4
    assert {each.reverse for each in scnn.program().forms if isinstance(each, Scan)} == {True, False}
    last = convssm.program().outputs[1].value
    assert isinstance(last, Scan)
    assert last.last
    assert last.kind == "complex"


def test_steps_are_one_more_carry() -> None:
    value = hopfield.program().outputs[1].value
    assert isinstance(value, Scan)
    assert len(value.carries) == 3
    assert value.kind == "int"


def test_output_names_stand_for_fresh_axes() -> None:
    image, kernel = dcls.program().outputs
    assert [axis.name for (axis,) in image.items] == ["b", "o", "oh", "ow"]
    assert image.items[2][0].how == "axis"
    assert kernel.items[0] == image.items[1]


def test_a_union_is_one_reduction() -> None:
    reduced = [
        each for each in clear_core.program(f=2).forms if isinstance(each, Reduce) and each.op == "lse"
    ]
    assert sorted(len(each.pieces) for each in reduced) == [2, 3]


def test_a_rule_is_traced_once_and_bound() -> None:
    (marked,) = (each for each in tract.program().forms if isinstance(each, OnGradient))
    assert marked.cotangent.role == "bound"
    assert marked.cotangent.over == marked.value.axes


def test_sizes_that_are_given_are_numbers() -> None:
    given, free = contmix.program(c=8), contmix.program()
    assert dict(given.fixed) == {Axis("c"): 8}
    assert len(given.forms) < len(free.forms)
    dv = next(axis for each in given.forms for axis in each.axes if axis.name == "dv")
    assert repr(dv.size) == "Const(value=2, written='4 // G')"


def test_place_is_the_transpose_of_a_read() -> None:
    @mixer("x[b, t] -> o[b, n]")
    def spread(x):
        n = axis("n", 2 * t.size)
        return place(x, {n: 2 * t}).otherwise(0)

    assert count(spread.program(), Place) == 1
