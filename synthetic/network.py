"""The network itself: dealerships, their staff through the years, skill and slow drift."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from crm_analysis.schema import ROLES
from synthetic.campaigns import Advertising, plan_advertising
from synthetic.catalogue import Catalogue, make_catalogue
from synthetic.clock import YEAR, dates, day_of, month_of
from synthetic.config import Config
from synthetic.keyed import Floats, Ints, Keyed
from synthetic.people import draw_names
from synthetic.rollout import Rollout, make_rollout
from synthetic.season import Season, make_season
from synthetic.vocabulary import Vocabulary, load_vocabulary

MEAN_TENURE_YEARS = 5.0
"""Mean years an employee keeps a seat before the next one takes it [assumed]."""

_LATEST = 2**40


@dataclass(frozen=True)
class Staff:
    """Who holds which seat on which day.

    Attributes
    ----------
    starts, ids : dict of role to numpy array, shape (n_dealerships, n_seats, n_holders)
        First working day and employee_id of each successive holder; unused places start never.
    skill : numpy array, shape (n_employees + 1,)
        Skill by employee_id; position 0 is unused.
    discipline, slowness : numpy arrays, shape (n_employees + 1,)
        Discipline in keeping the plan (logit), and the employee's multiple of the usual time until
        an event is typed in.
    """

    starts: dict[str, Ints]
    ids: dict[str, Ints]
    skill: Floats
    discipline: Floats
    slowness: Floats

    def seats(self, role: str) -> int:
        """Return the number of seats of a role in each dealership."""
        return int(self.ids[role].shape[1])

    def holder(self, role: str, dealership: Ints, seat: Ints, day: Ints) -> Ints:
        """Return the employee_id that holds each seat on each day; `dealership` is a position."""
        starts, ids = self.starts[role], self.ids[role]
        at = (dealership * starts.shape[1] + seat) * starts.shape[2]
        flat, place = starts.ravel(), at.copy()
        for turn in range(1, starts.shape[2]):
            place += flat[at + turn] <= day
        return np.asarray(ids.ravel()[place])


@dataclass(frozen=True)
class Market:
    """Everything customers meet: the configuration, the draws, and the network built from them."""

    config: Config
    draws: Keyed
    words: Vocabulary
    catalogue: Catalogue
    staff: Staff
    dealerships: pl.DataFrame
    employees: pl.DataFrame
    group: Ints
    share_edges: Floats
    level: Floats = field(repr=False)
    advertising: Advertising = field(repr=False)
    rollout: Rollout = field(repr=False)
    season: Season = field(repr=False)
    first_month: int = 0

    def satisfaction_level(self, dealership: Ints, day: Ints) -> Floats:
        """Return the dealership's contribution to satisfaction on each day (a step a month)."""
        month = np.clip(month_of(day) - self.first_month, 0, self.level.shape[1] - 1)
        return np.asarray(self.level[dealership, month])


def _dealerships(
    config: Config, draws: Keyed, words: Vocabulary, groups: tuple[str, ...]
) -> pl.DataFrame:
    ids = np.arange(1, config.n_dealerships + 1)
    city = [words.cities[position % len(words.cities)] for position in range(len(ids))]
    opened = day_of(config.starts_on) - 400 - draws.integer("dealership.opened@1", 5000, ids)
    return pl.DataFrame(
        {
            "dealership_id": ids,
            "network": words.texts["network"],
            "name": [_name(words, position) for position in range(len(ids))],
            "region": [region for _, region in city],
            "city": [name for name, _ in city],
            "brand_group": [groups[position % len(groups)] for position in range(len(ids))],
            "opened_on": dates(opened),
            "sales_seats": np.full(len(ids), config.sales_seats, dtype=np.int32),
            "service_bays": (4 + draws.integer("dealership.bays@1", 7, ids)).astype(np.int32),
        }
    )


def _name(words: Vocabulary, position: int) -> str:
    turn, place = divmod(position, len(words.dealerships))
    return words.dealerships[place] + (f" {turn + 1}" if turn else "")


Span = tuple[int, int | None]


def _tenures(config: Config, draws: Keyed, seats: list[int]) -> list[list[Span]]:
    """Return first and last day of each holder of each seat, the last one still there."""
    keys, first, last = np.array(seats), day_of(config.starts_on), day_of(config.ends_on)
    starts = first - 30 - draws.integer("employee.before@1", 1500, keys)
    spans: list[list[Span]] = [[] for _ in seats]
    at, turn = np.arange(len(seats)), 0
    while at.size:
        years = draws.erlang("employee.tenure@1", 2, keys[at], turn) * MEAN_TENURE_YEARS
        ends = starts[at] + 90 + np.floor(years * YEAR).astype(np.int64)
        early = first + np.floor(years * YEAR / 2).astype(np.int64)
        ends = np.where(ends < first, early, ends)
        for seat, start, end in zip(at.tolist(), starts[at].tolist(), ends.tolist(), strict=True):
            spans[seat].append((start, end if end < last else None))
        starts[at] = ends + 1
        at, turn = at[ends < last], turn + 1
    return spans


def _staff(config: Config, draws: Keyed, words: Vocabulary) -> tuple[Staff, pl.DataFrame]:
    seats = dict.fromkeys(ROLES, 1) | {
        "manager": config.sales_seats,
        "service_advisor": config.advisors,
    }
    rows: list[tuple[int, int, str, int, int | None]] = []
    spans: dict[str, list[list[list[tuple[int, int]]]]] = {
        role: [[] for _ in range(config.n_dealerships)] for role in ROLES
    }
    places = [
        (dealership, code, role, seat)
        for dealership in range(1, config.n_dealerships + 1)
        for code, role in enumerate(ROLES)
        for seat in range(seats[role])
    ]
    keys = [(dealership * 16 + code) * 256 + seat for dealership, code, _, seat in places]
    for (dealership, _, role, _), held in zip(places, _tenures(config, draws, keys), strict=True):
        first = len(rows) + 1
        rows += [(first + n, dealership, role, *span) for n, span in enumerate(held)]
        spans[role][dealership - 1].append(
            [(start, first + n) for n, (start, _) in enumerate(held)]
        )
    starts, ids = _padded(spans)
    everyone = np.arange(1, len(rows) + 1)
    skill, discipline, slowness = (
        np.concatenate([[0.0], spread * draws.normal(name, everyone)])
        for name, spread in (
            ("skill@1", config.latent.skill_sd),
            ("discipline@1", config.contacts.discipline_sd),
            ("entry_lag@1", config.contacts.entry_manager_sigma),
        )
    )
    staff = Staff(starts, ids, skill, discipline, np.round(np.exp(slowness), 9))
    return staff, _employee_table(draws, words, rows)


def _padded(
    spans: dict[str, list[list[list[tuple[int, int]]]]],
) -> tuple[dict[str, Ints], dict[str, Ints]]:
    starts, ids = {}, {}
    for role, places in spans.items():
        most = max(len(seat) for held in places for seat in held)
        shape = (len(places), len(places[0]), most)
        starts[role] = np.full(shape, _LATEST, dtype=np.int64)
        ids[role] = np.zeros(shape, dtype=np.int64)
        for where, held in enumerate(places):
            for seat, turns in enumerate(held):
                starts[role][where, seat, : len(turns)] = [start for start, _ in turns]
                ids[role][where, seat, : len(turns)] = [employee for _, employee in turns]
    return starts, ids


def _employee_table(
    draws: Keyed, words: Vocabulary, rows: list[tuple[int, int, str, int, int | None]]
) -> pl.DataFrame:
    ids = np.array([row[0] for row in rows], dtype=np.int64)
    female = draws.chance("employee.female@1", 0.45, ids)
    left = np.array([-1 if row[4] is None else row[4] for row in rows], dtype=np.int64)
    return pl.DataFrame(
        {
            "employee_id": ids,
            "dealership_id": [row[1] for row in rows],
            "role": pl.Series([row[2] for row in rows], dtype=pl.Enum(ROLES)),
            "name": draw_names(draws, words, "employee", ids, female).full(),
            "hired_on": dates(np.array([row[3] for row in rows], dtype=np.int64)),
            "left_on": dates(np.maximum(left, 0), left >= 0),
        }
    )


def _levels(config: Config, draws: Keyed, first_month: int) -> Floats:
    """Return the satisfaction level by dealership and month: a constant plus an AR(1) drift."""
    latent, ids = config.latent, np.arange(1, config.n_dealerships + 1)
    last = month_of(np.array([day_of(config.ends_on)]))[0] + 12 * config.relation.follow_years
    shocks = draws.normal(
        "dealership.drift@1", ids[:, None], np.arange(last - first_month + 1)[None, :]
    )
    drift = np.empty_like(shocks)
    drift[:, 0] = latent.drift_sd * shocks[:, 0]
    fresh = latent.drift_sd * np.sqrt(1 - latent.drift_memory**2)
    for month in range(1, shocks.shape[1]):
        drift[:, month] = latent.drift_memory * drift[:, month - 1] + fresh * shocks[:, month]
    constant = latent.dealership_sd * draws.normal("dealership.level@1", ids)
    return np.asarray(constant[:, None] + drift)


def make_market(config: Config, seed: int) -> Market:
    """Build the network that customers of a world meet."""
    draws, words = Keyed(seed), load_vocabulary(config.locale)
    catalogue = make_catalogue(config.locale)
    ids = np.arange(1, config.n_dealerships + 1)
    weight = np.exp(0.25 * draws.normal("dealership.size@1", ids))
    first_month = int(month_of(np.array([day_of(config.starts_on)]))[0])
    staff, employees = _staff(config, draws, words)
    level = _levels(config, draws, first_month)
    advertising = plan_advertising(config, draws, weight, level, first_month)
    for array in (level, staff.skill, staff.discipline, staff.slowness):
        array.setflags(write=False)
    return Market(
        config=config,
        draws=draws,
        words=words,
        catalogue=catalogue,
        staff=staff,
        dealerships=_dealerships(config, draws, words, catalogue.groups),
        employees=employees,
        group=(ids - 1) % len(catalogue.groups),
        share_edges=np.cumsum(weight) / weight.sum(),
        level=level,
        advertising=advertising,
        rollout=make_rollout(config, draws),
        season=make_season(config),
        first_month=first_month,
    )
