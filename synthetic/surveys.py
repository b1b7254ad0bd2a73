"""Surveys: who is asked, who answers, and what they say.

A score is clip(round(centre + loading * satisfaction + noise)), so the probability of each score
given the satisfaction is known in closed form; answering depends on how strongly a customer feels,
so those who answer are not a random sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from crm_analysis.schema import CHANNELS, SURVEY_KINDS
from synthetic.clock import DAY, chosen, minute_in_hours, moments
from synthetic.customers import Customers
from synthetic.funnel import Leads, Paths
from synthetic.keyed import Floats, Ints, logistic, normal_below
from synthetic.network import Market
from synthetic.service import Orders

SALES, SERVICE = range(len(SURVEY_KINDS))


@dataclass(frozen=True)
class Question:
    """A scale question and how satisfaction becomes its score.

    Attributes
    ----------
    code, text_ru, text_en : the question.
    low, high : ends of the scale.
    centre, loading, noise : score before rounding = centre + loading * satisfaction + noise * z.
    low_to, top_from : a score up to `low_to` counts as low (for NPS a detractor), from `top_from`
    as top.
    kinds : positions in `SURVEY_KINDS` of the surveys that ask it.
    """

    code: str
    text_ru: str
    text_en: str
    low: int
    high: int
    centre: float
    loading: float
    noise: float
    low_to: int
    top_from: int
    kinds: tuple[int, ...]


QUESTIONS: tuple[Question, ...] = (
    Question("nps", "Насколько вероятно, что вы порекомендуете нас друзьям и коллегам?",
             "How likely are you to recommend us to friends and colleagues?",
             0, 10, 8.2, 1.35, 1.1, 6, 9, (SALES, SERVICE)),
    Question("csat", "Насколько вы довольны нами в целом?",
             "How satisfied are you with us overall?",
             1, 5, 4.1, 0.6, 0.6, 2, 4, (SALES, SERVICE)),
    Question("staff", "Насколько внимательны были наши сотрудники?",
             "How attentive were our staff?",
             1, 5, 4.3, 0.5, 0.6, 2, 4, (SALES, SERVICE)),
    Question("speed", "Насколько быстро была сделана работа?", "How quickly was the work done?",
             1, 5, 3.9, 0.45, 0.8, 2, 4, (SERVICE,)),
    Question("price", "Насколько цена соответствует качеству?",
             "Was the price fair for the quality?",
             1, 5, 3.6, 0.4, 0.8, 2, 4, (SALES, SERVICE)),
)  # fmt: skip
COMMENT_ID = len(QUESTIONS) + 1


@dataclass(frozen=True)
class Sent:
    """Surveys sent by the last day of the data; arrays of shape (n,), -1 = no deal or no order."""

    ids: Ints
    customer: Ints
    dealership: Ints
    employee: Ints
    kind: Ints
    deal: Ints
    order: Ints
    minute: Ints
    satisfaction: Floats


def question_table() -> pl.DataFrame:
    """Write the open table of questions; question_id is the place in `QUESTIONS` plus one."""
    rows = [
        {
            "question_id": place + 1,
            "code": question.code,
            "text_ru": question.text_ru,
            "text_en": question.text_en,
            "type": "scale",
            "scale_min": question.low,
            "scale_max": question.high,
        }
        for place, question in enumerate(QUESTIONS)
    ]
    comment = {
        "question_id": COMMENT_ID,
        "code": "comment",
        "text_ru": "Что нам стоит знать?",
        "text_en": "What should we know?",
        "type": "text",
        "scale_min": None,
        "scale_max": None,
    }
    return pl.DataFrame([*rows, comment])


def score_probabilities(satisfaction: Floats, question: Question) -> Floats:
    """Return the probability of each score given the satisfaction, whether or not it is given.

    Parameters
    ----------
    satisfaction : numpy array, shape (n,)
        Latent satisfaction.
    question : Question
        The question asked.

    Returns
    -------
    numpy array, shape (n, high - low + 1)
        Probabilities of the scores low … high; each row sums to one.
    """
    centre = question.centre + question.loading * np.asarray(satisfaction)
    cuts = np.arange(question.low, question.high) + 0.5
    below = normal_below((cuts[None, :] - centre[:, None]) / question.noise)
    ends = np.column_stack([np.zeros(len(centre)), below, np.ones(len(centre))])
    return np.asarray(np.diff(ends, axis=1))


def answer_probability(market: Market, satisfaction: Floats) -> Floats:
    """Return the probability that a survey is answered."""
    rules = market.config.surveys
    return logistic(rules.answer_logit + rules.answer_extreme * np.abs(satisfaction))


def send_surveys(
    market: Market, who: Customers, sales: tuple[Leads, Paths, Floats], orders: Orders, end: int
) -> Sent:
    """Send a survey three days after each delivery and two days after each service order."""
    leads, paths, felt = sales
    won = paths.won
    place = np.searchsorted(who.ids, leads.customer[won])
    delivered = paths.at[won, -1]
    manager = market.staff.holder("manager", leads.dealership, leads.seat, paths.at[:, -2] // DAY)
    n, m = int(won.sum()), len(orders.ids)
    none = np.full(n, -1, dtype=np.int64)
    ids = np.concatenate(
        [
            leads.customer[won] * 2000 + 1000 + leads.ids[won] % 10,
            orders.customer * 2000 + orders.ids % 1000,
        ]
    )
    after = np.concatenate([delivered // DAY + 3, orders.closed // DAY + 2])
    whole = Sent(
        ids=ids,
        customer=np.concatenate([leads.customer[won], orders.customer]),
        dealership=np.concatenate([leads.dealership[won], orders.dealership]),
        employee=np.concatenate([manager[won], orders.advisor]),
        kind=np.repeat([SALES, SERVICE], [n, m]),
        deal=np.concatenate([leads.ids[won], np.full(m, -1, dtype=np.int64)]),
        order=np.concatenate([none, orders.ids]),
        minute=minute_in_hours(after, market.draws.uniform("survey.hour@1", ids)),
        satisfaction=np.concatenate([felt[won], orders.satisfaction]),
    )
    agreed = np.concatenate([who.consent[place], who.consent[orders.place]])
    shown = np.flatnonzero(agreed & (whole.minute < end))
    shown = shown[np.argsort(ids[shown])]
    return Sent(*(getattr(whole, name)[shown] for name in Sent.__dataclass_fields__))


def survey_tables(market: Market, sent: Sent, end: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Write surveys and the answers given before minute `end`."""
    draws = market.draws
    answers = draws.chance(
        "survey.answers@1", answer_probability(market, sent.satisfaction), sent.ids
    )
    waited = 10 + np.floor(1.2 * DAY * draws.erlang("survey.delay@1", 1, sent.ids)).astype(np.int64)
    answered = sent.minute + waited
    answers &= answered < end
    channel = np.searchsorted([0.3, 0.7], draws.uniform("survey.channel@1", sent.ids))
    surveys = pl.DataFrame(
        {
            "survey_id": sent.ids,
            "dealership_id": sent.dealership + 1,
            "customer_id": sent.customer,
            "employee_id": sent.employee,
            "deal_id": sent.deal,
            "service_order_id": sent.order,
            "kind": chosen(SURVEY_KINDS, sent.kind),
            "sent_at": moments(sent.minute),
            "answered_at": moments(answered, answers),
            "channel": chosen(CHANNELS, channel),
        }
    ).with_columns(
        pl.when(pl.col(name) >= 0).then(name).alias(name)
        for name in ("deal_id", "service_order_id")
    )
    at = np.flatnonzero(answers)
    return surveys, _answers(market, sent.ids[at], sent.kind[at], sent.satisfaction[at])


def _answers(market: Market, ids: Ints, kind: Ints, satisfaction: Floats) -> pl.DataFrame:
    draws, rules = market.draws, market.config.surveys
    parts = []
    for place, question in enumerate(QUESTIONS):
        noise = question.noise * draws.normal(f"answer.{question.code}@1", ids)
        score = np.round(question.centre + question.loading * satisfaction + noise)
        score = np.clip(score, question.low, question.high)
        given = np.isin(kind, question.kinds)
        if question.code != "nps":
            given &= ~draws.chance(f"answer.{question.code}/missing@1", rules.item_missing, ids)
        parts.append(
            pl.DataFrame({"survey_id": ids[given], "value": score[given]}).with_columns(
                pl.lit(place + 1, dtype=pl.Int64).alias("question_id"),
                pl.lit(None, dtype=pl.String).alias("text"),
            )
        )
    return pl.concat([*parts, _comments(market, ids, satisfaction)]).sort(
        "survey_id", "question_id"
    )


def _comments(market: Market, ids: Ints, satisfaction: Floats) -> pl.DataFrame:
    draws, pools = market.draws, market.words.comments
    given = draws.chance("answer.comment@1", market.config.surveys.comments, ids)
    ids, satisfaction = ids[given], satisfaction[given]
    uniform = draws.uniform("answer.words@1", ids)
    words = {mood: pools[mood].draw(uniform) for mood in pools}
    text = words["bad"].zip_with(pl.Series(satisfaction < -0.7), words["fair"])
    text = words["good"].zip_with(pl.Series(satisfaction > 0.5), text)
    return pl.DataFrame({"survey_id": ids, "text": text}).select(
        "survey_id",
        pl.lit(None, dtype=pl.Float64).alias("value"),
        pl.lit(COMMENT_ID, dtype=pl.Int64).alias("question_id"),
        "text",
    )
