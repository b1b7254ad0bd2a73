"""Names of people: surname, first name and patronymic that agree in gender."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from synthetic.keyed import Flags, Floats, Ints, Keyed
from synthetic.vocabulary import Pool, Vocabulary


@dataclass(frozen=True)
class Names:
    """Parts of names, a text for each person; `patronymic` is None where a locale has none."""

    first: pl.Series
    last: pl.Series
    patronymic: pl.Series | None

    def full(self) -> pl.Series:
        """Return first name and surname as one text each."""
        return self.first + " " + self.last


def _by_gender(pools: dict[str, Pool], female: Flags, uniform: Floats) -> pl.Series:
    women, men = (pools[gender].draw(uniform) for gender in ("female", "male"))
    return women.zip_with(pl.Series(female), men)


def draw_names(draws: Keyed, words: Vocabulary, who: str, ids: Ints, female: Flags) -> Names:
    """Draw a name for each person; `who` keeps customers' names apart from employees'."""
    patronymic = None
    if words.patronymic is not None:
        uniform = draws.uniform(f"{who}.patronymic@1", ids)
        patronymic = _by_gender(words.patronymic, female, uniform)
    return Names(
        first=_by_gender(words.first, female, draws.uniform(f"{who}.first_name@1", ids)),
        last=_by_gender(words.last, female, draws.uniform(f"{who}.last_name@1", ids)),
        patronymic=patronymic,
    )
