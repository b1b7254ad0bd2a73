"""A place that cannot be written is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from crm_analysis.errors import InputError
from crm_analysis.files import check_writable, write_whole


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "place"
    check_writable(folder, what="Reports were", remedy="name another", refusal=InputError)
    assert folder.is_dir()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_way_is_refused_and_left_alone(tmp_path: Path, below: str) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"Reports were to be written into .*name another\."):
        check_writable(
            taken / below, what="Reports were", remedy="name another", refusal=InputError
        )
    assert taken.read_text(encoding="utf-8") == "mine"


def test_a_file_is_written_whole_or_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "page.html"
    write_whole(path, "ж")
    assert path.read_bytes() == "ж".encode()

    def full(_part: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"longer than before", lasting=True)
    assert path.read_bytes() == "ж".encode()
    assert list(path.parent.iterdir()) == [path]
