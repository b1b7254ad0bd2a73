"""Settings from outside: read, checked, printed, and refused with their range."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from crm_analysis.errors import InputError
from synthetic import PRESETS, make_network
from synthetic.cli import app
from synthetic.config import Config
from synthetic.settings import (
    changed_settings,
    names_of,
    parse_settings,
    range_of,
    read_settings,
    settings_rows,
    settings_toml,
    with_settings,
)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_printed_configuration_is_read_back(preset: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(settings_toml(PRESETS[preset]), encoding="utf-8")
    assert with_settings(Config(preset=preset), read_settings(path)) == PRESETS[preset]


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(
        "n_customers = 50\nas_of = 2024-06-30\n[relation]\nhazard = 0.1\n"
        "[traffic.market_by_year]\n2018 = 1.0\n2025 = 2.0\n",
        encoding="utf-8",
    )
    config = with_settings(Config(), read_settings(path))
    assert (config.n_customers, config.as_of) == (50, date(2024, 6, 30))
    assert config.relation.hazard == 0.1
    assert config.traffic.market_by_year == ((2018, 1.0), (2025, 2.0))
    assert set(changed_settings(config)) == {
        "n_customers", "as_of", "relation.hazard", "traffic.market_by_year",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("relation.hazrd=0.1", "did you mean 'relation.hazard'"),
        ("hazard=0.1", "did you mean 'relation.hazard'"),
        ("nonsense=1", "lists all of them"),
        ("relation.hazard=0", "from 1e-06 to 50"),
        ("relation.hazard=nan", "from 1e-06 to 50"),
        ("relation.hazard=true", "a number"),
        ("money.credit_share=1.01", "from 0 to 1"),
        ("relation.visits_after=2.5", "a whole number"),
        ("n_customers=-1", "from 0 to"),
        ("n_customers=many", "a whole number"),
        ("as_of=soon", "YYYY-MM-DD"),
        ("as_of=2031-01-01", "inside the world"),
        ("locale=fr_FR", "en_US, ru_RU"),
        ("locale=1", "a word"),
        ("traffic.month=[1, 2]", "12 values"),
        ("traffic.source_2025=[['tv', 1]]", "the keys walk_in"),
        ("traffic.market_by_year=3", "a list such as"),
        ("funnel.days=[-1, 1, 1, 1, 1, 1, 1]", "from 0 to"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(word: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        with_settings(Config(), parse_settings([word]))


def test_every_published_default_lies_in_its_own_range() -> None:
    """The defaults pass the door that they are checked by."""
    config = Config()
    values = {row["name"]: row["value"] for row in settings_rows(config)}
    words = [f"{name}={value}" for name, value in values.items()]
    assert with_settings(config, parse_settings(words)) == config


def test_every_number_has_a_range() -> None:
    """A unit that nobody gave a range would let anything in."""
    config = Config()
    for name in names_of(config):
        section, _, last = name.rpartition(".")
        value = getattr(getattr(config, section) if section else config, last)
        numbers = isinstance(value, int | float) and not isinstance(value, bool)
        assert not numbers or range_of(name), name


def test_every_setting_says_what_it_means() -> None:
    for row in settings_rows(Config()):
        assert row["meaning"], row
        assert row["confidence"] in {"published", "derived", "assumed", "a choice"}, row


@pytest.mark.parametrize(
    ("text", "said"), [("n_customers = ", "not TOML"), (b"\xff\xfe", "not TOML")]
)
def test_a_broken_file_is_said(text: str | bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError, match=said):
        read_settings(path)


def test_the_command_prints_values_with_source_and_confidence() -> None:
    done = CliRunner().invoke(app, ["settings", "--preset", "tiny", "--set", "relation.hazard=0.2"])
    assert done.exit_code == 0, done.output
    for word in ("relation.hazard", "0.2", "Avtostat", "published", "assumed"):
        assert word in done.output
    toml = CliRunner().invoke(app, ["settings", "--format", "toml"])
    assert "[relation]" in toml.output
    wrong = CliRunner().invoke(app, ["settings", "--format", "yaml"])
    assert wrong.exit_code == 2


# --- every setting --------------------------------------------------------------------------------


def _plain_value(value: Any) -> Any:
    return [_plain_value(part) for part in value] if isinstance(value, tuple) else value


def _with_last(value: Any, new: float) -> Any:
    """Return a value with its last number exchanged."""
    if isinstance(value, list):
        return [*value[:-1], _with_last(value[-1], new)]
    return new


def _has_numbers(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and _has_numbers(value[-1])
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value_of(name: str) -> Any:
    section, _, last = name.rpartition(".")
    config = Config()
    return getattr(getattr(config, section) if section else config, last)


NUMBERS = [name for name in names_of(Config()) if _has_numbers(_value_of(name))]


@pytest.mark.parametrize("name", NUMBERS)
def test_every_setting_is_refused_outside_its_range(name: str) -> None:
    """Below the least and above the greatest value, alone or inside a table, with the range."""
    bounds = range_of(name)
    assert bounds is not None
    assert bounds[0] < bounds[1]
    for wrong in (bounds[0] - 1, bounds[1] + 1):
        asked = _with_last(_plain_value(_value_of(name)), wrong)
        if isinstance(_value_of(name), int):
            asked = int(wrong)
        with pytest.raises(InputError) as said:
            with_settings(Config(), {name: asked})
        assert f"{bounds[0]:g} to {bounds[1]:g}" in str(said.value) or "do not fall" in str(
            said.value
        )


def test_every_default_carries_meaning_unit_source_and_confidence() -> None:
    """Read from the fields themselves, so that no setting can come without."""
    config, seen = Config(), 0
    for part in fields(config):
        section = getattr(config, part.name)
        if not is_dataclass(section):
            continue
        for item in fields(section):
            facts = item.metadata
            assert all(facts[name] for name in ("meaning", "unit", "source")), item.name
            assert facts["confidence"] in {"published", "derived", "assumed"}, item.name
            seen += 1
    assert seen > 140


def test_a_configuration_built_by_hand_is_checked_before_a_world_is_made() -> None:
    hopeless = replace(Config().relation, hazard=-1.0)
    with pytest.raises(InputError, match=r"relation\.hazard.*from 1e-06 to 50"):
        make_network(preset="tiny", seed=1, n_customers=10, relation=hopeless)


def test_an_unknown_policy_is_refused_with_the_list() -> None:
    with pytest.raises(InputError, match=r"did you mean 'contacts'.*campaigns"):
        with_settings(Config(), {"rollout.policy": "contact"})
