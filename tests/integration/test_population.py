"""Decoding within people: labels exchanged within sites, accuracies by person, and the population."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_xai.cli.run import main
from bids_xai.decoding.design import make_design
from bids_xai.interfaces.chunks import RunChunk
from tests.datasets import QUICK, make_dataset, write_mask

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three people at two sites, leave one run out within each."""
    folder = tmp_path_factory.mktemp("run")
    bids = make_dataset(folder / "bids")
    (bids / "participants.tsv").write_text("participant_id\tsite\nsub-01\tA\nsub-02\tB\nsub-03\tA\n")
    mask = write_mask(folder / "mask.nii.gz")
    words = [bids, folder / "out", "participant", "group", "--mask", mask, "-w", folder / "work", *QUICK]
    words += ["--cv", "run", "--exchange-within", "participants:site", "--skip-bids-validation"]
    assert main([str(word) for word in words]) == 0
    return {"bids": bids, "out": folder / "out", "work": folder / "work"}


def _table(out: Path, name: str) -> pd.DataFrame:
    results = json.loads((out / "group" / "results.json").read_text())
    return pd.read_csv(out / "group" / results["tables"][name], sep="\t", dtype={"subject": str})


def test_rows_carry_the_column_with_its_meaning(finished: dict[str, Path]) -> None:
    out = finished["out"]
    for path in [*out.glob("sub-*/func/*_samples.tsv"), *(out / "group").glob("*_desc-samples_table.tsv")]:
        rows = pd.read_csv(path, sep="\t", dtype={"subject": str})
        assert rows["site"].tolist() == rows["subject"].map({"01": "A", "02": "B", "03": "A"}).tolist()
        assert "exchange-within" in str(json.loads(path.with_suffix(".json").read_text())["site"])
    assert set(_table(out, "samples")["site"]) == {"A", "B"}


def test_people_are_tested_and_the_population_inferred(finished: dict[str, Path]) -> None:
    tests = _table(finished["out"], "subject_tests")
    assert tests["subject"].tolist() == ["01", "02", "03"]
    # A planted effect: nobody's permutations reach it.
    assert (tests["p"] == 1 / 20).all()
    assert (tests["mean"] > tests["null_high"]).all()
    prevalence = _table(finished["out"], "prevalence").set_index("scope")
    assert prevalence.loc["all", "p_global"] == pytest.approx(1 / 20**3)
    assert prevalence.loc["all", "p_majority"] == pytest.approx((0.5 / 20 + 0.5) ** 3)
    assert prevalence.loc["all", "p_mean"] < 0.001
    page = (finished["out"] / "group.html").read_text()
    for words in ("3 of 3 subjects with p ≤ 0.05", "groups of chance", "run, and levels of participants:site",
                  "Allefeld"):  # fmt: skip
        assert words in page


def test_family_wise_p_maps_are_written(finished: dict[str, Path]) -> None:
    results = json.loads((finished["out"] / "group" / "results.json").read_text())
    assert results["no_prevalence"] == ""
    entries = [entry for entry in results["maps"] if entry["stat"] == "pfwer"]
    assert len(entries) == 2 * len(results["methods"])
    for entry in entries:
        assert (finished["out"] / "group" / entry["path"]).exists()


def test_permuted_labels_stay_within_the_column() -> None:
    rows = [
        {"subject": s, "session": "", "task": "x", "run": r, "event": e, "class": "ab"[e % 2], "half": e // 4}
        for s in ("01", "02") for r in ("1", "2") for e in range(8)
    ]  # fmt: skip
    design, _ = make_design(pd.DataFrame(rows), exchange_within="half")
    chunk = RunChunk(stage="null", start=0, stop=20, permute="all")
    labels, _, _ = chunk._draw(design)
    assert len(np.unique(labels, axis=0)) == 20
    for half in (0, 1):
        assert (labels[:, design.blocks == half].sum(axis=1) == 8).all()


@pytest.mark.parametrize(
    ("column", "message"),
    [("participants:scanner", "have no column 'scanner'"), ("class", "another meaning")],
)
def test_a_column_that_the_samples_lack_is_refused(
    finished: dict[str, Path], column: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    call = [finished["bids"], finished["out"], "group", "-w", finished["work"], *QUICK, "--cv", "run"]
    assert main([*map(str, call), "--exchange-within", column]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_missing_column_is_refused_before_anything_is_computed(
    finished: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = [finished["bids"], tmp_path / "out", "participant", "-w", tmp_path / "work", *QUICK]
    assert main([*map(str, call), "--exchange-within", "participants:scanner"]) == 2
    assert "has no column 'scanner'" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_tails_are_fitted_and_said_to_be(finished: dict[str, Path]) -> None:
    call = [finished["bids"], finished["out"], "group", "-w", finished["work"], *QUICK]
    call += ["--n-permutations", "420", "--chunk-size", "210", "--importance", "WX", "--tail-fit", "gpd"]
    assert main([str(word) for word in call]) == 0
    tails = _table(finished["out"], "tails")
    assert (tails["n_voxels_p_few"] >= tails["n_voxels_p_fitted"]).all()
    # Class means of 147 voxels, 21 of which carry the effect.
    assert tails["n_voxels_p_fitted"].sum() > 20
    results = json.loads((finished["out"] / "group" / "results.json").read_text())
    path = next(entry["path"] for entry in results["maps"] if entry["stat"] == "p")
    assert 0 < nb.load(finished["out"] / "group" / path).get_fdata().min() < 1 / 421
    assert "generalised Pareto" in (finished["out"] / "logs" / "CITATION.md").read_text()
    assert main([*map(str, call), "--n-permutations", "79"]) == 2


def test_people_who_share_a_training_set_say_nothing_of_the_population(
    finished: dict[str, Path],
) -> None:
    call = [finished["bids"], finished["out"], "group", "-w", finished["work"], *QUICK]
    assert main([*map(str, call), "--cv", "subject"]) == 0
    results = json.loads((finished["out"] / "group" / "results.json").read_text())
    assert "prevalence" not in results["tables"]
    assert "trained on others" in results["no_prevalence"]
    assert (
        "No inference to the population: the classifier of one person"
        in (finished["out"] / "group.html").read_text()
    )
    assert _table(finished["out"], "subject_tests")["subject"].tolist() == ["01", "02", "03"]
