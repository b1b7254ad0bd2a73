"""Rebuild the packaged vocabulary from Faker: `python -m synthetic.vocabulary.build [FOLDER]`.

Needed only when the words themselves should change; doing so changes every generated data set, so
it belongs in the change log under "Numbers that change".
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from faker import Faker
from faker.providers.address.ru_RU import Provider as RussianAddress
from faker.providers.company.ru_RU import Provider as RussianCompany
from faker.providers.job.en_US import Provider as EnglishJob
from faker.providers.job.ru_RU import Provider as RussianJob
from faker.providers.person.en_US import Provider as EnglishPerson
from faker.providers.person.ru_RU import Provider as RussianPerson

from synthetic.vocabulary.phrases import ENGLISH, RUSSIAN

SEED = 20_251_231
N_COMPANIES = 300
N_OCCUPATIONS = 160

_LATIN = dict(
    pair.split("=")
    for pair in (
        "а=a б=b в=v г=g д=d е=e ё=e ж=zh з=z и=i й=y к=k л=l м=m н=n о=o п=p р=r с=s т=t у=u ф=f "
        "х=kh ц=ts ч=ch ш=sh щ=shch ъ= ы=y ь= э=e ю=yu я=ya"
    ).split(" ")
)
_COMMON_FEMALE = (
    "Анна Елена Мария Ольга Наталья Екатерина Татьяна Ирина Светлана Анастасия Юлия Дарья"
)
_COMMON_MALE = (
    "Александр Сергей Дмитрий Андрей Алексей Максим Иван Михаил Николай Владимир Евгений Павел"
)
_COMMON_WEIGHT = 12.0
"""Faker gives Russian names without frequencies; a dozen of each gender are this much commoner."""


def _transliterated(word: str) -> str:
    return "".join(_LATIN.get(letter, letter) for letter in word.lower())


def _latin(words: Iterable[str]) -> dict[str, str]:
    clean = {word: _transliterated(word) for word in words}
    return {
        word: "".join(c for c in text if c.isascii() and c.isalpha())
        for word, text in clean.items()
    }


def _russian_names(names: Iterable[str], common: str) -> list[list[Any]]:
    frequent = set(common.split())
    return [[name, _COMMON_WEIGHT if name in frequent else 0.15] for name in sorted(set(names))]


def _surname_pairs() -> list[tuple[str, str, float]]:
    female = set(RussianPerson.last_names_female)
    pairs = []
    for rank, male in enumerate(RussianPerson.last_names_male):
        form = male[:-2] + "ая" if male.endswith(("ий", "ый")) else male + "а"
        if form in female:
            pairs.append((form, male, round(1 / (rank + 10), 6)))
    return pairs


def _patronymic_pairs() -> list[tuple[str, str]]:
    female = set(RussianPerson.middle_names_female)
    males = sorted(set(RussianPerson.middle_names_male))
    return [(m[:-2] + "на", m) for m in males if m.endswith("вич") and m[:-2] + "на" in female]


def _real_companies() -> set[str]:
    return set(RussianCompany.large_companies)


def _companies(locale: str) -> list[str]:
    fake = Faker(locale)
    fake.seed_instance(SEED)
    made = sorted({fake.company() for _ in range(N_COMPANIES)})
    return [name for name in made if locale != "ru_RU" or name not in _real_companies()]


def _russian() -> dict[str, Any]:
    pairs, patronymics = _surname_pairs(), _patronymic_pairs()
    first: dict[str, list[list[Any]]] = {
        "female": _russian_names(RussianPerson.first_names_female, _COMMON_FEMALE),
        "male": _russian_names(RussianPerson.first_names_male, _COMMON_MALE),
    }
    last: dict[str, list[list[Any]]] = {
        "female": [[female, weight] for female, _, weight in pairs],
        "male": [[male, weight] for _, male, weight in pairs],
    }
    known = set(RussianAddress.city_names)
    cities = [pair for pair in RUSSIAN["cities"] if pair[0] in known]
    words = [str(row[0]) for rows in (*first.values(), *last.values()) for row in rows]
    return RUSSIAN | {
        "first": first,
        "last": last,
        "patronymic": {"female": [f for f, _ in patronymics], "male": [m for _, m in patronymics]},
        "latin": _latin(words),
        "cities": cities,
        "occupations": sorted(set(RussianJob.jobs))[: 3 * N_OCCUPATIONS : 3],
        "companies": _companies("ru_RU"),
    }


def _english_cities() -> list[list[str]]:
    fake = Faker("en_US")
    fake.seed_instance(SEED)
    names: dict[str, str] = {}
    while len(names) < 40:
        names.setdefault(fake.city(), fake.state())
    return [[city, state] for city, state in names.items()]


def _english() -> dict[str, Any]:
    last = [[name, weight] for name, weight in EnglishPerson.last_names.items()][:600]
    first = {
        "female": [[n, w] for n, w in EnglishPerson.first_names_female.items()],
        "male": [[n, w] for n, w in EnglishPerson.first_names_male.items()],
    }
    words = [str(row[0]) for rows in (*first.values(), last) for row in rows]
    return ENGLISH | {
        "first": first,
        "last": {"female": last, "male": last},
        "patronymic": None,
        "latin": _latin(words),
        "cities": _english_cities(),
        "occupations": sorted(set(EnglishJob.jobs))[: 4 * N_OCCUPATIONS : 4],
        "companies": _companies("en_US"),
    }


def build(folder: Path) -> None:
    """Write one JSON file a locale and their hashes into `folder`."""
    sums = []
    for locale, words in (("en_US", _english()), ("ru_RU", _russian())):
        raw = (
            json.dumps(words, ensure_ascii=False, sort_keys=True, indent=0).encode("utf-8") + b"\n"
        )
        (folder / f"{locale}.json").write_bytes(raw)
        sums.append(f"{hashlib.sha256(raw).hexdigest()}  {locale}.json\n")
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
