"""What Triton lacks, or spells with another meaning. The printer copies the functions that a kernel
needs into its source, so that the source stands alone; this file is read, not imported, for that.

Integers are int64 or int32 by the kernel's INT; int32 is chosen only where no divisor can be 0 and
no real becomes an integer, so only int64 code meets `NO_INTEGER`.
"""

# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))
NO_INTEGER = tl.constexpr(-(2**62) - 987_654_321)
LOG2_E = tl.constexpr(1.4426950408889634)
LOG2_E_REST = tl.constexpr(1.925963033500e-8)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def larger(a, b):
    """The larger of two, NaN where one is."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def smaller(a, b):
    """The smaller of two, NaN where one is."""
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def product(a, b):
    return a * b


@triton.jit
def fold_max(x, axis: tl.constexpr):
    """The largest along an axis, NaN where one is. (tl.max passes over NaN; the interpreter is quick
    at nothing else.)"""
    if INTERPRETED:
        broken = tl.max((x != x).to(tl.int32), axis) != 0
        return tl.where(broken, float("nan"), tl.max(tl.where(x != x, float("-inf"), x), axis))
    else:
        return tl.reduce(x, axis, larger)


@triton.jit
def fold_min(x, axis: tl.constexpr):
    """The smallest along an axis, NaN where one is."""
    if INTERPRETED:
        broken = tl.max((x != x).to(tl.int32), axis) != 0
        return tl.where(broken, float("nan"), tl.min(tl.where(x != x, float("inf"), x), axis))
    else:
        return tl.reduce(x, axis, smaller)


@triton.jit
def fold_prod(x, axis: tl.constexpr):
    """The product along an axis."""
    return tl.reduce(x, axis, product)


@triton.jit
def fold_any(x, axis: tl.constexpr):
    """Whether one along an axis is true."""
    return tl.where(tl.max(x.to(tl.int32), axis) != 0, True, False)


@triton.jit
def fold_all(x, axis: tl.constexpr):
    """Whether all along an axis are true."""
    return tl.where(tl.min(x.to(tl.int32), axis) != 0, True, False)


@triton.jit
def has_nan(x):
    """Whether an entry is not a number."""
    return tl.max((x != x).to(tl.int32)) != 0


@triton.jit
def remainder(x, part):
    """What a 16-bit part leaves of a real; nothing of what is not finite."""
    wide = part.to(tl.float32)
    return tl.where(tl.abs(wide) < float("inf"), x - wide, 0.0)


@triton.jit
def settled(x):
    """The block as it is, behind a fold of single entries. Triton 3.6 cuts a float64 operand by the width of
    the narrowest number that was loaded on the elementwise way to it, and fails where that is a truth value."""
    return tl.sum(tl.expand_dims(x, -1), -1)


@triton.jit
def floor_divide(a, b):
    """The quotient rounded down; NO_INTEGER by 0. (Triton's // rounds towards 0.)"""
    if a.dtype == tl.int64:
        d = tl.where(b == 0, 1, b)
        q = a // d - ((a % d != 0) & ((a < 0) != (d < 0))).to(tl.int64)
        return tl.where(b == 0, NO_INTEGER, q)
    else:
        return a // b - ((a % b != 0) & ((a < 0) != (b < 0))).to(tl.int32)


@triton.jit
def floor_remainder(a, b):
    """The remainder with the sign of the divisor; NO_INTEGER by 0."""
    if a.dtype == tl.int64:
        d = tl.where(b == 0, 1, b)
        r = a % d
        r = tl.where((r != 0) & ((r < 0) != (d < 0)), r + d, r)
        return tl.where(b == 0, NO_INTEGER, r)
    else:
        s = a % b
        return tl.where((s != 0) & ((s < 0) != (b < 0)), s + b, s)


@triton.jit
def to_integer(x):
    """A whole real as an int64; NO_INTEGER where there is none (NaN, too large)."""
    exists = tl.abs(x) < 9223372036854775808.0
    return tl.where(exists, tl.where(exists, x, 0.0).to(tl.int64), NO_INTEGER)


@triton.jit
def truncate(x):
    """Rounded towards 0, still a real."""
    return tl.where(x < 0, tl.ceil(x), tl.floor(x))


@triton.jit
def round_even(x):
    """Rounded to the nearest whole number, halves to the even one, still a real."""
    below = tl.floor(x)
    part = x - below
    odd = tl.floor(below * 0.5) * 2.0 != below
    return tl.where((part > 0.5) | ((part == 0.5) & odd), below + 1.0, below)


@triton.jit
def square_root(x):
    """The square root, rounded correctly. (tl.sqrt of float32 is an approximation.)"""
    if x.dtype == tl.float32:
        return tl.sqrt_rn(x)
    else:
        return tl.sqrt(x)


@triton.jit
def exponential(x):
    """exp(x), with the rounding error of the product in the exponent put right."""
    if x.dtype == tl.float32:
        power = x * LOG2_E
        error = tl.fma(x, x * 0.0 + LOG2_E, -power) + x * LOG2_E_REST
        size = tl.exp2(power)
        return tl.where(tl.abs(power) < 126.0, size + size * (error * LN_2), size)
    else:
        return tl.exp(x)


@triton.jit
def exp_minus_one(x):
    """exp(x) - 1: its Taylor series near 0, where the difference would cancel."""
    series = x * 0.0 + 1.0
    for i in tl.static_range(13):
        series = series * x * (1.0 / (14 - i)) + 1.0
    return tl.where(tl.abs(x) < 0.35, x * series, tl.exp(x) - 1.0)


@triton.jit
def log_one_plus(x):
    """log(1 + x) = 2 artanh(x / (2 + x)): that series near 0, where the sum would round."""
    s = x / (x + 2.0)
    series = s * 0.0
    for i in tl.static_range(15):
        series = series * s * s + 1.0 / (29 - 2 * i)
    return tl.where(tl.abs(x) < 0.4, 2.0 * s * series, tl.log(1.0 + x))


@triton.jit
def hyperbolic_tangent(x):
    """tanh without overflow and without cancelling near 0."""
    e = exp_minus_one(-2.0 * tl.abs(x))
    t = -e / (e + 2.0)
    return tl.where(x < 0, -t, t)


@triton.jit
def power(x, y):
    """x ** y of reals as in C: through float64, with the sign and the limits of whole exponents."""
    a, b = tl.abs(x).to(tl.float64), y.to(tl.float64)
    whole = tl.floor(b) == b
    odd = whole & (tl.floor(b * 0.5) * 2.0 != b)
    size = tl.where((b == 0) | (a == 1.0), 1.0, tl.exp(b * tl.log(a)))
    negative = (x < 0) | (1.0 / x < 0)  # -0.0 is
    signed = tl.where(negative & odd, -size, size)
    nothing = ((x < 0) & ~whole & (x != float("-inf"))) | (b != b)
    one = (b == 0) | (x == 1.0)
    return tl.where(one, 1.0, tl.where(nothing, float("nan"), signed)).to(x.dtype)


@triton.jit
def integer_power(a, n):
    """a ** n of integers for n >= 0, by squaring."""
    result = a * 0 + 1
    base = a
    for i in tl.static_range(31):
        result = tl.where((n >> i) & 1 != 0, result * base, result)
        base = base * base
    return result
