"""What the generator's commands say of themselves, and of settings nobody has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from synthetic import POLICIES, cli
from synthetic.cli import app
from synthetic.closed_form.parameters import build
from synthetic.closed_form.worlds import N_CUSTOMERS, WORLDS
from synthetic.settings import read_settings


@pytest.mark.parametrize("world", WORLDS)
def test_settings_of_a_closed_form_world_are_listed_and_read_back(
    world: str, tmp_path: Path
) -> None:
    """What `settings --format toml` prints makes the same world as the defaults do."""
    said = CliRunner().invoke(app, ["settings", "--world", world, "--format", "toml"])
    assert said.exit_code == 0, said.output
    file = tmp_path / "world.toml"
    file.write_text(said.output, encoding="utf-8")
    asked = read_settings(file)
    assert asked.pop("n_customers") == N_CUSTOMERS
    assert build(WORLDS[world].kind, asked) == WORLDS[world].kind()
    shown = CliRunner().invoke(app, ["settings", "--world", world])
    assert all(name in shown.output for name in asked)


def test_an_unknown_parameter_of_a_closed_form_world_is_refused_with_the_near_one() -> None:
    said = CliRunner().invoke(app, ["settings", "--world", "bgnbd", "--set", "alfa=3"])
    assert said.exit_code == 2
    assert "did you mean 'alpha'?" in said.output
    said = CliRunner().invoke(app, ["settings", "--world", "bgnbd", "--set", "alpha=-3"])
    assert "from 0.001 to 1000000.0" in said.output
    said = CliRunner().invoke(app, ["settings", "--world", "bgnb"])
    assert "did you mean 'bgnbd'?" in said.output


def test_the_help_names_all_worlds_and_policies() -> None:
    """It names them without importing them, so it could fall behind."""
    assert cli.WORLDS.split(", ") == list(WORLDS)
    assert cli.POLICIES.split(", ") == list(POLICIES)


@pytest.mark.parametrize(
    "command",
    ["generate", "settings", "check", "targets", "dictionary", "diff", "fingerprint"],
)
def test_the_help_of_a_command_explains_every_option(command: str) -> None:
    said = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "100"})
    assert said.exit_code == 0
    for parameter in get_command(app).commands[command].params:  # type: ignore[attr-defined]
        assert getattr(parameter, "help", None), parameter.name
        flag = parameter.opts[0] if parameter.opts[0].startswith("--") else parameter.name
        assert str(flag) in said.output


def test_starting_the_command_loads_no_data_frame() -> None:
    """`--help` and a mistyped option answer at once."""
    code = "import sys, synthetic.cli; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"'polars'", "'pyarrow'", "'numpy'", "'dataframely'"}
    assert not {name for name in heavy if name in done.stdout}
