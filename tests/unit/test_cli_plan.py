"""The plan of an analysis: its rows, design, exchange of labels and size, before anything is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bids_xai.bids.query import query
from bids_xai.cli.plan import plan_group, print_plan
from bids_xai.errors import InputError
from bids_xai.settings import Settings, resolve
from tests.datasets import make_anatomical_dataset, make_dataset, write_head


def settings(**sections: dict[str, object]) -> Settings:
    quick = {"n_runs": 2, "n_permutations": 19, "n_null": 2, "alpha": (0.05,)}
    anatomical = {
        "preprocessing": {"modality": "T1w", "resolution": 4.0},
        "samples": {"target": "group"},
        "inference": quick,
    }
    return resolve(anatomical, sections)


@pytest.fixture
def visits(tmp_path: Path) -> Path:
    return make_anatomical_dataset(tmp_path / "visits", n_subjects=8, sessions=("1", "2"))


def test_groups_of_people(visits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subjects = query(visits, modality="T1w", target="group")
    design, rows = plan_group(settings(), subjects, [])
    assert design.classes == ("control", "patient")
    assert len(rows) == 16
    assert len(design.folds) == 8
    print_plan(settings(), subjects, [], 1)
    text = capsys.readouterr().out
    assert "Labels are exchanged by: between" in text
    # 8 people, 4 of a class: 70 relabelings, and 19 permutations.
    assert "Smallest p that this design can reach: 0.05" in text
    assert "Samples: 16 of about 28594 voxels, 2 classes" in text
    assert "cannot be reached" not in text


def test_a_design_of_few_relabelings_says_so(visits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subjects = query(visits, modality="T1w", target="group")
    few = settings(decoding={"cv": "kfold", "n_folds": 4})
    design, _ = plan_group(few, subjects, [])
    assert [np.bincount(design.labels[fold.test]).tolist() for fold in design.folds] == [[2, 2]] * 4
    print_plan(few, subjects, [], 1)
    text = capsys.readouterr().out
    # A patient and a control of each of four folds may change places.
    assert "Smallest p that this design can reach: 0.0625" in text
    assert "alpha 0.05 cannot be reached: the labels of this design" in text


def test_states_within_people_are_exchanged_within_them(visits: Path) -> None:
    subjects = query(visits, modality="T1w", target="sessions:state")
    within = settings(samples={"target": "sessions:state"}, inference={"permute": "subject"})
    design, _ = plan_group(within, subjects, [])
    assert design.classes == ("early", "late")
    with pytest.raises(InputError, match=r"one person belong to different classes"):
        plan_group(
            settings(samples={"target": "sessions:state"}, inference={"permute": "between"}), subjects, []
        )


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"decoding": {"cv": "run"}}, r"--cv run with anatomical images"),
        (
            {"inference": {"permute": "subject"}},
            r"every subject has events of one class(.|\n)*--permute between",
        ),
        ({"decoding": {"cv": "kfold", "n_folds": 9}}, r"9 folds and 8 subjects"),
    ],
)
def test_designs_that_leak_or_exchange_nothing(visits: Path, sections: dict, message: str) -> None:
    subjects = query(visits, modality="T1w", target="group")
    with pytest.raises(InputError, match=message):
        plan_group(settings(**sections), subjects, [])


def test_runs_that_an_engine_registers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bids = make_dataset(tmp_path / "bids", n_subjects=3)
    for folder in bids.glob("sub-*"):
        write_head(folder / "anat" / f"{folder.name}_T1w.nii.gz", np.random.default_rng(0))
    chosen = settings(preprocessing={"modality": "bold"}, samples={"target": "trial_type"})
    print_plan(chosen, query(bids), [], 1)
    text = capsys.readouterr().out
    assert "about 28594 voxels" in text
    assert "Labels are exchanged by: subject" in text
