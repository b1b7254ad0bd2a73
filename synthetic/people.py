"""Names of people: surname, first name and patronymic that agree in gender."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthetic.keyed import Flags, Ints, Keyed
from synthetic.vocabulary import Pool, Vocabulary

Texts = NDArray[np.str_]


@dataclass(frozen=True)
class Names:
    """Parts of names, each of shape (n,); `patronymic` is None where a locale has none."""

    first: Texts
    last: Texts
    patronymic: Texts | None

    def full(self) -> list[str]:
        """Return first name and surname as one text each."""
        return [f"{first} {last}" for first, last in zip(self.first, self.last, strict=True)]


def _by_gender(pools: dict[str, Pool], female: Flags, uniform: Any) -> Texts:
    women, men = pools["female"], pools["male"]
    return np.where(female, women.words[women.pick(uniform)], men.words[men.pick(uniform)])


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
