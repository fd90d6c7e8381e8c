"""Events: reading, classes, labelled rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bids_xai.bids.events import (
    ROW_COLUMNS,
    check_outside,
    event_windows,
    labelled_events,
    parse_classes,
    read_events,
    resolve_classes,
    run_samples,
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
    assert table.level == ["1", "NA", "n/a"]
    np.testing.assert_array_equal(table.onset, [0, 4, 8.5])
    np.testing.assert_array_equal(table.duration, [2, np.nan, 0])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("0\t2\tface\n1,5\t2\tface\n", r"onset '1,5' \(line 3\)"),
        ("0\t2\tface\n\n1_0\t2\tface\n", r"onset '1_0' \(line 4\)"),
        ("inf\t2\tface\n", "onset 'inf'"),
        ("soon\t2\tface\n", "onset 'soon'"),
        ("0\t-2\tface\n", "duration '-2'"),
        ("0\tlong\tface\n", "duration 'long'"),
    ],
)
def test_times_that_are_no_numbers_are_refused(tmp_path, body, message):
    with pytest.raises(InputError, match=message):
        read_events(write(tmp_path, body))


@pytest.mark.parametrize("missing", ["n/a", "nan", ""])
def test_an_onset_is_needed_of_the_events_of_a_class_only(tmp_path, missing):
    path = write(tmp_path, f"0\t2\tface\n{missing}\tn/a\tresponse\n4\t2\tface\n")
    for merge in (None, 1.0):
        found = labelled_events(path, "trial_type", {"face": ("face",)}, merge)
        assert found["event"] == [0, 2]
    with pytest.raises(InputError, match=r"onset n/a of 'response' \(line 3\)"):
        labelled_events(path, "trial_type", {"response": ("response",)})


def test_a_file_is_read_from_disk_once_until_it_changes(tmp_path, monkeypatch):
    path = write(tmp_path, "0\t2\tface\n")
    read = []
    monkeypatch.setattr(Path, "read_bytes", lambda self, get=Path.read_bytes: read.append(self) or get(self))
    assert read_events(path).level == read_events(str(path)).level == ["face"]
    assert read == [path]
    path.write_text(HEADER + "0\t2\thouse\n")
    assert read_events(path).level == ["house"]
    assert read == [path, path]


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
    with pytest.raises(InputError, match="A class is called 'all'"):
        resolve_classes([write(tmp_path, "0\t2\tall\n4\t2\thouse\n")])


def test_events_keep_their_row_number(tmp_path):
    path = write(tmp_path, "8\t2\tface\n4\t2\trest\n0\t2\thouse\n")
    found = labelled_events(path, "trial_type", {"a": ("face",), "b": ("house",)})
    assert found["event"] == [2, 0]
    assert found["class"] == ["b", "a"]


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
        ("4\tn/a\tface\n", {}, "duration of event 0 .* is n/a"),
        ("4\tn/a\tface\n", {"window": (0, 4), "anchor": "offset"}, "duration of event 0 .* is n/a"),
    ],
)
def test_events_that_do_not_fit_are_refused(tmp_path, body, options, message):
    run = record(write(tmp_path, body))
    events = labelled_events(run.events, "trial_type", {"a": ("face",)})
    with pytest.raises(InputError, match=message):
        event_windows(run, events, **options)


def test_events_whose_window_leaves_the_run_are_left_out_and_named(tmp_path):
    # The run lasts 40 s; windows are moved by 5 s.
    run = record(write(tmp_path, "40\t2\tface\n-8\t2\tface\n36\t6\thouse\n2\t2\tface\n-4\t4\thouse\n"))
    options = {"target": "trial_type", "classes": {"face": ("face",), "house": ("house",)}, "shift": 5.0}
    samples = run_samples(run, **options)
    assert samples.columns["event"] == [4, 3]
    assert [volumes.tolist() for volumes in samples.windows] == [[1, 2], [4]]
    assert [text.split(",")[0] for text in samples.outside] == [
        "event 1 (face", "event 2 (house", "event 0 (face"
    ]  # fmt: skip
    warning = check_outside(run, samples, 0.6)
    assert warning.startswith(f"Left out: 3 of 5 events of {run.events} have a window that leaves the run")
    assert "event 2 (house, onset 36 s, window 41 to 47 s)" in warning
    with pytest.raises(InputError, match=r"3 of 5 events(.|\n)*--max-events-outside"):
        check_outside(run, samples, 0.59)
    assert check_outside(run, run_samples(run, **{**options, "classes": {}}), 0.0) is None


def test_a_window_from_the_onset_needs_no_duration(tmp_path):
    run = record(write(tmp_path, "4\tn/a\tface\n50\t2\trest\n"))
    events = labelled_events(run.events, "trial_type", {"a": ("face",)})
    assert event_windows(run, events, window=(0, 4))[1][0].tolist() == [2, 3]
