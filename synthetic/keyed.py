"""Keyed randomness: every value is a pure function of (seed, field, entity, event).

A stream of random numbers ties each value to all drawn before it. Here a counter hash (the
finaliser of splitmix64) turns the key into a uniform, so a value stays the same whatever the size
of the block, the number of customers, the horizon, or the columns added later. Field names carry a
version (``gap@1``): a field that changes its meaning takes the next one and leaves all others as
they were.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Words = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ODD = np.uint64(0xD1342543DE82EF95)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_STEP = 2.0**-53
_ALL_ONES = 2**64 - 1
_ONE = np.uint64(1)


_STIR_1, _STIR_2, _STIR_3, _TOP = (np.uint64(bits) for bits in (30, 27, 31, 11))

_PIECE = 16_384
"""Words stirred at a time: pieces of a long array stay in the processor's cache."""


@cache
def _keys(seed: int, *fields: str) -> Words:
    names = [f"{seed}/{field}".encode() for field in fields]
    bits = [hashlib.blake2b(name, digest_size=8).digest() for name in names]
    return np.array([int.from_bytes(one, "little") for one in bits], dtype=np.uint64)


@cache
def _stride(event: int) -> Words:
    """Return what an event index adds to the words of its entities."""
    return np.array((event + 1) * int(_ODD) & _ALL_ONES, dtype=np.uint64)


def _whole(ids: Any) -> Ints:
    """Return whole numbers as an array of one axis or more: one number alone would overflow."""
    array = np.asarray(ids, dtype=np.int64)
    return array if array.ndim else array.reshape(1)


def _strides(event: Any) -> Words:
    """Do as `_stride` for many."""
    step = _whole(event).view(np.uint64) + _ONE
    step *= _ODD
    return step


def _inside(words: Words) -> Floats:
    """Return words as uniforms strictly inside (0, 1), on a grid of 2**-53; they are used up."""
    words >>= _TOP
    out = words.astype(np.float64)
    out *= _STEP
    out += _STEP / 2
    return out


def _stir(words: Words) -> Words:
    """Scramble words in place."""
    shifted = words >> _STIR_1
    words ^= shifted
    words *= _MIX_1
    np.right_shift(words, _STIR_2, out=shifted)
    words ^= shifted
    words *= _MIX_2
    np.right_shift(words, _STIR_3, out=shifted)
    words ^= shifted
    return words


def mix(words: Words) -> Words:
    """Scramble 64-bit words one to one (finaliser of splitmix64; Steele, Lea, Flood 2014)."""
    return _stir(words.copy())


def _scrambled(keys: Words, entity: Ints, step: Words) -> Words:
    """Return the bits of entities and the steps of their events, for each of the keys.

    `entity` and `step` broadcast; the keys are an axis before all theirs.
    """
    words = entity.view(np.uint64) * _GOLDEN
    words = words + keys.reshape(-1, *(1,) * entity.ndim)
    _stir(words)
    if step.shape not in {(), entity.shape}:
        return _stir(words + step)
    words += step
    return _stir(words)


def _piecewise(keys: Words, entity: Ints, step: Words, shape: tuple[int, ...]) -> Words:
    """Do as `_scrambled`, a piece at a time; `shape` is what the entities and steps come to."""
    out = np.empty((len(keys), *shape), dtype=np.uint64)
    rows = max(_PIECE * shape[0] // out.size, 1)
    for start in range(0, shape[0], rows):
        part = slice(start, start + rows)
        some = entity[part] if entity.shape[:1] == shape[:1] else entity
        steps = step[part] if step.shape[:1] == shape[:1] else step
        out[:, part] = _scrambled(keys, some, steps)
    return out


@dataclass(frozen=True)
class Keyed:
    """Draws of one seed.

    Every method takes a versioned field name, the entities' ids, shape (n,), and an event index
    (one number or an array that broadcasts with the ids), and returns an array of the broadcast
    shape, of one axis at least.
    """

    seed: int

    def entities(self, _field: str, ids: Any) -> Ints:
        """Return the ids as which a field is drawn: here always their own."""
        return _whole(ids)

    def words(self, fields: Sequence[str], ids: Any, event: Any = 0) -> Words:
        """Return 64 random bits for each field, entity and event; the fields are the first axis.

        The fields are parts of one, such as ``gap@1/0``: all draw as the entities of the first.
        """
        entity, keys = self.entities(fields[0], ids), _keys(self.seed, *fields)
        step = _stride(event) if isinstance(event, int) else _strides(event)
        shape = entity.shape
        if step.shape not in {(), shape}:
            shape = np.broadcast_shapes(shape, step.shape)
        if math.prod(shape) * len(keys) <= _PIECE:
            return _scrambled(keys, entity, step)
        return _piecewise(keys, entity, step, shape)

    def bits(self, field: str, ids: Any, event: Any = 0) -> Words:
        """Return 64 random bits for each entity and event."""
        return np.asarray(self.words((field,), ids, event)[0])

    def uniform(self, field: str, ids: Any, event: Any = 0) -> Floats:
        """Return uniforms strictly inside (0, 1), on a grid of 2**-53."""
        return _inside(self.bits(field, ids, event))

    def chance(self, field: str, probability: Any, ids: Any, event: Any = 0) -> Flags:
        """Return True with the probability given."""
        return np.asarray(self.uniform(field, ids, event) < probability)

    def normal(self, field: str, ids: Any, event: Any = 0) -> Floats:
        """Return standard normals, by inversion."""
        return normal_quantile(self.uniform(field, ids, event))

    def exponential(self, field: str, ids: Any, event: Any = 0) -> Floats:
        """Return exponentials of mean one, by inversion."""
        return np.asarray(-np.log(self.uniform(field, ids, event)))

    def erlang(self, field: str, shape: int, ids: Any, event: Any = 0) -> Floats:
        """Return Erlang variables of mean one: the average of `shape` exponentials."""
        fields = [f"{field}/{part}" for part in range(shape)]
        product, *others = _inside(self.words(fields, ids, event))
        for one in others:
            product *= one
        return np.asarray(-np.log(product) / shape)

    def integer(self, field: str, count: Any, ids: Any, event: Any = 0) -> Ints:
        """Return whole numbers 0 … count - 1, each as likely."""
        return np.asarray(np.floor(self.uniform(field, ids, event) * count), dtype=np.int64)

    def poisson(self, field: str, mean: float, most: int, ids: Any, event: Any = 0) -> Ints:
        """Return Poisson counts by inversion, cut at `most` (choose it far in the tail)."""
        term = float(np.exp(-mean))
        edges = [term]
        for count in range(1, most):
            term *= mean / count
            edges.append(edges[-1] + term)
        uniform = self.uniform(field, ids, event)
        return np.asarray(np.searchsorted(edges, uniform, side="right"), dtype=np.int64)


# Coefficients of Wichura (1988), algorithm AS 241, in the order of rising powers.
_A = (
    3.3871328727963666080, 1.3314166789178437745e2, 1.9715909503065514427e3,
    1.3731693765509461125e4,
    4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4,
    2.5090809287301226727e3,
)  # fmt: skip
_B = (
    1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
    2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4,
    5.2264952788528545610e3,
)  # fmt: skip
_C = (
    1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
    1.27045825245236838258, 2.41780725177450611770e-1, 2.27238449892691845833e-2,
    7.74545014278341407640e-4,
)  # fmt: skip
_D = (
    1.0, 2.05319162663775882187, 1.67638483018380384940, 6.89767334985100004550e-1,
    1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
    1.05075007164441684324e-9,
)  # fmt: skip
_E = (
    6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580,
    2.96560571828504891230e-1,
    2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5,
    2.01033439929228813265e-7,
)  # fmt: skip
_F = (
    1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
    7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
    2.04426310338993978564e-15,
)  # fmt: skip


def _columns(top: tuple[float, ...], bottom: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the coefficients of a ratio from the highest power down, shape (powers, 2, 1)."""
    return np.array([top, bottom]).T[::-1, :, None]


_NEAR, _MIDDLE, _FAR = _columns(_A, _B), _columns(_C, _D), _columns(_E, _F)


def _ratio(coefficients: Floats, x: Floats) -> Floats:
    """Return a ratio of polynomials by Horner's rule, top and bottom at a time."""
    both = np.empty((2, len(x)))
    both[:] = coefficients[0]
    for one in coefficients[1:]:
        both *= x
        both += one
    return np.asarray(both[0] / both[1])


def normal_quantile(probability: Any) -> Floats:
    """Return the standard normal quantile of probabilities strictly inside (0, 1).

    References
    ----------
    Wichura (1988), "Algorithm AS 241: The percentage points of the normal distribution", Applied
    Statistics 37, 477-484; relative error about 1e-16.
    """
    given = np.asarray(probability, dtype=np.float64)
    p = given.ravel()
    q = p - 0.5
    out = q * _ratio(_NEAR, 0.180625 - q * q)
    tail = np.abs(q) > 0.425
    if tail.any():
        small = np.minimum(p[tail], 1.0 - p[tail])
        r = np.sqrt(-np.log(small))
        size = _ratio(_MIDDLE, r - 1.6)
        far = r > 5.0
        if far.any():
            size[far] = _ratio(_FAR, r[far] - 5.0)
        out[tail] = np.copysign(size, q[tail])
    return np.asarray(out.reshape(given.shape))


_FARTHEST = 38.0
"""Beyond this the tail is below the smallest number."""

_ROOT_2_PI = 1 / np.sqrt(2 * np.pi)

_HART_TOP = (
    3.52624965998911e-02, 0.700383064443688, 6.37396220353165, 33.912866078383, 112.079291497871,
    221.213596169931, 220.206867912376,
)  # fmt: skip
_HART_BOTTOM = (
    8.83883476483184e-02, 1.75566716318264, 16.064177579207, 86.7807322029461, 296.564248779674,
    637.333633378831, 793.826512519948, 440.413735824752,
)  # fmt: skip


def normal_below(value: Any) -> Floats:
    """Return the standard normal distribution function.

    References
    ----------
    West (2005), "Better approximations to cumulative normal functions", Wilmott, after Hart
    (1968): a rational function below 7 and a continued fraction beyond; absolute error below 1e-14.
    """
    x = np.asarray(value, dtype=np.float64)
    size = np.minimum(np.abs(x), _FARTHEST)
    near = np.polyval(_HART_TOP, size) / np.polyval(_HART_BOTTOM, size)
    rest = size + 0.65
    for step in (4.0, 3.0, 2.0, 1.0):
        rest = size + step / rest
    tail = np.exp(-size * size / 2) * np.where(size < 7.0, near, _ROOT_2_PI / rest)
    return np.asarray(np.where(x > 0, 1.0 - tail, tail))


def place_of(uniform: Floats, edges: Floats, row: Ints) -> Ints:
    """Return how many edges of its row each uniform has reached; `edges` is (rows, places)."""
    place = np.zeros(len(uniform), dtype=np.int64)
    for column in edges.T:
        place += uniform >= column[row]
    return place


def logistic(value: Any) -> Floats:
    """Return the probability whose logit is given."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.asarray(value, dtype=np.float64))))


def logit(probability: Any) -> Floats:
    """Return the log-odds of a probability strictly inside (0, 1)."""
    p = np.asarray(probability, dtype=np.float64)
    return np.asarray(np.log(p) - np.log1p(-p))
