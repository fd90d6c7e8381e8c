"""The design of labelled rows: codes, the order of classes, and a file that gives it back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_xai.decoding.design import Design, make_design
from bids_xai.errors import InputError


def rows() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"subject": s, "session": "", "task": "x", "run": r, "event": e, "class": name}
            for s in ("01", "02", "03")
            for r in ("1", "2")
            for e, name in enumerate(("house", "face", "tool", "house", "face", "tool"))
        ]
    )


def test_rows_become_codes_in_the_order_of_the_classes() -> None:
    design, kept = make_design(rows(), classes=("tool", "face"))
    assert design.classes == ("tool", "face")
    np.testing.assert_array_equal(kept, np.flatnonzero(rows()["class"] != "house"))
    np.testing.assert_array_equal(design.labels, np.tile([1, 0], 12))
    assert len(design.folds) == 3
    assert [len(set(codes)) for codes in (design.subjects, design.runs, design.events)] == [3, 6, 24]


def test_classes_are_sorted_unless_given() -> None:
    design, kept = make_design(rows())
    assert design.classes == ("face", "house", "tool")
    assert len(kept) == len(rows())


def test_a_saved_design_comes_back(tmp_path: Path) -> None:
    design, _ = make_design(rows(), cv="run")
    design.save(tmp_path / "design.json")
    again = Design.load(tmp_path / "design.json")
    assert again.classes == design.classes
    for name in ("labels", "subjects", "runs", "events"):
        np.testing.assert_array_equal(getattr(again, name), getattr(design, name))
    for a, b in zip(again.folds, design.folds, strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(a.train, b.train)
        np.testing.assert_array_equal(a.test, b.test)


@pytest.mark.parametrize(
    ("classes", "found"),
    [(("face", "cat"), "cat"), (("face",), "a second class"), (("face", "face"), "a second class")],
)
def test_classes_without_samples_are_refused(classes: tuple[str, ...], found: str) -> None:
    with pytest.raises(InputError, match=found):
        make_design(rows(), classes=classes)


def test_every_sample_is_left_out_in_the_fold_of_its_number() -> None:
    design, _ = make_design(rows(), cv="kfold", n_folds=3)
    for number, fold in enumerate(design.folds):
        np.testing.assert_array_equal(np.flatnonzero(design.left_out == number), fold.test)
