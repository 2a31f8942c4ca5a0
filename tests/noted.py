"""Programs whose whole reports are held: CLEAR and ContMix, written from their papers."""

from __future__ import annotations

from plait import Value, axes, axis, clamp, mixer, near, param, require, softmax, union, when

b, d, g, h, w, t = axes("b d g h w t")

IMAGE, WORDS = "{0}i[..., h, w, d]", "{0}t[..., t, d]"
HEADER = ", ".join(each.format(name) for each in (IMAGE, WORDS) for name in "qkv")


@mixer(f"{HEADER} -> image[..., h, w, d], text[..., t, d]")
def clear(qi: Value, ki: Value, vi: Value, qt: Value, kt: Value, vt: Value, *, radius: int = 8):
    """An image token sees all text and the image tokens nearer than `radius`; a text token sees everything
    (CLEAR, arXiv 2412.16112, equation 5)."""
    dh, dw = near("dh dw", radius)
    scale = d.size**-0.5
    local = when(dh * dh + dw * dw < radius * radius, (qi * ki[h + dh, w + dw]).sum(d) * scale)
    words, places = softmax(union(((qi * kt).sum(d) * scale, t), (local, (dh, dw))))
    image = union((words * vt, t), (places * vi[h + dh, w + dw], (dh, dw))).sum()
    tq = t.like("tq")
    query = qt[{t: tq}]
    words, places = softmax(union(((query * kt).sum(d) * scale, t), ((query * ki).sum(d) * scale, (h, w))))
    text = union((words * vt, t), (places * vi, (h, w))).sum()
    return image, text[{tq: t}]


KEYS = "q[b, g, d, h, w], k[b, g, d, i=7, j=7], v[b, (m=2, g, e), h, w]"


@mixer(f"{KEYS} -> fine[b, (g, e), h, w], wide[b, (g, e), h, w]")
def contmix(q: Value, k: Value, v: Value, *, small: int = 5, large: int = 7):
    """A kernel for every pixel and head from its affinity to 7 x 7 context tokens; half of the channels by a
    small window, half by a large one, both shifted to stay inside the image (OverLoCK, arXiv 2502.20087)."""
    i, j, m = axes("i j m")
    taps = axis("taps", small * small + large * large)
    require(h.size >= large, w.size >= large)
    affinity = (q * k).sum(d)
    logits = (param("weight_proj.weight", taps, i, j) * affinity).sum(i, j) + param("weight_proj.bias", taps)
    halves: list[Value] = []
    for half, (size, name, first) in enumerate(((small, "rpb1", 0), (large, "rpb2", small * small))):
        rh, rw = near("rh rw", size - 1)
        ki, kj = axis("ki", size), axis("kj", size)
        top, left = clamp(h - size // 2, 0, h.size - size), clamp(w - size // 2, 0, w.size - size)
        place = param(name, g, rh, rw)[{rh: top + ki - h, rw: left + kj - w}]
        mixed = softmax(logits[{taps: first + ki * size + kj}] + place, (ki, kj))
        halves.append((mixed * v[{m: half, h: top + ki, w: left + kj}]).sum(ki, kj))
    return tuple(halves)
