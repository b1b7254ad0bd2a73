"""Which records are the same person: one phone, e-mail or birthday under names that look alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, share_columns, small_n_notes
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    collect,
    group_names,
    open_table,
)
from crm_analysis.wording import _, date_text, interval_text, number, percent

__all__ = ["IdentityConsolidation", "find_duplicates", "identity_consolidation", "normal_phone"]

CYRILLIC, LATIN = "аеосрхукмтвн", "aeocpxykmtbh"
"""Small letters of two alphabets that look alike (м and в of capitals too), in the same order."""

MOST_IN_BLOCK = 20
"""A phone that more records share is the dealership's own or a placeholder, not a person's."""

MOST_SLIPS = 2
"""Letters in which two spellings of one full name may differ."""

_COUNTRY_CODES = ("7", "8", "1")
_ASKED = {
    "customer_id": "key", "last_name": "text", "first_name": "text", "phone": "text",
    "email": "text", "birth_on": "date", "created_at": "moment",
}  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class IdentityConsolidation(Estimates):
    """How many people stand behind the records.

    Attributes
    ----------
    persons : polars DataFrame
        ``customer_id`` and ``person_id`` (the person's earliest record): what to merge in the CRM.
    """

    persons: pl.DataFrame = field(default_factory=pl.DataFrame)

    def sentence(self) -> str:
        """Return the finding in one sentence."""
        if self.by or not self.table["n"].sum():
            return super().sentence()
        row = self.table.row(0, named=True)
        if not row["n_yes"]:
            return _(
                "{records} customer records are as many people or companies: nobody is there "
                "twice (at most {high}).",
                records=number(row["n_records"]), high=percent(row["conf_high"], 2),
            )  # fmt: skip
        return _(
            "{records} customer records are {persons} people or companies: {share} ({interval}) of "
            "them have more than one record.",
            records=number(row["n_records"]), persons=number(row["n"]),
            share=percent(row["estimate"]),
            interval=interval_text(row["conf_low"], row["conf_high"], self.unit),
        )  # fmt: skip

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {"n_yes": "count", "n_records": "count"}


def identity_consolidation(
    customers: object,
    *,
    key_col: str = "customer_id",
    last_name_col: str = "last_name",
    first_name_col: str = "first_name",
    phone_col: str = "phone",
    email_col: str = "email",
    birth_col: str = "birth_on",
    created_col: str = "created_at",
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> IdentityConsolidation:
    """How many people stand behind the customer records, and how many have several.

    Two records are one person when their names look alike (letters of the other alphabet, ё or е,
    surname and first name exchanged, up to two slips) and their phone, e-mail or birthday is the
    same. Whoever is linked to a linked record belongs to the same person.

    Parameters
    ----------
    customers : table
        One row per record, on any backend.
    key_col, last_name_col, first_name_col, phone_col, email_col, birth_col, created_col : str
    as_of : date
        Records made later do not count.
    by : str or sequence of str
        A person belongs to the group of the earliest record.
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    IdentityConsolidation
        Columns of `by`, ``n_yes`` (people with several records), ``n_records``, ``n`` (people),
        ``estimate``, ``std_error``, ``conf_low``, ``conf_high``. `persons` says who is who.

    Raises
    ------
    ColumnError
        A column is missing or of another type.

    Notes
    -----
    Pairs are looked for within blocks of one phone, e-mail, or birthday with the same initials
    (Christen 2012, *Data Matching*, chapter 4); a person with neither in common is not found.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date, datetime
    >>> book = pl.DataFrame({
    ...     "customer_id": [1, 2, 3], "last_name": ["Petrova", "Pertova", "Sidorov"],
    ...     "first_name": ["Anna", "Anna", "Oleg"], "email": None, "birth_on": None,
    ...     "phone": ["+7 (903) 123-45-67", "8 903 1234567", "+7 (903) 123-45-67"],
    ...     "created_at": [datetime(2025, 1, day) for day in (1, 2, 3)],
    ... }, schema_overrides={"birth_on": pl.Date, "email": pl.String})
    >>> identity_consolidation(book, as_of=date(2026, 1, 1)).persons.rows()
    [(1, 1), (2, 1), (3, 3)]
    """
    by = group_names(by, taken=("n_yes", "n_records", "person_id", *_ASKED))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    columns = (
        key_col, last_name_col, first_name_col, phone_col, email_col, birth_col, created_col,
    )  # fmt: skip
    arguments = ("key", "last_name", "first_name", "phone", "email", "birth", "created")
    asked = {
        name: Asked(column, kind, f"{argument}_col", nullable=name != "customer_id")  # type: ignore[arg-type]
        for (name, kind), column, argument in zip(_ASKED.items(), columns, arguments, strict=True)
    }
    records = collect(open_table(customers, asked, by=by), by=by, order=["created_at"])
    end = (as_of - date(1969, 12, 31)).days * 86_400
    records = records.filter(pl.col("created_at").is_null() | (pl.col("created_at") < end))
    persons = _persons(records, find_duplicates(records))
    counts = [
        (pl.len() > 1).cast(pl.Int64).alias("several"), pl.len().cast(pl.Int64).alias("records")
    ]  # fmt: skip
    people = persons.group_by("person_id", maintain_order=True).agg(*counts)
    people = people.join(
        records.select("customer_id", *by), left_on="person_id", right_on="customer_id",
        maintain_order="left",
    )  # fmt: skip
    sums = {
        "n_yes": pl.col("several").sum(), "n_records": pl.col("records").sum(), "people": pl.len()
    }  # fmt: skip
    counted = (
        people.group_by(by).agg(**sums).sort(by, nulls_last=True) if by else people.select(**sums)
    )
    table = counted.select(
        *by, "n_yes", "n_records", **share_columns(counted["n_yes"], counted["people"], conf_level)
    )
    return IdentityConsolidation(
        table=table, name=_("People with several records"), unit="share",
        definition=_(
            "Share of people and companies known by {as_of} that have more than one record: the "
            "same phone, e-mail or birthday under names that look alike.",
            as_of=date_text(as_of),
        ),
        by=by, conf_level=conf_level, notes=small_n_notes(table, by, what=_("people")),
        persons=persons,
    )  # fmt: skip


def normal_phone(phone: pl.Expr) -> pl.Expr:
    """Return a phone's own digits: +7, 8, 1 and leading zeros left out; null below seven digits.

    Parameters
    ----------
    phone : polars.Expr
        Texts.
    """
    digits = phone.str.replace_all(r"\D", "")
    length = digits.str.len_chars()
    digits = (
        pl.when(length >= 12).then(digits.str.replace(r"^00", ""))
        .when((length == 11) & digits.str.starts_with("0")).then(digits.str.slice(1))
        .otherwise(digits)
    )  # fmt: skip
    coded = (digits.str.len_chars() == 11) & digits.str.slice(0, 1).is_in(_COUNTRY_CODES)
    own = pl.when(coded).then(digits.str.slice(1)).otherwise(digits)
    return pl.when(own.str.len_chars() >= 7).then(own)


def _normal_name() -> pl.Expr:
    """Return the sorted words of a full name, in small letters of one alphabet."""
    full = pl.concat_str(["last_name", "first_name"], separator=" ", ignore_nulls=True)
    small = full.str.to_lowercase().str.replace_all("ё", "е", literal=True)
    for own, other in zip(CYRILLIC, LATIN, strict=True):
        small = small.str.replace_all(own, other, literal=True)
    return small.str.extract_all(r"[\p{L}\d]+").list.sort().list.join(" ")


def find_duplicates(records: pl.DataFrame) -> pl.DataFrame:
    """Return pairs of records of one person.

    Parameters
    ----------
    records : polars DataFrame
        ``customer_id, last_name, first_name, phone, email, birth_on, created_at``.

    Returns
    -------
    polars DataFrame
        ``customer_id`` (the later record), ``other_id`` (the earlier one) and ``reason``: phone,
        e-mail or birthday; one row a pair.
    """
    initials = pl.col("_name").str.extract_all(r"(?:^| )\S").list.join("")
    keyed = records.select(
        "customer_id", "created_at", "birth_on", _normal_name().alias("_name"),
        phone=normal_phone(pl.col("phone").cast(pl.String)),
        email=pl.col("email").cast(pl.String).str.strip_chars().str.to_lowercase(),
    ).filter(pl.col("_name") != "")  # fmt: skip
    keyed = keyed.with_columns(
        birthday=pl.when(pl.col("birth_on").is_not_null()).then(
            pl.concat_str([pl.col("birth_on").cast(pl.String), initials], separator="/")
        )
    )
    pairs = [_alike(keyed, key) for key in ("phone", "email", "birthday")]
    return pl.concat(pairs).unique(["customer_id", "other_id"], keep="first", maintain_order=True)


def _alike(keyed: pl.DataFrame, key: str) -> pl.DataFrame:
    """Return pairs within blocks of one key whose names look alike."""
    some = keyed.filter(pl.col(key).is_not_null()).filter(
        pl.len().over(key).is_between(2, MOST_IN_BLOCK)
    )
    some = some.sort("created_at", "customer_id").with_row_index("place")
    narrow = some.select(key, "place", "customer_id", "_name")
    both = narrow.join(narrow, on=key, suffix="_2").filter(pl.col("place") < pl.col("place_2"))
    names = zip(both["_name"].to_list(), both["_name_2"].to_list(), strict=True)
    close = pl.Series([_slips(one, two) <= MOST_SLIPS for one, two in names], dtype=pl.Boolean)
    return both.filter(close).sort("place", "place_2").select(
        pl.col("customer_id_2").alias("customer_id"), pl.col("customer_id").alias("other_id"),
        pl.lit(key).alias("reason"),
    )  # fmt: skip


def _slips(one: str, two: str) -> int:
    """Count the letters left out, put in, changed or exchanged between two names.

    Optimal string alignment (Damerau 1964; Boytsov 2011, section 2.2); more than the most
    that is asked for is said to be one more.
    """
    if one == two:
        return 0
    if abs(len(one) - len(two)) > MOST_SLIPS:
        return MOST_SLIPS + 1
    before: list[int] = []
    row = list(range(len(two) + 1))
    for i, letter in enumerate(one, 1):
        fresh = [i]
        for j, other in enumerate(two, 1):
            least = min(row[j] + 1, fresh[j - 1] + 1, row[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == two[j - 2] and one[i - 2] == other:
                least = min(least, before[j - 2] + 1)
            fresh.append(least)
        if min(fresh) > MOST_SLIPS:
            return MOST_SLIPS + 1
        before, row = row, fresh
    return row[-1]


def _persons(records: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Return each record's person: the earliest record that links lead to."""
    ordered = records.select("customer_id", "created_at").sort("created_at", "customer_id")
    if ordered["customer_id"].is_duplicated().any():
        raise InputError(
            "The table of customers has a key more than once: people cannot be told apart. Pass "
            "one row per record, or name its key with 'key_col'."
        )
    place = {key: i for i, key in enumerate(ordered["customer_id"].to_list())}
    first = np.array([place[key] for key in pairs["other_id"].to_list()], np.int64)
    second = np.array([place[key] for key in pairs["customer_id"].to_list()], np.int64)
    links = coo_array((np.ones(len(first)), (first, second)), shape=(len(place), len(place)))
    _count, label = connected_components(links, directed=False)
    whole = ordered.select("customer_id", label=pl.Series(label, dtype=pl.Int64))
    person = pl.col("customer_id").first().over("label").alias("person_id")
    return whole.select("customer_id", person)
