"""How near do the metrics come to the truth that made the data: bias, error, coverage, by family.

Networks of many seeds are made with their truth; every metric looks at what a dealership's CRM
would hold, and its estimate and 95 % interval are set against what the generator knows. Three
parts, each kept in a file of its own, and one table of all:

    python run.py exec python benchmarks/coverage_truth.py tiny --seeds 1-40
    python run.py exec python benchmarks/coverage_truth.py small --seeds 1-6
    python run.py exec python benchmarks/coverage_truth.py campaigns --seeds 1-20
    python run.py exec python benchmarks/coverage_truth.py table    # benchmarks/coverage_truth.md

The closed-form worlds, in which the models of lifetime are exactly true, are
`benchmarks/coverage_lifetime.py`'s.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from crm_analysis import (
    Estimates,
    LeadScore,
    adjusted_conversion,
    call_results,
    channel_parity,
    complaint_resolution,
    contact_discipline,
    conversion_funnel,
    holdout_effect,
    interrupted_effect,
    lead_score,
    loyalty_lift,
    mean_score,
    net_promoter_score,
    pipeline_forecast,
    pipeline_velocity,
    purchase_history,
    ramp_up,
    response_rate,
    retention_curve,
    sales_forecast,
    satisfaction_index,
    score_bounds,
    service_demand,
    source_effectiveness,
    staggered_effect,
    state_transitions,
    value_by_process,
    value_concentration,
    weighted_score,
)
from crm_analysis.dates import to_day_number
from crm_analysis.forecast.lead_snapshots import PER, snapshots
from crm_analysis.forecast.reached import first_reached, stage_columns
from crm_analysis.logistic import concordance
from crm_analysis.schema import STAGES
from crm_analysis.warehouse import views
from synthetic import Network, make_network, make_worlds
from synthetic.closed_form import make_closed_form
from synthetic.config import CampaignSettings

AS_OF = date(2025, 12, 31)
YEAR_BEFORE = date(2024, 12, 31)
YEAR_DAYS = 365.25
WINDOW_DAYS = 365
"""Long enough that no lead of the generator is still on its way at the end of it."""
LEVEL = 0.95
FEW_LEADS = 30
"""Below it the chances of a manager's own leads say too little of equal leads to be a truth."""
HEAD = """# Estimates beside the truth that made the data

Made by `benchmarks/coverage_truth.py` over seeds of the generator's networks: `tiny` has 2,000
customers, 3 dealerships and 3 years; `small` 20,000, 6 and 8; campaigns run in 12 dealerships with
8,000 customers. Bias is the mean of estimate less truth, with its standard error over seeds.
Coverage is the share of 95 % intervals that hold the truth; the band is where 95 of 100 such shares
would lie if the intervals were right and independent. Those of one network share its luck, so that
the band is a little narrow. Every truth is the generator's own chance, hazard or effect, except for
forecasts, which are held against what came later, and concentration, against the mean of all
seeds."""
WHY = {
    "retention, 2 years, departures guessed from 18 silent months": (
        "nobody says that they leave. A customer counts as gone 18 months after the last visit, so "
        "that at two years the curve shows hardly more than those who left in the first half year. "
        "It lags the truth by up to 18 months, whatever the number of customers: a small interval "
        "around it is no proof. The page says by which rule customers count as gone."
    ),
    "margin of the coming year, service, over what came": (
        "the interval is that of the expected margin (how well the model is known); what comes "
        "scatters around it by chance, by prices and by the season of the market as well. The bias "
        "of some per cent is the model's: prices rise, and it takes the mean of the past."
    ),
    "margin of the coming year, car, over what came": (
        "as for service; a network of this size sells some forty cars a year to those who bought "
        "before, whose number alone scatters by a sixth."
    ),
    "conversion by source": (
        "the estimate leaves out contracts that were cancelled later, which the true chance of a "
        "contract counts: the small bias is theirs."
    ),
    "Net Promoter Score, taken for all who were asked": (
        "who answers differs from who is silent: the generator lets the very pleased and the very "
        "displeased answer more often. No interval of the answers can know that, and it covers the "
        "less the more answers there are. For those who do answer the score is right."
    ),
    "Net Promoter Score of those who answer": (
        "customers differ in their chances, so that their sum varies less than the interval "
        "allows for: it is on the safe side."
    ),
    "mean satisfaction of those who answer": "as for the Net Promoter Score.",
    "manager's raw conversion, taken for the same": (
        "Wilson's interval is wide enough, but the raw share is the poorer guess: see the error "
        "beside that of the adjusted one."
    ),
    "manager's rank by skill": (
        "where managers differ little and each has few leads, almost every rank is within the "
        "interval, which is then on the safe side."
    ),
    "lift of campaigns, before and after": (
        "campaigns start in season, and before and after takes the season for their effect. It is "
        "shown as a warning only."
    ),
    "lift at one dealership, interrupted series": (
        "one dealership has a handful of leads a week. A lift is a ratio, whose mean lies above "
        "the true one where it is so uncertain, and advertising is remembered after its end, in "
        "weeks that count as being without it."
    ),
    "share of the best fifth": (
        "customers of one network share their dealerships and their market: networks differ by "
        "more than customers drawn independently would."
    ),
    "mean satisfaction of all asked, by weights": (
        "as for the Net Promoter Score of all asked: who answers depends on how they feel, which "
        "no trait that weights could use tells."
    ),
    "mean satisfaction of all asked, by bounds": (
        "they allow for the worst and the best that the silent could have said, and hold the truth "
        "in every network at the price of their width."
    ),
    "index of satisfaction (0-1000) of those who answer": "as for the Net Promoter Score.",
    "effect of membership, members against all others": (
        "the satisfied join more often, and would have come back anyway: it is shown as a warning "
        "beside the comparison of like with like, which finds the truth, no effect."
    ),
    "odds of a contract of a new manager, log": (
        "managers of these networks are as able on the first day as later, so that every "
        "difference found would be of chance."
    ),
    "visits and purchases of those reached, less those not reached": (
        "a coin decides who answers the phone. Holding people who were reached at last against "
        "those who never were would find an effect all the same: whoever is called often is "
        "reached at last, and is called often because they come often. So the first call counts."
    ),
    "pairs of leads in the order of buying, by true chances": (
        "the rival of the score knows the buyer's intent and the manager's skill, but not for how "
        "long a lead has stood still."
    ),
    "margin a day of the pipeline, over what came in 90 days": (
        "the pipeline is full at the end of December and empties in the first months of the year, "
        "and the market falls in the generator's last one: the pace is the flow where a pipeline "
        "does neither. The interval is that of how leads went before, not of what 90 days bring."
    ),
    "sales of each of the next 6 months": (
        "the market falls in the generator's last year, which no past can tell: hence the bias, "
        "the same way in every seed. The intervals are wide enough for it."
    ),
}
ELSEWHERE = """## Not in the table

- Models of lifetime: `coverage_lifetime.md`, in worlds in which they are exactly true.
- Age of stock: the generator does not follow a car that no one bought past the day looked at.
- Changes of value split into number, mix and margin, costs, ledgers, counts of gaps and defects,
  pay under a scheme: sums that are exact, held by the tests against hand and slow twins.
"""
KEPT = Path("reports/out/coverage")
TABLE = Path(__file__).with_suffix(".md")

Frames = Mapping[str, pl.LazyFrame]


@dataclass(frozen=True)
class Case:
    """One estimate beside the truth; an estimate without an interval tells its bias only."""

    what: str
    estimate: float
    low: float | None
    high: float | None
    truth: float

    @property
    def covers(self) -> bool | None:
        """Return whether the interval holds the truth; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return self.low <= self.truth <= self.high


@dataclass(frozen=True)
class World:
    """A network, and what its CRM showed a year before its end."""

    preset: str
    seed: int

    @cached_property
    def network(self) -> Network:
        """Return the whole network."""
        return make_network(preset=self.preset, seed=self.seed)

    @cached_property
    def earlier(self) -> Network:
        """Return the same network as its CRM showed it a year before the end."""
        return make_network(preset=self.preset, seed=self.seed, as_of=YEAR_BEFORE)


def case(what: str, result: Estimates | pl.DataFrame, truth: float) -> Case:
    """Return the case of an estimate of one row."""
    table = result if isinstance(result, pl.DataFrame) else result.table
    row = table.row(0, named=True)
    return Case(what, row["estimate"], row["conf_low"], row["conf_high"], truth)


def cases(what: str, table: pl.DataFrame) -> Iterator[Case]:
    """Return a case for every row that has an estimate and a ``truth``."""
    columns = ("estimate", "conf_low", "conf_high", "truth")
    for row in table.select(columns).drop_nulls(["estimate", "truth"]).iter_rows():
        yield Case(what, *row)


def by_dealership(table: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Return the rows of each dealership."""
    yield from table.partition_by("dealership_id")


# Retention --------------------------------------------------------------------------------


def spells(network: Network) -> pl.DataFrame:
    """Return relationships as they truly went, censored by any other end than defection."""
    truth = network.truth["truth_fate"].collect()
    home = network.tables["customers"].select("customer_id", "dealership_id").collect()
    left = pl.col("cause").cast(pl.String) == "defected"
    return (
        truth.filter(pl.col("started_on") <= AS_OF)
        .join(home, on="customer_id")
        .with_columns(
            defected_on=pl.when(left & (pl.col("ended_on") <= AS_OF)).then("ended_on"),
            seen_to=pl.min_horizontal("ended_on", pl.lit(AS_OF)),
        )
    )


def true_retention(relations: pl.DataFrame, intervals: pl.DataFrame, days: int) -> float:
    """Return the product over days of one minus the mean true chance of leaving, of those there."""
    pieces = (
        relations.join(intervals, on="customer_id")
        .with_columns(
            first=(pl.col("start_on") - pl.col("started_on")).dt.total_days().clip(0, days),
            last=(pl.min_horizontal("stop_on", "seen_to") - pl.col("started_on"))
            .dt.total_days()
            .clip(0, days),
            chance=1 - (-pl.col("hazard") / YEAR_DAYS).exp(),
        )
        .filter(pl.col("last") > pl.col("first"))
    )
    at_risk, leaving = np.zeros(days + 1), np.zeros(days + 1)
    first, last = pieces["first"].to_numpy(), pieces["last"].to_numpy()
    for total, weight in ((at_risk, np.ones(len(first))), (leaving, pieces["chance"].to_numpy())):
        np.add.at(total, first, weight)
        np.add.at(total, last, -weight)
    there = np.cumsum(at_risk)[:days]
    mean_chance = np.cumsum(leaving)[:days] / np.maximum(there, 1)
    return float(np.prod(1 - mean_chance))


def cause_specific_curve(relations: pl.DataFrame, days: int) -> pl.DataFrame:
    """Return the curve's row: a spell ended otherwise is moved to end at `AS_OF`, still open."""
    shift = pl.lit(AS_OF) - pl.col("seen_to")
    moved = relations.with_columns(
        started_on=pl.when(pl.col("defected_on").is_null())
        .then(pl.col("started_on") + shift)
        .otherwise("started_on")
    )
    curve = retention_curve(moved, end_col="defected_on", as_of=AS_OF, unit="day")
    return curve.at(days)


def retention(world: World) -> Iterator[Case]:
    """Hold curves against the hazards that ended relationships, seen and unseen."""
    network, days = world.network, 730
    intervals = network.truth["truth_interval"].collect()
    true = spells(network)
    for relations in by_dealership(true):
        curve = cause_specific_curve(relations, days)
        truth = true_retention(relations, intervals, days)
        yield case("retention, 2 years, departures known", curve, truth)
    tables = network.tables.__getitem__
    seen = views.spells(tables, as_of=AS_OF, inactive_months=18).collect()
    for relations in by_dealership(seen):
        curve = retention_curve(relations, as_of=AS_OF, unit="month").at(24)
        gone = true.join(relations, on="customer_id", how="semi").with_columns(
            ended_on=pl.when(pl.col("ended_on") <= AS_OF).then("ended_on")
        )
        truth = retention_curve(gone, as_of=AS_OF, unit="month").at(24)["estimate"].item()
        yield case("retention, 2 years, departures guessed from 18 silent months", curve, truth)


# Funnel and sources -----------------------------------------------------------------------


def conversion(world: World) -> Iterator[Case]:
    """Hold the share of leads that reach a contract against their true chances."""
    events = world.network.tables["stage_events"].collect()
    chances = world.network.truth["truth_lead"].select(
        "opportunity_id", probability="contract_probability"
    )
    for own in by_dealership(events):
        found = conversion_funnel(
            own, steps=["new", "contract"], within_days=WINDOW_DAYS, as_of=AS_OF
        )
        opened = own.filter(pl.col("stage").cast(pl.String) == "new")
        mature = opened.filter(
            pl.col("happened_at").dt.date() < AS_OF - timedelta(days=WINDOW_DAYS)
        )
        truth = mature.join(chances.collect(), on="opportunity_id")["probability"].mean()
        assert isinstance(truth, float)
        yield case("conversion to contract", found.table.filter(pl.col("step") == 2), truth)


def sources(world: World) -> Iterator[Case]:
    """Hold each source's share sold against the chances of its leads."""
    leads = views.lead_sales(world.network.tables.__getitem__).collect()
    found = source_effectiveness(leads, within_days=WINDOW_DAYS, as_of=AS_OF)
    mature = leads.filter(pl.col("opened_at").dt.date() <= AS_OF - timedelta(days=WINDOW_DAYS))
    chances = world.network.truth["truth_lead"].collect()
    truth = (
        mature.join(chances, on="opportunity_id")
        .group_by(pl.col("source").cast(pl.String))
        .agg(truth=pl.col("contract_probability").mean())
    )
    yield from cases("conversion by source", found.table.join(truth, on="source"))


# Satisfaction -----------------------------------------------------------------------------


def answers(network: Network, code: str, *, everyone: bool = False) -> pl.DataFrame:
    """Return surveys with the true chances of one question: those answered, or all sent."""
    asked = network.truth["truth_question"].filter(pl.col("code") == code).select("question_id")
    truth = network.truth["truth_answer"].join(asked, on="question_id", how="semi")
    surveys = network.tables["surveys"].select(
        "survey_id", "dealership_id", answered_on=pl.col("answered_at").dt.date()
    )
    if everyone:
        return truth.join(surveys, on="survey_id").collect()
    scores = network.tables["survey_answers"].join(asked, on="question_id", how="semi")
    return (
        scores.filter(pl.col("value").is_not_null())
        .join(truth, on=["survey_id", "question_id"])
        .join(surveys, on="survey_id")
        .with_columns(score=pl.col("value"))
        .collect()
    )


def true_nps(given: pl.DataFrame) -> float:
    """Return the expected Net Promoter Score of surveys, in points."""
    return 100 * float((given["top_probability"] - given["low_probability"]).to_numpy().mean())


def satisfaction(world: World) -> Iterator[Case]:
    """Hold scores against what those who answered, and all who were asked, would say."""
    asked = answers(world.network, "nps", everyone=True)
    for own in by_dealership(answers(world.network, "nps")):
        score = net_promoter_score(own, as_of=AS_OF)
        yield case("Net Promoter Score of those who answer", score, true_nps(own))
        here = asked.filter(dealership_id=own["dealership_id"][0])
        yield case("Net Promoter Score, taken for all who were asked", score, true_nps(here))
    for own in by_dealership(answers(world.network, "csat")):
        mean = mean_score(own, scale=(1, 5), as_of=AS_OF)
        truth = float(own["expected_score"].to_numpy().mean())
        yield case("mean satisfaction of those who answer", mean, truth)
    chance = world.network.truth["truth_survey"].collect()
    for own in by_dealership(world.network.tables["surveys"].collect()):
        due = own.filter(pl.col("sent_at").dt.date() <= AS_OF - timedelta(days=30))
        chances = due.join(chance, on="survey_id")["answer_probability"].to_numpy()
        truth = float(chances.mean())
        yield case("share of surveys answered", response_rate(own, as_of=AS_OF), truth)


# Managers ---------------------------------------------------------------------------------


def manager_leads(network: Network) -> pl.DataFrame:
    """Return leads with when they were won, and by whom."""
    return views.leads(network.tables.__getitem__).collect()


def managers(world: World) -> Iterator[Case]:
    """Hold managers' conversion on equal leads against chances of equal leads."""
    leads = manager_leads(world.network)
    asked = {"manager_col": "manager_id", "within_days": WINDOW_DAYS, "as_of": AS_OF}
    found = adjusted_conversion(leads, **asked).table  # type: ignore[arg-type]
    truth = true_standardised(world.network, leads)
    both = found.join(truth, on="manager_id")
    yield from cases("manager's conversion on equal leads", both)
    raw = both.with_columns(estimate="raw", conf_low="raw_low", conf_high="raw_high")
    yield from cases("manager's raw conversion, taken for the same", raw)
    yield from ranks(world.network, leads)
    yield from discipline(world.network)


def true_standardised(network: Network, leads: pl.DataFrame) -> pl.DataFrame:
    """Return each manager's mean true chance by source, weighted as the sources of all leads."""
    chances = network.truth["truth_lead"].collect()
    mature = leads.filter(pl.col("opened_at").dt.date() <= AS_OF - timedelta(days=WINDOW_DAYS))
    known = mature.join(chances, on="opportunity_id")
    weight = known.group_by("source").agg(weight=pl.len())
    cells = known.group_by("manager_id", "source").agg(chance=pl.col("contract_probability").mean())
    size = known.group_by("manager_id").agg(n_leads=pl.len()).filter(pl.col("n_leads") >= FEW_LEADS)
    return (
        cells.join(weight, on="source")
        .join(size, on="manager_id", how="semi")
        .group_by("manager_id")
        .agg(truth=(pl.col("chance") * pl.col("weight")).sum() / pl.col("weight").sum())
    )


def ranks(network: Network, leads: pl.DataFrame) -> Iterator[Case]:
    """Compare orders of managers with that of skill: the share of pairs in the right order."""
    found = adjusted_conversion(
        leads.with_columns(year=pl.col("opened_at").dt.year()),
        manager_col="manager_id", adjust=("source", "year"), as_of=AS_OF,
    ).table  # fmt: skip
    skill = network.truth["truth_employee"].collect()
    both = found.join(skill, left_on="manager_id", right_on="employee_id").drop_nulls("estimate")
    for name, column in (("adjusted", "estimate"), ("naive", "raw")):
        share = pairs_in_order(both[column].to_numpy(), both["skill"].to_numpy())
        yield Case(f"pairs of managers in the order of skill, {name}", share, None, None, 1.0)
    place = both["skill"].rank(descending=True)
    ranked = both.with_columns(
        (pl.col("rank_low") + pl.col("rank_high")).truediv(2).alias("estimate"),
        pl.col("rank_low").cast(pl.Float64).alias("conf_low"),
        pl.col("rank_high").cast(pl.Float64).alias("conf_high"),
        place.alias("truth"),
    )
    yield from cases("manager's rank by skill", ranked)


def pairs_in_order(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of pairs that two rankings put in the same order; a tie counts half."""
    first, second = np.triu_indices(len(truth), 1)
    same = np.sign(estimate[first] - estimate[second]) * np.sign(truth[first] - truth[second])
    return float(np.mean((same + 1) / 2))


def discipline(network: Network) -> Iterator[Case]:
    """Hold each manager's share of contacts on time against their true chances."""
    planned = network.tables["contacts"].collect()
    chances = network.truth["truth_contact"].collect()
    found = contact_discipline(planned, as_of=AS_OF, by="employee_id").table
    truth = (
        planned.filter(pl.col("due_at").dt.date() <= AS_OF)
        .join(chances, on="contact_id")
        .group_by("employee_id")
        .agg(truth=pl.col("on_time_probability").mean())
    )
    yield from cases("manager's contacts on time", found.join(truth, on="employee_id"))


# Segments ---------------------------------------------------------------------------------


def segments(world: World) -> Iterator[Case]:
    """Hold the concentration of value, and moves on a ladder, against their truth.

    The truth of concentration is that of all seeds together, filled in when the table is made.
    """
    bought = views.purchases(world.network.tables.__getitem__).collect()
    found = value_concentration(bought, since=date(2025, 1, 1), as_of=AS_OF)
    names = {"gini": "concentration of margin (Gini)", "best_fifth": "share of the best fifth"}
    for row in found.table.to_dicts():
        yield Case(
            names[row["measure"]], row["estimate"], row["conf_low"], row["conf_high"], float("nan")
        )
    if world.preset == "tiny":
        yield from moves(world.seed)


def moves(seed: int) -> Iterator[Case]:
    """Hold shares of moves against the chain that made them (closed form)."""
    made = make_closed_form("markov_ladder", seed=seed, n_customers=500)
    truth = made.truth["truth_transition"].collect().select(
        pl.col("from_state", "to_state").cast(pl.String), truth="probability"
    )  # fmt: skip
    found = state_transitions(
        made.tables["ladder"], state_col="state", at_col="observed_on", as_of=date(2030, 1, 1)
    ).table
    chance = found.join(truth, on=["from_state", "to_state"]).filter(
        pl.col("truth").is_between(0.001, 0.999)
    )
    yield from cases("moves between states of customers", chance)


# Value and forecasts: a year later ----------------------------------------------------------


def coming_year(world: World) -> Iterator[Case]:
    """Hold the margin foretold of a process's customers against what came of them."""
    then = views.purchases(world.earlier.tables.__getitem__).collect()
    later = views.purchases(world.network.tables.__getitem__).collect()
    for kind in ("service", "car"):
        own = then.filter(kind=kind)
        came = later.filter(pl.col("happened_on") > YEAR_BEFORE, kind=kind).join(
            own.select("customer_id").unique(), on="customer_id", how="semi"
        )
        history = purchase_history(own, unit="month", as_of=YEAR_BEFORE)
        worth = value_by_process({kind: history}, horizon_months=12, annual_discount_rate=0.0)
        row = worth.together().table.row(0, named=True)
        margin = float(came["margin"].to_numpy().sum())
        if row["estimate"] is not None and margin > 0:
            # As a share of what came: networks differ in size.
            names = ("estimate", "conf_low", "conf_high")
            total, low, high = (row[name] * row["n"] / margin for name in names)
            yield Case(f"margin of the coming year, {kind}, over what came", total, low, high, 1.0)


def forecasts(world: World) -> Iterator[Case]:
    """Hold forecasts made a year before the end against what came."""
    then, later = world.earlier.tables.__getitem__, world.network.tables.__getitem__
    yield from sales_ahead(views.sales(then).collect(), views.sales(later).collect())
    yield from pipeline_ahead(then("stage_events").collect(), later("stage_events").collect())
    yield from visits_ahead(views.car_events(then).collect(), views.car_events(later).collect())


def sales_ahead(then: pl.DataFrame, later: pl.DataFrame) -> Iterator[Case]:
    """Hold six months of sales against those that were made."""
    found = sales_forecast(then, horizon_months=6, as_of=YEAR_BEFORE).table
    month = pl.col("contract_on").dt.truncate("1mo")
    came = later.group_by(month=month).agg(truth=pl.len().cast(pl.Float64))
    yield from cases("sales of each of the next 6 months", found.join(came, on="month"))


def pipeline_ahead(then: pl.DataFrame, later: pl.DataFrame) -> Iterator[Case]:
    """Hold the contracts expected of open leads against those signed."""
    steps = STAGES[: STAGES.index("contract")]
    found = pipeline_forecast(then, steps=steps, horizon_days=90, as_of=YEAR_BEFORE).total()
    stage = pl.col("stage").cast(pl.String)
    ended = then.filter(stage.is_in(["contract", "lost"]))
    was_open = then.join(ended, on="opportunity_id", how="anti").select("opportunity_id").unique()
    signed = later.filter(
        stage == "contract", pl.col("happened_at").dt.date() <= YEAR_BEFORE + timedelta(days=90)
    ).join(was_open, on="opportunity_id", how="semi")
    truth = float(signed["opportunity_id"].n_unique())
    yield case("contracts of the pipeline in 90 days", found, truth)


def visits_ahead(then: pl.DataFrame, later: pl.DataFrame) -> Iterator[Case]:
    """Hold the visits expected of cars known then against those they made."""
    found = service_demand(then, horizon_weeks=8, as_of=YEAR_BEFORE).table
    known = then.select("vehicle_id").unique()
    first = found["week"][0]
    came = (
        later.filter("is_visit", pl.col("happened_on") >= first)
        .join(known, on="vehicle_id", how="semi")
        .group_by(
            week=pl.lit(first)
            + pl.duration(days=(pl.col("happened_on") - first).dt.total_days() // 7 * 7)
        )
        .agg(truth=pl.len().cast(pl.Float64))
    )
    both = found.join(came, on="week", how="left").with_columns(pl.col("truth").fill_null(0.0))
    yield from cases("visits of each of the next 8 weeks", both)


# Leads, people and calls ------------------------------------------------------------------------


def lead_scores(world: World) -> Iterator[Case]:
    """Hold the score of leads of a year ago against what came, and against the true chances."""
    then = views.lead_events(world.earlier.tables.__getitem__).collect()
    later = views.lead_events(world.network.tables.__getitem__).collect()
    steps = STAGES[: STAGES.index("contract")]
    found = lead_score(then, steps=steps, as_of=YEAR_BEFORE)
    end = YEAR_BEFORE + timedelta(days=30)
    signed = later.filter(
        pl.col("stage").cast(pl.String) == "contract", pl.col("happened_at").dt.date() <= end
    )
    came = found.leads.join(signed, left_on="unit", right_on="opportunity_id", how="semi")
    expected = found.table.select(pl.col("n", "estimate").sum())
    variance = float((found.table["std_error"] ** 2).sum())
    half = 1.96 * float(np.sqrt(variance))
    total = expected["estimate"].item()
    yield Case(
        "contracts of open leads in 30 days, by their score", total, max(total - half, 0.0),
        total + half, float(came.height),
    )  # fmt: skip
    yield from score_order(world, found, steps)


def score_order(world: World, found: LeadScore, steps: Sequence[str]) -> Iterator[Case]:
    """Compare the order of leads by score with the order by what is hidden from it.

    The rival knows each lead's true chances of all steps still before it: the buyer's intent and
    the manager's skill with them, but not how long the lead has stood where it is.
    """
    area = found.lift.concordance
    if area.table["estimate"].item() is None:
        return
    columns = stage_columns(
        "opportunity_id", "stage", "happened_at", steps, "contract", "lost", "source"
    )
    events = views.lead_events(world.earlier.tables.__getitem__).collect()
    reached = first_reached(events, columns, YEAR_BEFORE, per=PER)
    last = to_day_number(YEAR_BEFORE)
    days = [last - 30 * back for back in range(12, 0, -1)]
    seen = snapshots(reached, columns, days, 30, last)
    order = {step: place for place, step in enumerate(steps)}
    chances = world.network.truth["truth_stage"].with_columns(
        to=pl.col("stage").cast(pl.String).replace_strict(order, default=99).cast(pl.Int64)
    )
    here = seen.lazy().select(
        "unit", "day", "won",
        place=pl.col("stage").replace_strict(order, return_dtype=pl.Int64),
    )  # fmt: skip
    truth = (
        here.join(chances, left_on="unit", right_on="opportunity_id")
        .filter(
            pl.col("stage").cast(pl.String) != "delivery",
            pl.col("stage").cast(pl.String) != "test_drive", pl.col("to") > pl.col("place"),
        )
        .group_by("unit", "day", "won")
        .agg(chance=pl.col("probability").product())
        .sort("unit", "day")
        .collect()
    )  # fmt: skip
    won = truth["won"].cast(pl.Float64).to_numpy()
    best = concordance(truth["chance"].to_numpy(), won, np.ones(len(won)), LEVEL)[0]
    row = area.table.row(0, named=True)
    yield Case("pairs of leads in the order of buying, by score", row["estimate"], None, None, 1.0)
    yield Case("pairs of leads in the order of buying, by true chances", best, None, None, 1.0)


def ramp(world: World) -> Iterator[Case]:
    """Hold what months in the job do against the truth: nothing, in these networks."""
    tables = world.network.tables.__getitem__
    hired = tables("employees").select("hired_on", manager_id="employee_id")
    leads = views.leads(tables).join(hired, on="manager_id").collect()
    found = ramp_up(leads, manager_col="manager_id", within_days=WINDOW_DAYS, as_of=AS_OF)
    for row in found.table.head(-1).drop_nulls("odds").to_dicts():
        value, low, high = (float(np.log(row[c])) for c in ("odds", "odds_low", "odds_high"))
        yield Case("odds of a contract of a new manager, log", value, low, high, 0.0)


def calls(world: World) -> Iterator[Case]:
    """Hold what people did who were reached against who were not: a coin decided it."""
    tables = world.network.tables
    made = views.calls(tables.__getitem__).collect()
    done = views.comings(tables.__getitem__, has=tables.__contains__).collect()
    found = call_results(made, outcomes=done, by="purpose", as_of=AS_OF).table
    known = found.drop_nulls("difference").filter(pl.col("n_yes") > 0)
    yield from cases(
        "visits and purchases of those reached, less those not reached",
        known.select(
            estimate="difference", conf_low="difference_low", conf_high="difference_high",
            truth=pl.lit(0.0),
        ),
    )  # fmt: skip


def parity(world: World) -> Iterator[Case]:
    """Hold a channel against the others with its mix, by chances of the leads themselves."""
    leads = views.lead_sales(world.network.tables.__getitem__).collect()
    adjust = ["dealership_id", "condition"]
    found = channel_parity(leads, adjust=adjust, within_days=WINDOW_DAYS, as_of=AS_OF).table
    mature = leads.filter(pl.col("opened_at").dt.date() <= AS_OF - timedelta(days=WINDOW_DAYS))
    known = mature.join(world.network.truth["truth_lead"].collect(), on="opportunity_id")
    cells = known.group_by(pl.col("source").cast(pl.String), *adjust).agg(
        pl.len(), pl.col("contract_probability").sum().alias("sum")
    )
    totals = cells.group_by(adjust).agg(all_n=pl.col("len").sum(), all_sum=pl.col("sum").sum())
    both = cells.join(totals, on=adjust, nulls_equal=True).filter(pl.col("all_n") > pl.col("len"))
    others = (pl.col("all_sum") - pl.col("sum")) / (pl.col("all_n") - pl.col("len"))
    gap = (pl.col("sum") / pl.col("len") - others) * pl.col("len")
    truth = both.group_by("source").agg(truth=gap.sum() / pl.col("len").sum())
    shown = found.with_columns(pl.col("source").cast(pl.String)).join(truth, on="source").select(
        "truth", estimate="difference", conf_low="difference_low", conf_high="difference_high"
    )  # fmt: skip
    yield from cases("conversion of a channel, less that of others with its mix", shown)


def loyalty(world: World) -> Iterator[Case]:
    """Hold what membership does against the truth: nothing, but the satisfied join more often."""
    tables = world.network.tables
    bought = partial(views.purchases, tables.__getitem__)
    rows = views.loyalty_members(
        tables.__getitem__, bought, landmark_days=30, has=tables.__contains__
    )
    hidden = world.network.truth["truth_customer"].select(
        "customer_id", level=(pl.col("satisfaction") / 0.5).round().clip(-3, 3)
    )
    found = loyalty_lift(
        rows.join(hidden, on="customer_id"), adjust=("started_kind", "level"), as_of=AS_OF
    ).table
    yield case("effect of membership, among the equally satisfied", found.slice(2, 1), 0.0)
    yield case("effect of membership, members against all others", found.slice(3, 1), 0.0)


# Satisfaction as an index, and of all who were asked --------------------------------------------

INDEX = {"csat": 4, "staff": 3, "price": 3}


def indices(world: World) -> Iterator[Case]:
    """Hold the index of those who answer, and scores of all who were asked, against the truth."""
    given = pl.concat(
        answers(world.network, code).with_columns(
            question=pl.lit(code), scale_min=pl.lit(1), scale_max=pl.lit(5)
        )
        for code in INDEX
    )
    for own in by_dealership(given):
        found = satisfaction_index(own, weights=INDEX, n_resamples=300, as_of=AS_OF)
        means = {code: own.filter(question=code)["expected_score"].to_numpy() for code in INDEX}
        truth = sum(weight * (means[code].mean() - 1) * 25 for code, weight in INDEX.items())
        yield case("index of satisfaction (0-1000) of those who answer", found, float(truth))
    for sent in by_dealership(all_asked(world.network)):
        due = sent.filter(pl.col("sent_at").dt.date() <= AS_OF - timedelta(days=30))
        truth = float(due["expected_score"].to_numpy().mean())
        weighted = weighted_score(sent, scale=(1, 5), as_of=AS_OF).table.slice(1, 1)
        yield case("mean satisfaction of all asked, by weights", weighted, truth)
        bounds = score_bounds(sent, scale=(1, 5), as_of=AS_OF)
        yield case("mean satisfaction of all asked, by bounds", bounds, truth)


def all_asked(network: Network) -> pl.DataFrame:
    """Return every survey with what its customer would say on average, and perhaps did."""
    question = network.truth["truth_question"].filter(pl.col("code") == "csat").select(
        "question_id"
    )  # fmt: skip
    truth = network.truth["truth_answer"].join(question, on="question_id", how="semi")
    scores = network.tables["survey_answers"].join(question, on="question_id", how="semi")
    return (
        network.tables["surveys"]
        .join(truth.select("survey_id", "expected_score"), on="survey_id")
        .join(scores.select("survey_id", score="value"), on="survey_id", how="left")
        .collect()
    )


def complaints(world: World) -> Iterator[Case]:
    """Hold the share of cases resolved in time against their true chances."""
    cases_of = world.network.tables["cases"].collect()
    chances = world.network.truth["truth_case"].collect()
    for own in by_dealership(cases_of):
        over = own.filter(pl.col("opened_at").dt.date() <= AS_OF - timedelta(days=7))
        truth = float(over.join(chances, on="case_id")["in_time_probability"].to_numpy().mean())
        yield case("cases resolved within 7 days", complaint_resolution(over, as_of=AS_OF), truth)


# What a year has made of it ---------------------------------------------------------------------


def pace(world: World) -> Iterator[Case]:
    """Hold what the pipeline brings in a day against the margin of the coming 90 days."""
    then, later = world.earlier.tables.__getitem__, world.network.tables.__getitem__
    leads = views.lead_sales(then).collect()
    found = pipeline_velocity(leads, since=date(2024, 1, 1), as_of=YEAR_BEFORE).table
    row = found.row(0, named=True)
    end = YEAR_BEFORE + timedelta(days=90)
    won = views.lead_sales(later).collect().filter(
        pl.col("won_at").dt.date() > YEAR_BEFORE, pl.col("won_at").dt.date() <= end
    )  # fmt: skip
    margin = float(won["margin"].drop_nulls().to_numpy().sum()) / 90
    if margin > 0 and row["estimate"] is not None:
        low, value, high = (row[name] / margin for name in ("conf_low", "estimate", "conf_high"))
        yield Case("margin a day of the pipeline, over what came in 90 days", value, low, high, 1.0)


# Campaigns --------------------------------------------------------------------------------


def staggered(seed: int) -> Iterator[Case]:
    """Hold the effect of campaigns that start at different times against the true lift."""
    network = make_network(
        preset="tiny", seed=seed, n_customers=8_000, n_dealerships=12,
        campaigns=CampaignSettings(a_year=2, holdout_share=0.4),
    )  # fmt: skip
    plan = network.tables["campaigns"].collect()
    leads = first_leads(network)
    found = staggered_effect(leads, unit_col="dealership_id", plan=plan, as_of=AS_OF)
    intensity = network.truth["truth_lead_intensity"].collect()
    truth = true_lift(intensity, plan)
    row = found.lift()
    yield Case(
        "lift of campaigns, staggered start", row["estimate"], row["conf_low"], row["conf_high"],
        truth,
    )  # fmt: skip
    assert found.naive is not None
    yield case("lift of campaigns, before and after", found.naive, truth)
    for place in range(1, 5):
        own = plan.filter(~pl.col("held_out"), dealership_id=place)
        here = leads.filter(dealership_id=place)
        windows = own.select("starts_on", "ends_on").rows()
        if windows:
            effect = interrupted_effect(here, windows=windows, as_of=AS_OF)
            one = true_lift(intensity.filter(dealership_id=place), own)
            yield case("lift at one dealership, interrupted series", effect, one)


def first_leads(network: Network) -> pl.DataFrame:
    """Return the leads that advertising lifts: each customer's first, but for service."""
    leads = network.tables["opportunities"].collect().sort("opened_at")
    first = leads.group_by("customer_id", maintain_order=True).first()
    return first.filter(pl.col("source") != "service_drive")


def true_lift(intensity: pl.DataFrame, plan: pl.DataFrame) -> float:
    """Return expected extra leads over those expected without, on the days of campaigns."""
    ran = plan.filter(~pl.col("held_out")).select("dealership_id", "starts_on", "ends_on")
    days = intensity.join(ran, on="dealership_id").filter(
        pl.col("day_on").is_between("starts_on", "ends_on")
    )
    without = days["base"] * days["suppression"]
    return float((without * days["lift"]).sum()) / float(without.sum())


def held_out(seed: int) -> Iterator[Case]:
    """Hold the effect on those drawn by lot against both of their potential outcomes."""
    worlds = make_worlds(policy="retention", preset="tiny", seed=seed, n_customers=1500)
    rows = worlds.potential.filter(pl.col("outcome") == "visits").with_columns(
        seen=pl.when("assigned").then("y1").otherwise("y0")
    )
    effect = worlds.effects.filter(pl.col("outcome") == "visits")["effect"].item()
    found = holdout_effect(
        rows, outcome_col="seen", treated_col="assigned", treated_share=0.5, as_of=AS_OF
    )
    yield case("visits won by a policy, holdout", found, effect)


# The table --------------------------------------------------------------------------------

Family = Callable[[World], Iterator[Case]]
FAMILIES: dict[str, Family] = {
    "retention": retention,
    "value": coming_year,
    "funnel": conversion,
    "sources": sources,
    "satisfaction": satisfaction,
    "managers": managers,
    "segments": segments,
    "forecasts": forecasts,
    "score of leads": lead_scores,
    "new managers": ramp,
    "calls": calls,
    "channels": parity,
    "loyalty programme": loyalty,
    "index": indices,
    "complaints": complaints,
    "pace of the pipeline": pace,
}
CAMPAIGNS: dict[str, Callable[[int], Iterator[Case]]] = {
    "campaigns": staggered, "holdout": held_out,
}  # fmt: skip


def collected(part: str, seeds: Sequence[int], families: Sequence[str] = ()) -> pl.DataFrame:
    """Return the cases of a part over seeds, of all families or of those named."""
    rows = []
    asked = [name for name in FAMILIES if name in families or not families]
    for seed in seeds:
        world = World(part, seed)
        made = (
            {name: family(seed) for name, family in CAMPAIGNS.items()}
            if part == "campaigns"
            else {name: FAMILIES[name](world) for name in asked}
        )
        preset = "tiny" if part == "campaigns" else part
        rows += [
            (name, one.what, preset, seed, one.estimate, one.low, one.high, one.truth)
            for name, found in made.items()
            for one in found
        ]
    columns = ["family", "what", "preset", "seed", "estimate", "low", "high", "truth"]
    return pl.DataFrame(rows, schema=columns, orient="row", infer_schema_length=None)


def summary(found: pl.DataFrame) -> pl.DataFrame:
    """Return one row a family, quantity and preset: bias, error and coverage over seeds."""
    own = pl.col("truth").is_nan()
    of_all = pl.col("estimate").mean().over("what", "preset")
    error = pl.col("estimate") - pl.col("truth")
    covers = (pl.col("low") <= pl.col("truth")) & (pl.col("truth") <= pl.col("high"))
    known = found.with_columns(
        truth=pl.when(own).then(of_all).otherwise("truth"), relative=own
    ).with_columns(error=error, covers=covers)
    keys = ["family", "what", "preset"]
    by_seed = known.group_by(*keys, "seed", maintain_order=True).agg(
        pl.len(), pl.col("error").sum(), pl.col("covers").cast(pl.Float64).mean().alias("share")
    )
    spread = by_seed.group_by(keys, maintain_order=True).agg(
        seeds=pl.len(),
        bias_error=_ratio_error("error", "len"),
        cover_error=pl.col("share").std() / pl.len().sqrt(),
    )
    whole = known.group_by(keys, maintain_order=True).agg(
        n=pl.len(),
        truth=pl.col("truth").mean(),
        bias=pl.col("error").mean(),
        rmse=(pl.col("error") ** 2).mean().sqrt(),
        coverage=pl.col("covers").cast(pl.Float64).mean(),
        n_intervals=pl.col("covers").count(),
        relative=pl.col("relative").any(),
    )
    return whole.join(spread, on=keys, maintain_order="left")


def _ratio_error(total: str, size: str) -> pl.Expr:
    """Return the standard error of a mean whose units come in clusters, one a seed."""
    mean = pl.col(total).sum() / pl.col(size).sum()
    residual = pl.col(total) - mean * pl.col(size)
    k = pl.len()
    return (residual.pow(2).sum() * k / (k - 1)).sqrt() / pl.col(size).sum()


def verdict(row: Mapping[str, Any]) -> str:
    """Return coverage with the band of a true 95 % over as many independent intervals."""
    if not row["n_intervals"]:
        return "-"
    half = 1.96 * float(np.sqrt(LEVEL * (1 - LEVEL) / row["n_intervals"]))
    low, high = LEVEL - half, min(1.0, LEVEL + half)
    text = f"{row['coverage']:.1%} ({low:.1%}-{high:.1%})"
    if low <= row["coverage"] <= high:
        return text
    return f"{text} **{'low' if row['coverage'] < low else 'high'}**"


def as_text(found: pl.DataFrame, before: str = "") -> str:
    """Return the table as Markdown, with what is known of each quantity that is out of its band.

    Rows of the text `before` that were not made anew stay as they were.
    """
    rows: dict[tuple[str, ...], str] = {}
    for row in summary(found).iter_rows(named=True):
        bias = "by definition 0" if row["relative"] else f"{row['bias']:+.3g}"
        error = "" if row["relative"] else f" ({row['bias_error']:.2g})"
        rows[row["family"], row["what"], row["preset"]] = (
            f"| {row['family']} | {row['what']} | {row['preset']} | {row['seeds']} | {row['n']} "
            f"| {row['truth']:.3g} | {bias}{error} | {row['rmse']:.3g} | {verdict(row)} |"
        )
    rows = _rows_of(before) | rows
    order = [*CAMPAIGNS, *FAMILIES]
    names = sorted(rows, key=lambda key: (key[2] != "small", order.index(key[0])))
    told = [f"- **{what}**: {why}" for what, why in WHY.items() if any(k[1] == what for k in rows)]
    ranking = ranking_text(found) or _section(before, "## Does the adjusted")
    return "\n".join([
        HEAD, "",
        "| family | quantity | preset | seeds | n | truth | bias (s.e.) | RMSE | coverage (band) |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|",
        *(rows[name] for name in names), "", *ranking,
        "## Where it fails and why, and what else to know", "", *told, "", ELSEWHERE,
    ])  # fmt: skip


def _rows_of(text: str) -> dict[tuple[str, ...], str]:
    """Return the rows of a table made before, by family, quantity and preset."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    keys = [tuple(cell.strip() for cell in line.split("|")[1:4]) for line in lines]
    return {key: line for key, line in zip(keys, lines, strict=True) if key[0] != "family"}


def _section(text: str, title: str) -> list[str]:
    """Return the lines from a heading to the next."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith(title)), len(lines))
    after = (i for i, line in enumerate(lines) if i > start and line.startswith("## "))
    return lines[start : next(after, len(lines))]


def ranking_text(found: pl.DataFrame) -> list[str]:
    """Say by how much the adjusted order of managers is nearer to that of skill than the naive."""
    pairs = found.filter(pl.col("what").str.starts_with("pairs of managers")).with_columns(
        name=pl.col("what").str.extract(r"(adjusted|naive)$")
    )
    if pairs.is_empty():
        return []
    lines = ["## Does the adjusted ranking of managers beat the naive one?", ""]
    for preset in pairs["preset"].unique(maintain_order=True):
        wide = pairs.filter(preset=preset).pivot("name", index="seed", values="estimate")
        gain = wide["adjusted"].to_numpy() - wide["naive"].to_numpy()
        error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else float("nan")
        lines.append(
            f"- `{preset}`: {1 - wide['adjusted'].to_numpy().mean():.1%} of all pairs of managers "
            f"are in the wrong order, against {1 - wide['naive'].to_numpy().mean():.1%} by raw "
            f"conversion: {gain.mean():+.1%} of all pairs put right (standard error {error:.1%}); "
            f"better in {int((gain > 0).sum())} of {len(gain)} networks, equal in "
            f"{int((gain == 0).sum())}."
        )
    why = (
        "Where managers have few leads and got much the same ones, there is little to adjust: the "
        "gain is then in the conversion itself, whose error is smaller than the raw one's in both "
        "presets."
    )
    return [*lines, "", why, ""]


def seeds_of(text: str) -> range:
    """Return the seeds of ``"1-40"`` or ``"7"``."""
    first, _dash, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> None:
    """Make one part, or the table of all parts made so far."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("tiny", "small", "campaigns", "table"))
    parser.add_argument("--seeds", type=seeds_of, default=range(1, 3), help="such as 1-40")
    parser.add_argument("--families", nargs="*", default=(), choices=FAMILIES, metavar="NAME",
                        help="only these; the table keeps the rows of the others")  # fmt: skip
    asked = parser.parse_args()
    started = time.process_time()
    if asked.part == "table":
        parts = [pl.read_parquet(path) for path in sorted(KEPT.glob("*.parquet"))]
        found = pl.concat(parts).unique(maintain_order=True)
        before = TABLE.read_text(encoding="utf-8") if TABLE.exists() else ""
        TABLE.write_text(as_text(found, before), encoding="utf-8")
        print(f"{TABLE.name} is written")
        return
    found = collected(asked.part, asked.seeds, asked.families)
    KEPT.mkdir(parents=True, exist_ok=True)
    name = f"{asked.part}-{asked.seeds[0]:03}-{asked.seeds[-1]:03}.parquet"
    found.write_parquet(KEPT / name)
    print(as_text(found))
    print(f"{time.process_time() - started:.0f} CPU seconds")


if __name__ == "__main__":
    main()
