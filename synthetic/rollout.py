"""Policies, and to whom each applies from when: staggered by dealership, with a random holdout.

A policy is a change of settings. Where its roll-out is on, a treated customer meets the changed
settings from the day on which their dealership starts; those held out never do. Dealerships start
in waves drawn at random, and customers are held out at random, so an experiment with a known
assignment is inside every treated world.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from crm_analysis.errors import InputError, near
from synthetic.clock import dates, day_of
from synthetic.config import POLICY_NAMES, Config
from synthetic.keyed import Flags, Ints, Keyed

NEVER = 2**31
"""A day that never comes."""


@dataclass(frozen=True)
class Policy:
    """A policy as settings.

    Attributes
    ----------
    meaning : str
        What it is.
    treated : mapping
        Settings of treated customers, by their full names.
    base : mapping
        Settings of the whole base world, for a policy that is not one of customers.
    """

    meaning: str
    treated: Mapping[str, Any]
    base: Mapping[str, Any] = field(default_factory=dict)


POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "contacts": Policy(
            "contacts with customers from four to six a year", {"contacts.customers_a_year": 6}
        ),
        "response": Policy(
            "every approach is answered, web leads and chats within ten minutes",
            {"funnel.response_within": 10.0, "funnel.rescued": 1.0},
        ),
        "reminders": Policy(
            "every service reminder is sent on time by a machine", {"contacts.automatic": 1.0}
        ),
        "retention": Policy("the hazard of defection is a fifth lower", {"relation.hazard": 0.8}),
        "discount": Policy(
            "no discount above three per cent of the list price", {"money.discount_cap": 0.03}
        ),
        "campaigns": Policy(
            "advertising runs, with its own staggered roll-out and its holdout of dealerships, "
            "against none",
            {},
            {"campaigns.running": 0},
        ),
    }
)
"""Policies by name."""

_SCALED = ("relation.hazard",)
"""Settings that a policy multiplies rather than replaces."""


def find_policy(name: str) -> Policy:
    """Return a policy.

    Raises
    ------
    InputError
        There is no such policy.
    """
    if name not in POLICIES:
        raise InputError(
            f"Policy {name!r} was asked for{near(name, POLICIES)}; there are "
            f"{', '.join(POLICIES)}. Choose one of these."
        )
    return POLICIES[name]


def policy_settings(policy: str) -> dict[str, dict[str, Any]]:
    """Return the settings that make each world of a policy from one configuration.

    Examples
    --------
    >>> policy_settings("contacts")
    {'base': {'rollout.policy': ''}, 'treated': {'rollout.policy': 'contacts'}}
    """
    chosen = find_policy(policy)
    base = {"rollout.policy": "", **chosen.base}
    return {"base": base, "treated": {"rollout.policy": policy if chosen.treated else ""}}


def setting_of(config: Config, name: str) -> Any:
    """Return a setting by its full name."""
    section, _, item = name.partition(".")
    return getattr(getattr(config, section), item)


def changed_rules(config: Config) -> dict[str, Any]:
    """Return the settings of treated customers, by their full names.

    Examples
    --------
    >>> changed_rules(Config())
    {}
    """
    if not config.rollout.policy:
        return {}
    changes = find_policy(config.rollout.policy).treated
    return {
        name: round(setting_of(config, name) * value, 9) if name in _SCALED else value
        for name, value in changes.items()
    }


@dataclass(frozen=True)
class Rollout:
    """To whom the policy of a world applies, from when.

    Attributes
    ----------
    changes : settings of treated customers.
    wave, starts : wave and first day of each dealership, shape (n_dealerships,).
    """

    config: Config
    draws: Keyed
    changes: Mapping[str, Any]
    wave: Ints
    starts: Ints

    def treated(self, customer: Ints) -> Flags:
        """Say which customers are not held out; nobody is where there is no policy."""
        if not self.changes:
            return np.zeros(len(customer), dtype=np.bool_)
        share = self.config.rollout.holdout_share
        return ~self.draws.chance("policy.held_out@1", share, customer)

    def begins(self, customer: Ints, dealership: Ints) -> Ints:
        """Return the day from which the policy applies to each customer."""
        return np.where(self.treated(customer), self.starts[dealership], NEVER)

    def rule(self, name: str, customer: Ints, dealership: Ints, day: Ints) -> Any:
        """Return a setting as it applies to each customer on each day.

        One number where no policy touches it, else an array of shape (n,).
        """
        usual = setting_of(self.config, name)
        if name not in self.changes:
            return usual
        return np.where(day >= self.begins(customer, dealership), self.changes[name], usual)


def make_rollout(config: Config, draws: Keyed) -> Rollout:
    """Draw the waves of a world's policy."""
    rules, ids = config.rollout, np.arange(1, config.n_dealerships + 1)
    wave = draws.integer("policy.wave@1", rules.waves, ids)
    starts = day_of(config.starts_on) + rules.first_days + rules.step_days * wave
    return Rollout(config, draws, changed_rules(config), wave, starts)


def rollout_table(rollout: Rollout) -> pl.DataFrame:
    """Write when each dealership starts; no row where the policy is not one of customers."""
    table = pl.DataFrame(
        {
            "dealership_id": np.arange(1, len(rollout.wave) + 1),
            "wave": rollout.wave + 1,
            "starts_on": dates(rollout.starts),
        }
    )
    return table if rollout.changes else table.clear()


__all__ = [
    "NEVER",
    "POLICIES",
    "POLICY_NAMES",
    "Policy",
    "Rollout",
    "changed_rules",
    "find_policy",
    "make_rollout",
    "policy_settings",
    "rollout_table",
    "setting_of",
]
