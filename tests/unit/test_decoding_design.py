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


def test_people_are_named_in_the_order_of_their_codes(tmp_path: Path) -> None:
    table = rows().iloc[::-1]
    design, kept = make_design(table)
    assert design.people == ("03", "02", "01")
    assert [design.people[code] for code in design.subjects] == list(table["subject"].iloc[kept])
    design.save(tmp_path / "design.json")
    assert Design.load(tmp_path / "design.json").people == design.people


@pytest.mark.parametrize(("cv", "within"), [("subject", False), ("run", True), ("kfold", False)])
def test_folds_within_people_are_told_from_others(cv: str, within: bool) -> None:
    design, _ = make_design(rows(), cv=cv, n_folds=3)
    assert design.within_people == within


def test_blocks_are_the_levels_of_a_column(tmp_path: Path) -> None:
    table = rows().assign(site=lambda frame: frame["subject"].map({"01": "x", "02": "y", "03": "x"}))
    for name in ("site", "participants:site"):
        design, _ = make_design(table, exchange_within=name)
        np.testing.assert_array_equal(design.blocks, np.repeat([0, 1, 0], 12))
    design.save(tmp_path / "design.json")
    again = Design.load(tmp_path / "design.json")
    for code, expected in zip(again.exchange_codes, design.exchange_codes, strict=True):
        np.testing.assert_array_equal(code, expected)
    assert make_design(table)[0].blocks is None


def test_blocks_that_the_samples_lack_are_refused() -> None:
    with pytest.raises(InputError, match=r"no column 'site'(.|\n)*participant level again"):
        make_design(rows(), exchange_within="participants:site")
    table = rows().assign(site="x")
    table.loc[table["subject"] == "02", "site"] = None
    with pytest.raises(InputError, match=r"12 of 36 samples have no level \(sub-02\)"):
        make_design(table, exchange_within="site")


@pytest.mark.parametrize("name", ["all", "nan", "n/a"])
def test_a_class_with_the_name_of_another_row_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"'{name}'(.|\n)*--classes face class-{name}={name}"):
        make_design(rows().replace({"house": name}), classes=("face", name))
    assert make_design(rows().replace({"house": "All"}), classes=("face", "All"))[0].classes[1] == "All"
