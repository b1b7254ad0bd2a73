"""A warm kernel gives what a new one gives, byte for byte, for every notebook and both formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from crm_analysis.reporting import Batch, make_batch, open_batch

pytestmark = [pytest.mark.notebook, pytest.mark.slow]

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


def made(folder: Path, data: Path, *, isolate: bool) -> Batch:
    """Make every notebook for the network, in the languages in turn."""
    name = "isolated" if isolate else "pooled"
    text = f'data = "{data.as_posix()}"\nout = "{(folder / name).as_posix()}"\n'
    text += 'dealerships = ["network"]\nformats = ["html", "pdf"]\n'
    for number, notebook in enumerate(NOTEBOOKS):
        lang = ("en", "ru")[number % 2]
        text += f'[[report]]\nnotebook = "{notebook}"\nlanguages = ["{lang}"]\n'
    plan = folder / f"{name}.toml"
    plan.write_text(text, encoding="utf-8")
    return make_batch(open_batch(plan, root=ROOT), workers=1, isolate=isolate)


def test_pooled_and_isolated_reports_are_the_same(tiny_network: Path, tmp_path: Path) -> None:
    pooled = made(tmp_path, tiny_network, isolate=False)
    isolated = made(tmp_path, tiny_network, isolate=True)
    assert pooled.count("made") == isolated.count("made") == len(NOTEBOOKS)
    for outcome in pooled.outcomes:
        beside = Path(outcome.run.path).parent
        files = [(beside / name).as_posix() for name in outcome.result.get("files", ())]
        assert len(files) == (2 if outcome.run.name == "marketer" else 0)
        for path in [*outcome.run.paths.values(), *files]:
            one, other = (batch.out / path for batch in (pooled, isolated))
            assert one.read_bytes() == other.read_bytes(), path
