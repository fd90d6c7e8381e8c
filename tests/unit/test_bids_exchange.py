"""The column that labels are exchanged within: where it is, and what rows get of it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bids_xai.bids.events import ROW_COLUMNS
from bids_xai.bids.exchange import parse_exchange_within, with_blocks
from bids_xai.errors import InputError


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    (tmp_path / "participants.tsv").write_text("participant_id\tsite\nsub-01\tA\n02\tB\n")
    (tmp_path / "events.tsv").write_text(
        "onset\tduration\ttrial_type\tdifficulty\n0\t1\tface\teasy\n2\t1\trest\teasy\n4\t1\thouse\t hard\n"
    )
    return tmp_path


def rows(*subjects: str) -> pd.DataFrame:
    table = pd.DataFrame({"subject": subjects, "event": [(2 * i) % 3 for i in range(len(subjects))]})
    return table.reindex(columns=list(ROW_COLUMNS))


@pytest.mark.parametrize(
    ("asked", "modality", "expected"),
    [
        ("difficulty", "bold", ("events", "difficulty")),
        ("events:difficulty", "bold", ("events", "difficulty")),
        ("participants:site", "bold", ("participants", "site")),
        ("site", "T1w", ("participants", "site")),
        ("session", "bold", ("rows", "session")),
        ("run", "bold", ("rows", "run")),
    ],
)
def test_a_column_is_looked_for_where_it_is(asked: str, modality: str, expected: tuple[str, str]) -> None:
    assert parse_exchange_within(asked, modality) == expected


@pytest.mark.parametrize(
    ("asked", "modality", "words"),
    [
        ("participant:site", "bold", "did you mean 'participants'"),
        ("participants:", "bold", "name a column"),
        ("events:difficulty", "T1w", "COLUMN, participants:COLUMN"),
        ("class", "bold", "another meaning"),
        ("participants:run", "bold", "another meaning"),
    ],
)
def test_other_columns_are_refused(asked: str, modality: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_exchange_within(asked, modality)


def test_rows_get_the_levels_of_people_or_of_events(bids: Path) -> None:
    table = rows("01", "02", "01")
    of_people = with_blocks(table, "participants:site", "bold", bids)
    assert of_people["site"].tolist() == ["A", "B", "A"]
    assert with_blocks(table, "site", "T1w", bids)["site"].tolist() == ["A", "B", "A"]
    of_events = with_blocks(table, "difficulty", "bold", bids, [bids / "events.tsv"] * 3)
    assert of_events["difficulty"].tolist() == ["easy", "hard", "easy"]
    assert [*of_events.columns] == [*ROW_COLUMNS, "difficulty"]
    for nothing in (None, "session"):
        assert with_blocks(table, nothing, "bold", bids) is table


def test_missing_columns_and_people_are_refused(bids: Path) -> None:
    with pytest.raises(InputError, match=r"has no column 'sight'(.|\n)*did you mean 'site'"):
        with_blocks(rows("01"), "participants:sight", "bold", bids)
    with pytest.raises(InputError, match=r"no row for sub-03"):
        with_blocks(rows("01", "03"), "participants:site", "bold", bids)
    with pytest.raises(InputError, match=r"no column 'site'(.|\n)*participants:site"):
        with_blocks(rows("01"), "site", "bold", bids, [bids / "events.tsv"])
    (bids / "participants.tsv").unlink()
    with pytest.raises(InputError, match=r"participants.tsv does not exist(.|\n)*another --exchange-within"):
        with_blocks(rows("01"), "participants:site", "bold", bids)
