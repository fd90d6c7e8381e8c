"""The plan of an analysis: its rows, design, exchange of labels and size, before anything is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bids_xai.bids.query import query
from bids_xai.cli.plan import plan_group, print_plan, with_split
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
    design, rows = plan_group(settings(), subjects, [], visits)
    assert design.classes == ("control", "patient")
    assert len(rows) == 16
    # By default four folds, each with a patient and a control, dealt five times.
    assert [len(set(design.subjects[fold.test])) for fold in design.folds] == [2] * 20
    print_plan(settings(), subjects, [], visits, 1)
    text = capsys.readouterr().out
    assert "Labels are exchanged by: between" in text
    # 8 people, 4 of a class: 70 relabelings, and 19 permutations.
    assert "Smallest p that this design can reach: 0.05" in text
    assert "Samples: 16 of about 28594 voxels, 2 classes" in text
    assert "cannot be reached" not in text
    assert "Cross-validation: kfold, 4 folds, dealt 5 times" in text
    assert "A permutation changes 50 % of the labels on average" in text
    assert "Warning" not in text
    assert with_split(settings(), design).decoding.cv == "kfold"
    assert with_split(settings(), design).decoding.n_repeats == 5


def test_leaving_one_of_a_group_out_needs_asking_for_and_is_warned_of(
    visits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subjects = query(visits, modality="T1w", target="group")
    print_plan(settings(decoding={"cv": "subject"}), subjects, [], visits, 1)
    text = capsys.readouterr().out
    assert "Cross-validation: subject, 8 folds" in text
    assert "Warning: Classes are of whole participants, and --cv subject" in text


def test_a_design_of_few_relabelings_says_so(visits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subjects = query(visits, modality="T1w", target="group")
    kept = [item for item in subjects if item.subject in ("01", "02", "03", "04")]
    few = settings(decoding={"cv": "kfold", "n_folds": 2, "n_repeats": 1}, inference={"n_permutations": 99})
    design, _ = plan_group(few, kept, [], visits)
    assert [np.bincount(design.labels[fold.test]).tolist() for fold in design.folds] == [[2, 2]] * 2
    print_plan(few, kept, [], visits, 1)
    text = capsys.readouterr().out
    # Two of four people: six relabelings.
    assert "Smallest p that this design can reach: 0.167" in text
    assert "alpha 0.05 cannot be reached: the labels of this design" in text


def test_models_are_counted_with_and_without_stopping(
    visits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subjects = query(visits, modality="T1w", target="group")
    print_plan(settings(), subjects, [], visits, 1)
    assert "Models: 460 (2 on the true labels, 19 permuted, 2 of the second set" in capsys.readouterr().out
    print_plan(settings(inference={"stop_after_exceedances": 5}), subjects, [], visits, 1)
    assert "Models: at most 500 (2 on the true labels, twice, 19 permuted" in capsys.readouterr().out


def test_states_within_people_are_exchanged_within_them(visits: Path) -> None:
    subjects = query(visits, modality="T1w", target="sessions:state")
    within = settings(samples={"target": "sessions:state"}, inference={"permute": "subject"})
    design, _ = plan_group(within, subjects, [], visits)
    assert design.classes == ("early", "late")
    with pytest.raises(InputError, match=r"one person belong to different classes"):
        plan_group(
            settings(samples={"target": "sessions:state"}, inference={"permute": "between"}),
            subjects,
            [],
            visits,
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
        ({"decoding": {"cv": "kfold", "n_folds": 5}}, r"4 subjects of the smallest class"),
    ],
)
def test_designs_that_leak_or_exchange_nothing(visits: Path, sections: dict, message: str) -> None:
    subjects = query(visits, modality="T1w", target="group")
    with pytest.raises(InputError, match=message):
        plan_group(settings(**sections), subjects, [], visits)


def test_runs_that_an_engine_registers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bids = make_dataset(tmp_path / "bids", n_subjects=3)
    for folder in bids.glob("sub-*"):
        write_head(folder / "anat" / f"{folder.name}_T1w.nii.gz", np.random.default_rng(0))
    chosen = settings(preprocessing={"modality": "bold"}, samples={"target": "trial_type"})
    print_plan(chosen, query(bids), [], bids, 1)
    text = capsys.readouterr().out
    assert "about 28594 voxels" in text
    assert "Labels are exchanged by: run" in text


def test_blocks_are_planned_with_and_limit_the_smallest_p(
    visits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subjects = query(visits, modality="T1w", target="group")
    lines = (visits / "participants.tsv").read_text().splitlines()
    sites = ["site", *("AABBAABB")]
    text = "\n".join(f"{line}\t{site}" for line, site in zip(lines, sites, strict=True))
    (visits / "participants.tsv").write_text(text + "\n")
    within = settings(inference={"exchange_within": "participants:site", "n_permutations": 99})
    print_plan(within, subjects, [], visits, 1)
    out = capsys.readouterr().out
    assert "exchanged by: between, within each level of participants:site" in out
    # Two patients and two controls at each of two sites: 6 x 6 relabelings.
    assert "Smallest p that this design can reach: 0.0278" in out
    with pytest.raises(InputError, match="nothing can be exchanged"):
        plan_group(settings(inference={"exchange_within": "group"}), subjects, [], visits)
    with pytest.raises(InputError, match="has no column 'scanner'"):
        plan_group(settings(inference={"exchange_within": "scanner"}), subjects, [], visits)


def test_tails_of_too_few_permutations_are_refused(visits: Path) -> None:
    subjects = query(visits, modality="T1w", target="group")
    with pytest.raises(InputError, match=r"19 permutations(.|\n)*raise --n-permutations"):
        plan_group(settings(inference={"tail_fit": "gpd"}), subjects, [], visits)
    plan_group(settings(inference={"tail_fit": "gpd", "n_permutations": 450}), subjects, [], visits)
