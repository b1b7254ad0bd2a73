"""The frozen vocabulary: names, cities, occupations and comments by locale.

The pools come from Faker once, through `synthetic.vocabulary.build`, and are packaged here with the
hash of each file: Faker's own output changes with its releases, a data set with a seed must not.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from crm_analysis.errors import InputError, near

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOCALES = ("en_US", "ru_RU")


@dataclass(frozen=True)
class Pool:
    """Words with the probability of drawing each.

    Attributes
    ----------
    words : numpy array of str, shape (n,)
    edges : numpy array of float, shape (n,)
        Cumulative probabilities; the last is 1.
    """

    words: NDArray[np.str_]
    edges: NDArray[np.float64]

    def pick(self, uniform: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the position of the word that each uniform in (0, 1) chooses."""
        return np.searchsorted(self.edges, uniform, side="right").clip(max=len(self.words) - 1)

    @cached_property
    def _texts(self) -> pl.Series:
        return pl.Series(self.words.tolist(), dtype=pl.String)

    def draw(self, uniform: NDArray[np.float64]) -> pl.Series:
        """Return the word that each uniform in (0, 1) chooses."""
        return self._texts.gather(self.pick(uniform))


@dataclass(frozen=True)
class Vocabulary:
    """What a locale calls people, places and things.

    Name pools are index-aligned between genders where a language inflects them, so a family's
    surname agrees with the gender of each of its members.
    """

    locale: str
    first: dict[str, Pool]
    last: dict[str, Pool]
    patronymic: dict[str, Pool] | None
    latin: dict[str, str]
    cities: tuple[tuple[str, str], ...]
    occupations: Pool
    companies: Pool
    dealerships: tuple[str, ...]
    colours: Pool
    competitors: Pool
    comments: dict[str, Pool]
    texts: dict[str, str]
    sha256: str


def _pool(rows: list[Any]) -> Pool:
    words = [row[0] if isinstance(row, list) else row for row in rows]
    weights = np.array([row[1] if isinstance(row, list) else 1.0 for row in rows], dtype=np.float64)
    edges = np.cumsum(weights) / weights.sum()
    edges[-1] = 1.0
    made = Pool(np.array(words, dtype=np.str_), edges)
    made.words.setflags(write=False)
    made.edges.setflags(write=False)
    return made


def _read(locale: str) -> tuple[dict[str, Any], str]:
    folder = files(__package__)
    raw = folder.joinpath(f"{locale}.json").read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    sums = folder.joinpath("SHA256SUMS").read_text(encoding="utf-8").split()
    expected = dict(zip(sums[1::2], sums[0::2], strict=True)).get(f"{locale}.json")
    if found != expected:
        raise InputError(
            f"The vocabulary {locale}.json was asked for with SHA-256 {expected}, and the file has "
            f"{found}. Restore it from the package, or rebuild it with "
            "'python -m synthetic.vocabulary.build'."
        )
    return json.loads(raw), found


@cache
def load_vocabulary(locale: str) -> Vocabulary:
    """Read the packaged words of a locale, after checking their hash.

    Raises
    ------
    InputError
        The locale is not one of `LOCALES`, or its file was changed.
    """
    if locale not in LOCALES:
        raise InputError(
            f"Locale {locale!r} was asked for{near(locale, LOCALES)}; there are words for "
            f"{', '.join(LOCALES)}. Choose one of these."
        )
    data, digest = _read(locale)
    patronymic = data["patronymic"]
    return Vocabulary(
        locale=locale,
        first={gender: _pool(data["first"][gender]) for gender in ("female", "male")},
        last={gender: _pool(data["last"][gender]) for gender in ("female", "male")},
        patronymic={g: _pool(patronymic[g]) for g in ("female", "male")} if patronymic else None,
        latin=data["latin"],
        cities=tuple((city, region) for city, region in data["cities"]),
        occupations=_pool(data["occupations"]),
        companies=_pool(data["companies"]),
        dealerships=tuple(data["dealerships"]),
        colours=_pool(data["colours"]),
        competitors=_pool(data["competitors"]),
        comments={mood: _pool(words) for mood, words in data["comments"].items()},
        texts=data["texts"],
        sha256=digest,
    )
