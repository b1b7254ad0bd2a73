"""The cars on sale: brands, models, prices, warranties and service intervals, by locale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from crm_analysis.schema import Models
from synthetic.keyed import Floats, Ints, place_of

# group, brand, model, segment, body, drive, list price in 2025, weight in the group's sales,
# warranty km, service interval km, how long it is kept against the mean
_Row = tuple[str, str, str, str, str, str, int, float, int, int, float]

_KOREAN, _CHINESE, _OTHERS = "Hyundai & Kia", "Haval & Chery", "Toyota & Volkswagen"

_RUSSIAN: tuple[_Row, ...] = (
    ("Lada", "Lada", "Granta", "B", "sedan", "fwd", 850_000, 5.0, 100_000, 15_000, 0.95),
    ("Lada", "Lada", "Vesta", "B", "sedan", "fwd", 1_500_000, 4.0, 100_000, 15_000, 0.95),
    ("Lada", "Lada", "Largus", "B", "wagon", "fwd", 1_750_000, 2.0, 100_000, 15_000, 0.95),
    ("Lada", "Lada", "Niva Travel", "SUV", "suv", "4wd", 1_350_000, 2.0, 100_000, 15_000, 0.95),
    (_KOREAN, "Kia", "Rio", "B", "sedan", "fwd", 2_050_000, 3.0, 100_000, 15_000, 1.2),
    (_KOREAN, "Kia", "Sportage", "SUV", "suv", "4wd", 3_900_000, 2.0, 100_000, 15_000, 1.2),
    (_KOREAN, "Hyundai", "Solaris", "B", "sedan", "fwd", 2_100_000, 3.0, 100_000, 15_000, 1.2),
    (_KOREAN, "Hyundai", "Tucson", "SUV", "suv", "4wd", 3_950_000, 1.6, 100_000, 15_000, 1.2),
    (_CHINESE, "Haval", "Jolion", "SUV", "suv", "fwd", 2_350_000, 4.0, 100_000, 10_000, 0.55),
    (_CHINESE, "Haval", "F7", "SUV", "suv", "4wd", 2_950_000, 2.0, 100_000, 10_000, 0.55),
    (_CHINESE, "Chery", "Tiggo 4", "SUV", "suv", "fwd", 2_250_000, 2.4, 100_000, 10_000, 0.55),
    (_CHINESE, "Chery", "Tiggo 7", "SUV", "suv", "4wd", 2_900_000, 2.0, 100_000, 10_000, 0.55),
    (_OTHERS, "Toyota", "Camry", "D", "sedan", "fwd", 4_300_000, 2.0, 100_000, 10_000, 1.1),
    (_OTHERS, "Toyota", "RAV4", "SUV", "suv", "4wd", 4_600_000, 2.0, 100_000, 10_000, 1.1),
    (_OTHERS, "Volkswagen", "Polo", "B", "liftback", "fwd", 2_200_000, 2.0, 100_000, 15_000, 1.0),
    (_OTHERS, "Volkswagen", "Tiguan", "SUV", "suv", "4wd", 4_200_000, 1.2, 100_000, 15_000, 1.0),
)  # fmt: skip
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
    edges : numpy array, shape (n_groups, n_models)
        Cumulative share of each model in the sales of a group.
    """

    table: pl.DataFrame
    groups: tuple[str, ...]
    edges: Floats
    price: Ints
    warranty_km: Ints
    interval_km: Ints
    keep: Floats

    def pick(self, group: Ints, uniform: Floats) -> Ints:
        """Return the position of a model for each group and uniform in (0, 1)."""
        return np.minimum(place_of(uniform, self.edges, group), len(self.price) - 1)


def make_catalogue(locale: str) -> Catalogue:
    """Return the cars on sale in a locale."""
    rows = _RUSSIAN if locale == "ru_RU" else _ENGLISH
    groups = tuple(dict.fromkeys(row[0] for row in rows))
    weights = np.array([[row[7] * (row[0] == group) for row in rows] for group in groups])
    edges = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
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
