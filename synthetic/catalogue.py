"""The cars on sale: brands, models, prices, warranties and service intervals, by locale."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from crm_analysis.schema import Models
from synthetic.clock import day_of
from synthetic.keyed import Floats, Ints, place_of

# group, brand, model, segment, body, drive, list price in 2025, weight in the group's sales (or one
# for each era), warranty km, service interval km, how long it is kept against the mean
_Row = tuple[str, str, str, str, str, str, int, float | tuple[float, float], int, int, float]

ERA_FROM = date(2022, 7, 1)
"""First day of the second era: makers left the Russian market in 2022, and others came."""

_LADA, _KOREAN_RU, _CHINESE, _OTHERS = (
    "Lada & Renault", "Kia, Hyundai & Geely", "Skoda, Haval & Chery", "Toyota, BMW & Tank",
)  # fmt: skip

_RUSSIAN: tuple[_Row, ...] = (
    (_LADA, "Lada", "Granta", "B", "sedan", "fwd", 1_000_000, (30, 38), 100_000, 15_000, 0.95),
    (_LADA, "Lada", "Vesta", "B", "sedan", "fwd", 1_500_000, (25, 30), 100_000, 15_000, 0.95),
    (_LADA, "Lada", "Largus", "B", "wagon", "fwd", 1_750_000, (10, 16), 100_000, 15_000, 0.95),
    (_LADA, "Lada", "Niva Travel", "SUV", "suv", "4wd", 1_350_000, (11, 16), 100_000, 15_000, 0.95),
    (_LADA, "Renault", "Logan", "B", "sedan", "fwd", 1_900_000, (10, 0), 100_000, 15_000, 1.0),
    (_LADA, "Renault", "Duster", "SUV", "suv", "4wd", 2_400_000, (14, 0), 100_000, 15_000, 1.0),
    (_KOREAN_RU, "Kia", "Rio", "B", "sedan", "fwd", 2_050_000, (26, 0), 100_000, 15_000, 1.2),
    (_KOREAN_RU, "Kia", "Sportage", "SUV", "suv", "4wd", 3_900_000, (22, 18), 100_000, 15_000, 1.2),
    (_KOREAN_RU, "Hyundai", "Solaris", "B", "sedan", "fwd", 2_100_000, (24, 0), 100_000, 15_000,
     1.2),
    (_KOREAN_RU, "Hyundai", "Tucson", "SUV", "suv", "4wd", 3_950_000, (20, 14), 100_000, 15_000,
     1.2),
    (_KOREAN_RU, "Renault", "Kaptur", "SUV", "suv", "fwd", 2_600_000, (8, 0), 100_000, 15_000, 1.0),
    (_KOREAN_RU, "Geely", "Coolray", "SUV", "suv", "fwd", 2_700_000, (0, 14), 100_000, 10_000,
     0.55),
    (_KOREAN_RU, "Geely", "Monjaro", "SUV", "suv", "4wd", 4_400_000, (0, 18), 100_000, 10_000,
     0.55),
    (_KOREAN_RU, "Changan", "CS35 Plus", "SUV", "suv", "fwd", 2_300_000, (0, 10), 100_000, 10_000,
     0.55),
    (_KOREAN_RU, "Changan", "Uni-K", "SUV", "suv", "4wd", 4_300_000, (0, 10), 100_000, 10_000,
     0.55),
    (_KOREAN_RU, "Lada", "Niva Legend", "SUV", "suv", "4wd", 1_100_000, (0, 16), 100_000, 15_000,
     0.95),
    (_CHINESE, "Skoda", "Octavia", "C", "liftback", "fwd", 2_750_000, (26, 0), 100_000, 15_000,
     1.0),
    (_CHINESE, "Skoda", "Kodiaq", "SUV", "suv", "4wd", 4_200_000, (14, 0), 100_000, 15_000, 1.0),
    (_CHINESE, "Nissan", "Qashqai", "SUV", "suv", "fwd", 3_000_000, (28, 0), 100_000, 15_000, 1.0),
    (_CHINESE, "Mazda", "CX-5", "SUV", "suv", "4wd", 3_700_000, (20, 0), 100_000, 15_000, 1.0),
    (_CHINESE, "Haval", "Jolion", "SUV", "suv", "fwd", 2_350_000, (0, 28), 100_000, 10_000, 0.55),
    (_CHINESE, "Haval", "F7", "SUV", "suv", "4wd", 2_950_000, (6, 20), 100_000, 10_000, 0.55),
    (_CHINESE, "Chery", "Tiggo 4", "SUV", "suv", "fwd", 2_250_000, (6, 20), 100_000, 10_000, 0.55),
    (_CHINESE, "Chery", "Tiggo 7", "SUV", "suv", "4wd", 2_900_000, (0, 16), 100_000, 10_000, 0.55),
    (_CHINESE, "Exeed", "VX", "SUV", "suv", "4wd", 5_200_000, (0, 16), 100_000, 10_000, 0.55),
    (_OTHERS, "Toyota", "Camry", "D", "sedan", "fwd", 4_300_000, (12, 10), 100_000, 10_000, 1.1),
    (_OTHERS, "Toyota", "RAV4", "SUV", "suv", "4wd", 4_600_000, (12, 14), 100_000, 10_000, 1.1),
    (_OTHERS, "Volkswagen", "Polo", "B", "liftback", "fwd", 2_200_000, (16, 0), 100_000, 15_000,
     1.0),
    (_OTHERS, "Volkswagen", "Tiguan", "SUV", "suv", "4wd", 4_200_000, (8, 6), 100_000, 15_000, 1.0),
    (_OTHERS, "Mitsubishi", "Outlander", "SUV", "suv", "4wd", 3_700_000, (22, 0), 100_000, 15_000,
     1.0),
    (_OTHERS, "BMW", "X3", "premium", "suv", "4wd", 7_600_000, (16, 12), 100_000, 15_000, 0.9),
    (_OTHERS, "Mercedes-Benz", "E-Class", "premium", "sedan", "rwd", 7_900_000, (14, 0), 100_000,
     15_000, 0.9),
    (_OTHERS, "Tank", "300", "SUV", "suv", "4wd", 4_900_000, (0, 22), 100_000, 10_000, 0.55),
    (_OTHERS, "Jetour", "Dashing", "SUV", "suv", "fwd", 3_000_000, (0, 20), 100_000, 10_000, 0.55),
    (_OTHERS, "Jaecoo", "J7", "SUV", "suv", "4wd", 3_200_000, (0, 16), 100_000, 10_000, 0.55),
)  # fmt: skip
BRAND_SOURCE = (
    "AEB, Avtostat: 2015-21 Lada 20 %, Kia 12, Hyundai 11, Renault 8, Toyota 6, Volkswagen 6; "
    "2023-25 Lada 29, Haval 12, Chery 9, Geely 8, Changan 5 [published]; the rest, and models "
    "within a brand [assumed]. With the premium cars, the mean of the lists is Avtostat's."
)
_KOREAN = "Hyundai & Kia"

_ENGLISH: tuple[_Row, ...] = (
    ("Toyota", "Toyota", "Corolla", "Compact", "sedan", "fwd", 24_500, 3.0, 100_000, 15_000, 1.1),
    ("Toyota", "Toyota", "Camry", "Midsize", "sedan", "fwd", 30_500, 3.0, 100_000, 15_000, 1.1),
    ("Toyota", "Toyota", "RAV4", "Compact SUV", "suv", "awd", 32_500, 4.0, 100_000, 15_000, 1.1),
    ("Toyota", "Toyota", "Tacoma", "Pickup", "pickup", "4wd", 36_500, 2.0, 100_000, 15_000, 1.2),
    (_KOREAN, "Hyundai", "Elantra", "Compact", "sedan", "fwd", 23_000, 2.0, 100_000, 12_000, 1.0),
    (_KOREAN, "Hyundai", "Tucson", "Compact SUV", "suv", "awd", 31_000, 3.0, 100_000, 12_000, 1.0),
    (_KOREAN, "Kia", "Forte", "Compact", "sedan", "fwd", 21_500, 1.6, 100_000, 12_000, 1.0),
    (_KOREAN, "Kia", "Sportage", "Compact SUV", "suv", "awd", 30_500, 2.4, 100_000, 12_000, 1.0),
    ("Ford", "Ford", "Escape", "Compact SUV", "suv", "awd", 31_500, 2.0, 60_000, 12_000, 0.95),
    ("Ford", "Ford", "Explorer", "Midsize SUV", "suv", "4wd", 42_000, 2.0, 60_000, 12_000, 0.95),
    ("Ford", "Ford", "F-150", "Pickup", "pickup", "4wd", 46_000, 4.0, 60_000, 12_000, 1.1),
    ("Ford", "Ford", "Mustang", "Sport", "coupe", "rwd", 38_500, 0.8, 60_000, 12_000, 0.9),
    ("Honda", "Honda", "Civic", "Compact", "sedan", "fwd", 25_500, 3.0, 60_000, 12_000, 1.1),
    ("Honda", "Honda", "Accord", "Midsize", "sedan", "fwd", 30_000, 2.4, 60_000, 12_000, 1.1),
    ("Honda", "Honda", "CR-V", "Compact SUV", "suv", "awd", 33_000, 3.6, 60_000, 12_000, 1.1),
    ("Honda", "Honda", "Pilot", "Midsize SUV", "suv", "awd", 42_500, 1.4, 60_000, 12_000, 1.0),
)  # fmt: skip
WARRANTY_MONTHS = 36
INTERVAL_MONTHS = 12
WARRANTY_SOURCE = "makers' terms: 3 years or 100,000 km; 12 months or 10,000-15,000 km [published]"


@dataclass(frozen=True)
class Catalogue:
    """Models as arrays; position m holds model_id m + 1.

    Attributes
    ----------
    table : polars.DataFrame
        The open table `models`.
    groups : tuple of str
        Groups of brands; each dealership sells one of them.
    edges : numpy array, shape (n_eras, n_groups, n_models)
        Cumulative share of each model in the sales of a group, before `ERA_FROM` and from then.
    """

    table: pl.DataFrame
    groups: tuple[str, ...]
    edges: Floats
    price: Ints
    warranty_km: Ints
    interval_km: Ints
    keep: Floats

    def pick(self, group: Ints, uniform: Floats, day: Ints) -> Ints:
        """Return the position of a model on sale on a day, by group and uniform in (0, 1)."""
        era = (day >= day_of(ERA_FROM)).astype(np.int64)
        edges = self.edges.reshape(-1, self.edges.shape[-1])
        chosen = place_of(uniform, edges, era * self.edges.shape[1] + group)
        return np.minimum(chosen, len(self.price) - 1)


def _weight(row: _Row, group: str, era: int) -> float:
    weight = row[7][era] if isinstance(row[7], tuple) else row[7]
    return weight * (row[0] == group)


def make_catalogue(locale: str) -> Catalogue:
    """Return the cars on sale in a locale."""
    rows = _RUSSIAN if locale == "ru_RU" else _ENGLISH
    groups = tuple(dict.fromkeys(row[0] for row in rows))
    weights = np.array(
        [[[_weight(row, group, era) for row in rows] for group in groups] for era in (0, 1)]
    )
    edges = np.cumsum(weights, axis=2) / weights.sum(axis=2, keepdims=True)
    table = pl.DataFrame(
        {
            "model_id": range(1, len(rows) + 1),
            "brand": [row[1] for row in rows],
            "model": [row[2] for row in rows],
            "segment": [row[3] for row in rows],
            "body": [row[4] for row in rows],
            "drive": [row[5] for row in rows],
            "list_price": [row[6] for row in rows],
            "warranty_months": WARRANTY_MONTHS,
            "warranty_km": [row[8] for row in rows],
            "service_interval_months": INTERVAL_MONTHS,
            "service_interval_km": [row[9] for row in rows],
        }
    ).cast({name: column.dtype for name, column in Models.columns().items()})
    return Catalogue(
        table=table,
        groups=groups,
        edges=edges,
        price=np.array([row[6] for row in rows], dtype=np.int64),
        warranty_km=np.array([row[8] for row in rows], dtype=np.int64),
        interval_km=np.array([row[9] for row in rows], dtype=np.int64),
        keep=np.array([row[10] for row in rows], dtype=np.float64),
    )
