"""How the same name or phone comes to be written in another way."""

from __future__ import annotations

import polars as pl

CYRILLIC, LATIN = "аеосрху", "aeocpxy"
"""Letters that look alike, in the same order."""


def typo(name: pl.Expr, where: pl.Expr, how: pl.Expr) -> pl.Expr:
    """Exchange two neighbouring letters, leave one out, or double one.

    Parameters
    ----------
    name : polars.Expr
        Texts.
    where, how : polars.Expr
        Uniforms in (0, 1): the place, after the first letter, and the kind of slip.
    """
    length = name.str.len_chars().cast(pl.Int64)
    place = 1 + (where * (length - 2).clip(1)).floor().cast(pl.Int64)
    head, letter = name.str.slice(0, place), name.str.slice(place, 1)
    after, rest = name.str.slice(place + 1, 1), name.str.slice(place + 2)
    turned = pl.concat_str([head, after, letter, rest])
    short = pl.concat_str([head, after, rest])
    doubled = pl.concat_str([head, letter, letter, after, rest])
    return (
        pl.when((how < 0.4) & (after != "") & (letter != after)).then(turned)
        .when((how < 0.7) & (length > 3)).then(short)
        .otherwise(doubled)
    )  # fmt: skip


def yo(name: pl.Expr) -> pl.Expr:
    """Write е for every ё, or ё in the ending -ев of a surname."""
    without = name.str.replace_all("ё", "е", literal=True)
    dotted = name.str.replace(r"ев(а?)$", "ёв${1}")
    return pl.when(name.str.contains("ё", literal=True)).then(without).otherwise(dotted)


def look_alike(name: pl.Expr, *, russian: bool) -> pl.Expr:
    """Write one letter of the other alphabet that looks the same."""
    own, other = (CYRILLIC, LATIN) if russian else (LATIN, CYRILLIC)
    pattern = f"^(.[^{own}]*)([{own}])(.*)$"
    head, letter, rest = (name.str.extract(pattern, part) for part in (1, 2, 3))
    alike = letter.replace(dict(zip(own, other, strict=True)))
    return pl.concat_str([head, alike, rest]).fill_null(name)


def phone_format(phone: pl.Expr, which: pl.Expr, *, russian: bool) -> pl.Expr:
    """Write the same number in one of three other ways; `which` is a uniform."""
    digits = phone.str.replace_all(r"\D", "")
    own = digits.str.slice(1)
    code, near, rest = own.str.slice(0, 3), own.str.slice(3, 3), own.str.slice(6)
    dash = pl.lit("-")
    return (
        pl.when(which < 1 / 3).then(pl.concat_str([pl.lit("8" if russian else "1"), own]))
        .when(which < 2 / 3).then(pl.concat_str([code, dash, near, dash, rest]))
        .otherwise(pl.concat_str([pl.lit("+"), digits]))
    )  # fmt: skip
