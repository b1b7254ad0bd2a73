"""Run the commands: `python -m synthetic`."""

from __future__ import annotations

from synthetic.cli import app

app(prog_name="python -m synthetic")
