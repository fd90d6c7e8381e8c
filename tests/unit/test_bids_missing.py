"""What a dataset holds and results lack is named, as briefly as it can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_xai.bids.missing import absent_images, entities_of, in_words
from bids_xai.bids.records import BidsFile


def runs(*names: str) -> list[BidsFile]:
    keys = {"sub": "subject", "ses": "session", "task": "task", "dir": "direction", "run": "run"}
    return [
        BidsFile(
            Path(f"{name}_bold.nii.gz"),
            {keys[part.split("-")[0]]: part.split("-")[1] for part in name.split("_")},
        )
        for name in names
    ]


ALL = runs(
    *(
        f"sub-{subject}_task-{task}_run-{run}"
        for subject in ("01", "1")
        for task in ("look", "hear")
        for run in ("01", "02")
    )
)


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ([file.path.name for file in ALL], []),
        (
            # Names of results have no zeros less, and say what was done.
            [
                f"sub-01_task-{task}_run-{run}_space-X_res-4_desc-events_samples.nii.gz"
                for task in ("look", "hear")
                for run in (1, 2)
            ],
            ["sub-1 (all 4 runs)"],
        ),
        (
            [f"sub-{subject}_task-look_run-{run}_x.nii.gz" for subject in ("01", "1") for run in (1, 2)],
            ["task-hear (all 4 runs)"],
        ),
        (
            [file.path.name for file in ALL if file.path.name != "sub-01_task-hear_run-02_bold.nii.gz"],
            ["sub-01_task-hear_run-2"],
        ),
    ],
)
def test_runs(there: list[str], words: list[str]) -> None:
    absent = absent_images(ALL, [entities_of(Path(name)) for name in there], "bold")
    assert in_words(absent, ALL, "bold") == words


def test_runs_that_differ_in_another_entity() -> None:
    both = runs("sub-01_task-look_dir-AP", "sub-01_task-look_dir-PA")
    absent = absent_images(both, [entities_of(Path("sub-01_task-look_dir-AP_x.nii.gz"))], "bold")
    assert in_words(absent, both, "bold") == ["sub-01_task-look_dir-PA"]


def test_anatomical_images_may_be_averaged_over_sessions_and_runs() -> None:
    visits = runs("sub-01_ses-1_run-1", "sub-01_ses-1_run-2", "sub-01_ses-2", "sub-02_ses-1", "sub-02_ses-2")
    there = [entities_of(Path(name)) for name in ("sub-01_ses-1_x.nii.gz", "sub-02_space-X_x.nii.gz")]
    absent = absent_images(visits, there, "t1w")
    assert in_words(absent, visits, "t1w") == ["sub-01_ses-2"]
    assert in_words(absent_images(visits, [], "t1w"), visits, "t1w") == [
        "sub-01 (all 2 images)",
        "sub-02 (all 2 images)",
    ]
