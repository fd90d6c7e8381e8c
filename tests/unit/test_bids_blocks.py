"""Events that follow each other closely become one: by hand, and what merging keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_xai.bids.blocks import merge_events
from bids_xai.bids.events import labelled_events, sample_rows
from bids_xai.bids.records import RunRecord
from bids_xai.errors import InputError

CLASSES = {"face": ("face",), "tool": ("hammer", "saw")}
HEADER = "onset\tduration\ttrial_type\n"


def write(tmp_path: Path, *events: tuple[float | str, float | str, str]) -> Path:
    path = tmp_path / "sub-01_task-x_events.tsv"
    path.write_text(HEADER + "".join(f"{on}\t{lasts}\t{level}\n" for on, lasts, level in events))
    return path


def merged(path: Path, seconds: float | None) -> list[tuple[int, float, float, str, str]]:
    table = labelled_events(path, "trial_type", CLASSES, seconds)
    assert list(table) == ["event", "onset", "duration", "trial_type", "class"]
    return [tuple(row) for row in pd.DataFrame(table).round(6).itertuples(index=False)]


def test_pictures_of_a_block_are_one_event(tmp_path: Path) -> None:
    path = write(tmp_path, (2, 0.9, "face"), (3, 0.9, "face"), (4, 0.9, "face"), (12, 0.9, "face"))
    assert merged(path, 2) == [(0, 2.0, 2.9, "face", "face"), (3, 12.0, 0.9, "face", "face")]
    assert len(merged(path, None)) == 4


def test_the_longest_gap_is_within_a_block(tmp_path: Path) -> None:
    path = write(tmp_path, (0.1, 0.2, "face"), (0.4, 0.2, "face"), (1.6, 0.4, "face"))
    assert [event for event, *_ in merged(path, 0.1)] == [0, 2]
    assert [event for event, *_ in merged(path, 0)] == [0, 1, 2]
    assert [event for event, *_ in merged(path, 1)] == [0]


@pytest.mark.parametrize("between", ["rest", "hammer", "n/a"])
def test_another_event_ends_a_block(tmp_path: Path, between: str) -> None:
    path = write(tmp_path, (0, 1, "face"), (1, 1, "face"), (2, 1, between), (3, 1, "face"), (4, 1, "face"))
    blocks = [row for row in merged(path, 5) if row[-1] == "face"]
    assert blocks == [(0, 0.0, 2.0, "face", "face"), (3, 3.0, 2.0, "face", "face")]


def test_levels_of_a_class_share_a_block(tmp_path: Path) -> None:
    path = write(tmp_path, (0, 1, "hammer"), (1, 1, "saw"), (2, 1, "hammer"), (9, 1, "saw"))
    assert merged(path, 1) == [(0, 0.0, 3.0, "hammer+saw", "tool"), (3, 9.0, 1.0, "saw", "tool")]


def test_a_block_begins_with_the_first_onset_and_ends_with_the_last_end(tmp_path: Path) -> None:
    path = write(tmp_path, (9, 1, "face"), (1, 1, "face"), (0, 8, "face"))
    assert merged(path, 1) == [(2, 0.0, 10.0, "face", "face")]


def test_a_gap_needs_durations(tmp_path: Path) -> None:
    path = write(tmp_path, (0, 1, "face"), (2, "n/a", "face"), (4, "n/a", "rest"))
    with pytest.raises(InputError, match=r"duration of event 1 \(face\) .* is n/a(.|\n)*--merge-events"):
        merged(path, 2)


def test_samples_are_of_blocks(tmp_path: Path) -> None:
    path = write(
        tmp_path, *[(t, 0.9, "face") for t in range(4, 10)], *[(t, 0.9, "saw") for t in range(20, 26)]
    )
    run = RunRecord("01", "", "x", "1", Path("sub-01_bold.nii.gz"), path, 2.0, 20)
    options = {"target": "trial_type", "classes": CLASSES, "merge": 2.0, "shift": 4.0}
    rows, windows = sample_rows(run, sample="volumes", **options)
    # 4 to 9.9 s and 20 to 25.9 s, moved by 4 s.
    assert [window.tolist() for window in windows] == [[4, 5, 6], [12, 13, 14]]
    assert rows["event"].tolist() == [0, 0, 0, 6, 6, 6]
    assert rows["first_volume"].tolist() == rows["last_volume"].tolist() == [4, 5, 6, 12, 13, 14]
    np.testing.assert_allclose(rows["duration"], 5.9)
    rows, _ = sample_rows(run, sample="events", **options)
    assert rows[["event", "first_volume", "last_volume"]].to_numpy().tolist() == [[0, 4, 6], [6, 12, 14]]
    with pytest.raises(InputError, match=r"No volume(.|\n)*--merge-events"):
        sample_rows(run, **{**options, "merge": None})


@settings(max_examples=100, deadline=None)
@given(
    events=st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 8), st.sampled_from(["a", "b", None])), max_size=25
    ),
    seconds=st.integers(0, 6),
)
def test_blocks_are_apart_and_cover_their_events(
    events: list[tuple[int, int, str | None]], seconds: int
) -> None:
    onset, duration, name = (list(column) for column in zip(*events, strict=True)) if events else ([], [], [])
    table = pd.DataFrame(
        {
            "event": np.arange(len(events)),
            "onset": np.array(onset, float),
            "duration": np.array(duration, float),
            "trial_type": name,
            "class": pd.Series(name, dtype=object),
        }
    ).sort_values("onset", kind="stable", ignore_index=True)
    blocks = merge_events(table, seconds, "x")
    expected: list[list[float]] = []
    last = None
    for row in table.itertuples():
        of_class = row[5]
        if of_class is None:
            last = None
        elif of_class == last and row.onset - expected[-1][2] <= seconds:
            expected[-1][2] = max(expected[-1][2], row.onset + row.duration)
        else:
            expected.append([row.event, row.onset, row.onset + row.duration])
            last = of_class
    found = blocks.assign(end=blocks["onset"] + blocks["duration"])[["event", "onset", "end"]]
    assert found.to_numpy(float).tolist() == expected
