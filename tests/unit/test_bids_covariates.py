from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bids_xai.bids.covariates import column_of, with_covariates
from bids_xai.bids.lesions import find_lesion_masks
from bids_xai.errors import InputError

ROWS = pd.DataFrame({"subject": ["01", "02", "01"], "class": ["a", "b", "a"]})


def _table(folder: Path, text: str) -> Path:
    path = folder / "participants.tsv"
    path.write_text(text)
    return path


def test_columns_come_by_person_and_a_bin_width_is_no_part_of_the_name(tmp_path: Path) -> None:
    path = _table(tmp_path, "participant_id\tsex\tage\nsub-02\tF\t31\nsub-01\tM\t40\n")
    rows = with_covariates(ROWS, path, ["sex", "age:5", "age"])
    assert list(rows["sex"]) == ["M", "F", "M"]
    assert list(rows["age"]) == [40, 31, 40]
    assert column_of("age:5") == "age"
    assert "age" not in ROWS


def test_nothing_is_read_where_nothing_is_asked_for() -> None:
    assert with_covariates(ROWS, None, []).equals(ROWS)
    assert with_covariates(ROWS, None, ["class"]).equals(ROWS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("participant_id\tsexe\nsub-01\tM\n", "no column 'sex'.*did you mean 'sexe'"),
        ("participant_id\tsex\nsub-01\tM\n", "no sex of sub-02"),
        ("participant_id\tsex\nsub-01\tM\nsub-02\tn/a\n", "no sex of sub-02"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=f"(?s){message}"):
        with_covariates(ROWS, _table(tmp_path, text), ["sex"])
    with pytest.raises(InputError, match="has no participants"):
        with_covariates(ROWS, None, ["sex"])


def test_lesion_masks_are_found_by_person_and_session_in_a_space_first(tmp_path: Path) -> None:
    def make(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    make("sub-01/anat/sub-01_label-lesion_mask.nii.gz")
    own = make("sub-01/anat/sub-01_space-X_label-lesion_mask.nii.gz")
    other = make("sub-02/ses-1/anat/sub-02_ses-1_label-lesion_mask.nii.gz")
    make("sub-02/ses-1/anat/sub-02_ses-1_label-brain_mask.nii.gz")
    assert find_lesion_masks(tmp_path) == {("01", ""): own, ("02", "1"): other}
    make("sub-01/anat/sub-01_space-Y_label-lesion_mask.nii.gz")
    with pytest.raises(InputError, match="sub-01 has 2 lesion masks"):
        find_lesion_masks(tmp_path)
    with pytest.raises(InputError, match="holds no sub-"):
        find_lesion_masks(tmp_path / "sub-02" / "ses-1")
