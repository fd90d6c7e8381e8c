"""Events: reading, classes, labelled rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bids_xai.bids.events import (
    ROW_COLUMNS,
    event_windows,
    labelled_events,
    parse_classes,
    read_events,
    resolve_classes,
    sample_rows,
)
from bids_xai.bids.records import RunRecord
from bids_xai.errors import InputError

HEADER = "onset\tduration\ttrial_type\n"


def write(tmp_path, body, header=HEADER):
    path = tmp_path / "sub-01_task-x_events.tsv"
    path.write_text(header + body)
    return path


def record(events):
    return RunRecord("01", "", "x", "1", Path("sub-01_bold.nii.gz"), events, 2.0, 20)


def test_levels_stay_text(tmp_path):
    table = read_events(write(tmp_path, "0\t2\t1\n4\tn/a\tNA\n8.5\t0\tn/a\n"))
    assert table["level"].tolist() == ["1", "NA", "n/a"]
    np.testing.assert_array_equal(table["onset"], [0, 4, 8.5])
    np.testing.assert_array_equal(table["duration"], [2, np.nan, 0])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("n/a\t2\tface\n", r"onset 'n/a' \(line 2\)"),
        ("0\t2\tface\nnan\t2\tface\n", r"onset 'nan' \(line 3\)"),
        ("0\t2\tface\n\t2\tface\n", r"onset '' \(line 3\)"),
        ("inf\t2\tface\n", "onset 'inf'"),
        ("soon\t2\tface\n", "onset 'soon'"),
        ("0\t-2\tface\n", "duration '-2'"),
        ("0\tlong\tface\n", "duration 'long'"),
    ],
)
def test_times_that_are_no_numbers_are_refused(tmp_path, body, message):
    with pytest.raises(InputError, match=message):
        read_events(write(tmp_path, body))


def test_absent_columns_are_named(tmp_path):
    path = write(tmp_path, "0\t2\tface\n")
    with pytest.raises(InputError, match=r"no column 'trial_typ'(.|\n)*trial_type(.|\n)*did you mean"):
        read_events(path, "trial_typ")
    with pytest.raises(InputError, match=r"no column 'onset'"):
        read_events(write(tmp_path, "2\tface\n", "duration\ttrial_type\n"))
    with pytest.raises(InputError, match="cannot be read"):
        read_events(tmp_path / "absent.tsv")
    (tmp_path / "empty.tsv").touch()
    with pytest.raises(InputError, match="cannot be read"):
        read_events(tmp_path / "empty.tsv")


def test_default_classes_leave_out_rest():
    levels = ["tool", "Rest", "face", "n/a", "Fixation", "baseline", "face"]
    assert parse_classes((), levels) == {"face": ("face",), "tool": ("tool",)}


def test_classes_are_renamed_and_merged():
    assert parse_classes(("face", "tool=scissors+shoe", "home=house")) == {
        "face": ("face",),
        "tool": ("scissors", "shoe"),
        "home": ("house",),
    }
    assert parse_classes(("a=b", "x=c+d"), ["a=b", "c+d"]) == {"a=b": ("a=b",), "x": ("c+d",)}


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (("a", "a"), "asked for twice"),
        (("a", "b=a"), "'a' is in the classes 'a' and 'b'"),
        (("=a",), "lacks a name"),
        (("a=b+",), "lacks a name"),
    ],
)
def test_bad_classes_are_refused(specs, message):
    with pytest.raises(InputError, match=message):
        parse_classes(specs)


def test_classes_are_checked_against_the_files(tmp_path):
    path = write(tmp_path, "0\t2\tface\n4\t2\thouse\n8\t2\trest\n")
    assert resolve_classes([path, path]) == {"face": ("face",), "house": ("house",)}
    assert list(resolve_classes([path], classes=("house", "rest"))) == ["house", "rest"]
    with pytest.raises(InputError, match=r"'hose'(.|\n)*face, house, rest(.|\n)*did you mean 'house'"):
        resolve_classes([path], classes=("face", "hose"))
    with pytest.raises(InputError, match="Only 1 class"):
        resolve_classes([path], classes=("face",))


def test_events_keep_their_row_number(tmp_path):
    path = write(tmp_path, "8\t2\tface\n4\t2\trest\n0\t2\thouse\n")
    found = labelled_events(path, "trial_type", {"a": ("face",), "b": ("house",)})
    assert found["event"].tolist() == [2, 0]
    assert found["class"].tolist() == ["b", "a"]


def test_rows_of_samples(tmp_path):
    run = record(write(tmp_path, "0\t4\tface\n8\t6\thouse\n20\t4\trest\n"))
    classes = {"F": ("face",), "H": ("house",)}
    rows, windows = sample_rows(run, target="trial_type", classes=classes, sample="volumes", shift=2.0)
    assert list(rows.columns) == list(ROW_COLUMNS)
    assert [window.tolist() for window in windows] == [[1, 2], [5, 6, 7]]
    assert rows["class"].tolist() == ["F", "F", "H", "H", "H"]
    assert rows["event"].tolist() == [0, 0, 1, 1, 1]
    assert set(rows["run"]) == {"1"}
    rows, _ = sample_rows(run, target="trial_type", classes=classes)
    assert rows["trial_type"].tolist() == ["face", "house"]


@pytest.mark.parametrize(
    ("body", "options", "message"),
    [
        ("40\t2\tface\n", {}, r"onset of event 0 \(face\) .* is 40 s, outside the run: .*lasts 40 s"),
        ("-1\t2\tface\n", {}, "is -1 s, outside the run"),
        ("36\t6\tface\n", {}, "leaves .*bold"),
        ("4\tn/a\tface\n", {}, "duration of event 0 .* is n/a"),
        ("4\tn/a\tface\n", {"window": (0, 4), "anchor": "offset"}, "duration of event 0 .* is n/a"),
    ],
)
def test_events_that_do_not_fit_are_refused(tmp_path, body, options, message):
    run = record(write(tmp_path, body))
    events = labelled_events(run.events, "trial_type", {"a": ("face",)})
    with pytest.raises(InputError, match=message):
        event_windows(run, events, **options)


def test_a_window_from_the_onset_needs_no_duration(tmp_path):
    run = record(write(tmp_path, "4\tn/a\tface\n50\t2\trest\n"))
    events = labelled_events(run.events, "trial_type", {"a": ("face",)})
    assert event_windows(run, events, window=(0, 4))[0].tolist() == [2, 3]
