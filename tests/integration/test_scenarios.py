"""What the paper saw in its simulations: in the tables of the command, and in trainings without permutations.

The published 21 x 100 samples of 28 586 voxels become n samples of V, with V / n, mu^2 n, learning rate x V
and updates / n as published: t values, accuracies and how far a training goes stay the same. Where a
statement is about single classes, mu is doubled: few samples would leave their accuracies to chance.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_xai.attribution.runs import run_repetitions
from bids_xai.cli.scenarios import main
from bids_xai.decoding.basis import training_basis
from bids_xai.decoding.descent import trainer
from bids_xai.decoding.design import make_design
from bids_xai.decoding.softmax import SgdParameters
from bids_xai.inference.recovery import t_test_discoveries
from bids_xai.inference.univariate import one_versus_rest_t
from bids_xai.phantom.scenarios import CLASSES, ScenarioParameters, make_samples, rows_of

pytestmark = pytest.mark.slow

CHANCE = 0.2
README = Path(__file__).resolve().parents[2] / "README.md"
TINY = shlex.split(
    "--subjects 3 --samples 10 --voxels 120 --learning-rate .1 --n-updates 50 --importance W WX "
    "--n-runs 2 --n-permutations 9 --n-null 2 --alpha .2 --nprocs 1 --chunk-size 3"
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the command of the README, in a folder of its own."""
    folder = tmp_path_factory.mktemp("scenarios")
    (command,) = re.findall(
        r"^bids-xai-scenarios ((?:.*\\\n)*.*)", README.read_text(encoding="utf-8"), re.MULTILINE
    )
    words = shlex.split(command.replace("\\\n", " "))
    assert main([str(folder / word) if word.startswith("demo/") else word for word in words]) == 0
    return folder / words[0]


def _table(out: Path, name: str, scenario: str = "2") -> pd.DataFrame:
    return pd.read_csv(out / f"scenario-{scenario}" / f"{name}.tsv", sep="\t")


def _mean_at(out: Path, reproducibility: float) -> pd.DataFrame:
    curves = _table(out, "recovery")
    chosen = (curves["class"] == "mean") & np.isclose(curves["reproducibility"], reproducibility)
    return curves[chosen].set_index("method")


@cache
def _rates(scenario: str, seed: int) -> np.ndarray:
    """Return how often samples of a class (rows) are given to each class, without any permutation."""
    X, labels, subjects = make_samples(ScenarioParameters(scenario, 21, 25, 7150, mu=0.2, seed=seed))
    design, _ = make_design(rows_of(labels, subjects), classes=CLASSES)
    repetitions = run_repetitions(
        X,
        training_basis(X),
        np.stack([design.labels] * 2),
        design.subjects,
        design.folds,
        len(CLASSES),
        seeds=np.random.SeedSequence(seed).spawn(2),
        parameters=SgdParameters(learning_rate=0.02, n_updates=2500, l2=0.0),
        methods=("W",),
        trainer=trainer("cpu", 1),
    )
    confusion = sum(repetition.confusions.sum(axis=0) for repetition in repetitions)
    return np.asarray(confusion / confusion.sum(axis=1, keepdims=True))


def test_accuracy_grows_with_the_size_of_the_pattern() -> None:
    one, two, three, four, five = _rates("2", 0).diagonal()
    assert two > three + 0.1  # V / 5, V / 10
    assert three > max(four, five)  # V / 10, but the same for both
    assert min(four, five) > one + 0.05  # V / 100
    assert one > CHANCE - 0.06


def test_classes_with_the_same_pattern_are_confused_with_each_other_only() -> None:
    rates = _rates("2", 0)
    for own, other in ((3, 4), (4, 3)):
        assert rates[own, other] > CHANCE + 0.1
        assert rates[own, :3].max() < CHANCE - 0.05


def test_classes_of_one_size_are_as_accurate_and_confused_with_those_they_share_voxels_with() -> None:
    rates = _rates("1", 0)
    assert np.ptp(rates.diagonal()) < 0.2
    assert rates.diagonal().min() > CHANCE + 0.1
    sharing = np.mean([rates[c, [c - 1, (c + 1) % 5]].mean() for c in range(5)])
    not_sharing = np.mean([rates[c, [c - 2, (c + 2) % 5]].mean() for c in range(5)])
    assert sharing > not_sharing + 0.05


def test_the_strongest_pattern_is_most_accurate_and_voxels_of_its_own_help_a_class() -> None:
    rates = np.mean([_rates("3", seed).diagonal() for seed in range(3)], axis=0)
    assert rates.argmax() == 1
    assert rates[2] > rates[3] + 0.03
    assert rates.mean() > _rates("2", 0).diagonal().mean() + 0.1


@pytest.mark.parametrize("scenario", ["1", "2"])
def test_next_to_no_voxel_survives_a_t_test(scenario: str) -> None:
    """At the published number of samples and mean; a quarter of the voxels.

    The noise that is added makes a class's variance twice that of the others, which Student's pooled variance
    understates: the t of the pattern spread by 1.2 and not by 1, and one in a thousand may pass.
    """
    parameters = ScenarioParameters(scenario, voxels=7000)
    X, labels, _ = make_samples(parameters)
    t = one_versus_rest_t(X, labels, len(CLASSES))
    found = t_test_discoveries(t, len(labels), 0.05)
    inside = t[parameters.truth]
    assert 0.4 < inside.mean() < 1.0  # visible in a picture, no more
    assert 1.05 < inside.std() < 1.3
    for corrected in ("FDR", "FWER"):
        assert found[corrected].sum() <= 0.005 * parameters.truth.sum()
    assert found["p"].sum() < 0.12 * t.size


def test_weights_are_too_lenient(small: Path) -> None:
    """At one reproducibility, W lets several times as many voxels pass as WX and OD, and more are false."""
    at = _mean_at(small, 0.5)
    false = at["n_voxels"] * at["FDR"]
    for method in ("WX", "OD"):
        assert at.loc["W", "n_voxels"] > 3 * at.loc[method, "n_voxels"]
        assert false["W"] > 3 * false[method]
        assert at.loc["W", "FDR"] > at.loc[method, "FDR"]
    # It takes a higher reproducibility of W to leave no more false voxels than WX and OD leave at .5.
    strict = _mean_at(small, 0.8)
    assert strict.loc["W", "n_voxels"] * strict.loc["W", "FDR"] > max(false["WX"], false["OD"])


def test_wx_and_od_are_alike_and_the_two_rules_of_lrp_lie_on_either_side(small: Path) -> None:
    at = _mean_at(small, 0.5)
    others = at.loc[["WX", "OD", "LRP-W2", "LRP-z"]]
    assert np.ptp(others["accuracy"]) < 0.02
    assert np.ptp(others["FOR"]) < 0.015
    assert 0.6 < at.loc["WX", "n_voxels"] / at.loc["OD", "n_voxels"] < 1.7
    assert abs(at.loc["WX", "FDR"] - at.loc["OD", "FDR"]) < 0.15
    # The squared weights know of the samples no more than the mean output: LRP-W2 goes with W. The z rule
    # divides by sums that come close to zero, and reproduces next to nothing.
    assert at.loc["OD", "n_voxels"] < at.loc["LRP-W2", "n_voxels"] < at.loc["W", "n_voxels"]
    assert at.loc["LRP-z", "n_voxels"] < 0.3 * at.loc["WX", "n_voxels"]


def test_the_analysis_is_the_published_one(small: Path) -> None:
    manifest = json.loads((small / "scenario-2" / "scenario.json").read_text())
    settings = manifest["settings"]
    assert (manifest["permute"], settings["importance_samples"]) == ("all", "all")
    assert manifest["methods"] == ["W", "WX", "OD", "LRP-W2", "LRP-z"]
    assert (manifest["n_subjects"], manifest["n_samples"]) == (10, 300)
    assert settings["training"]["batch_size"] == 20
    tests = _table(small, "accuracy_tests").set_index("scope")
    assert tests.loc["all", "mean"] > tests.loc["all", "null_max"]
    truth = np.load(small / "scenario-2" / "truth.npy")
    np.testing.assert_array_equal(truth, ScenarioParameters("2", voxels=4100).truth)


def test_the_page_shows_every_figure(small: Path) -> None:
    page = (small / "scenarios.html").read_text(encoding="utf-8")
    names = {path.stem for path in (small / "figures").iterdir()}
    assert names == {f"scenario-2-{name}" for name in ("accuracy", "confusion", "maps", "curves", "recovery")}
    assert page.count("data:image") == len(names)
    assert not re.search(r'(?:src|href)="(?!data:|#|https://doi)', page)


def test_a_finished_run_is_not_run_again_and_reports_can_be_made_again(tmp_path: Path) -> None:
    words = [str(tmp_path / "out"), "--scenario", "1", *TINY, "-w", str(tmp_path / "work")]
    assert main(words) == 0
    chunks = sorted((tmp_path / "work").rglob("chunk.npz"))
    assert len(chunks) == 3 + 1 + 1
    before = {path: path.stat().st_mtime_ns for path in chunks}
    tables = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.tsv")}
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in chunks} == before
    assert {path: path.read_bytes() for path in tables} == tables
    page = (tmp_path / "out" / "scenarios.html").read_bytes()
    (tmp_path / "out" / "scenarios.html").unlink()
    assert main([str(tmp_path / "out"), "--reports-only"]) == 0
    assert (tmp_path / "out" / "scenarios.html").read_bytes() == page


def test_a_base_gives_the_number_of_voxels(tmp_path: Path) -> None:
    base = tmp_path / "base.npy"
    np.save(base, np.random.default_rng(0).standard_normal((40, 130)))
    tiny = [word for word in TINY if word not in ("--voxels", "120")]
    words = [
        str(tmp_path / "out"),
        "--scenario",
        "2",
        *tiny,
        "-w",
        str(tmp_path / "work"),
        "--base",
        str(base),
    ]
    assert main(words) == 0
    assert np.load(tmp_path / "out" / "scenario-2" / "truth.npy").shape == (5, 130)
    data = np.load(next((tmp_path / "work").rglob("data.npy")))
    outside = ~ScenarioParameters("2", voxels=130).truth.any(axis=0)
    assert np.isin(data[:, outside], np.load(base).astype(np.float32)).all()


def test_the_regularised_variant_decays(tmp_path: Path) -> None:
    tiny = [".005" if word == ".1" else word for word in TINY]
    assert main([str(tmp_path / "out"), "--scenario", "3-l2", *tiny, "-w", str(tmp_path / "work")]) == 0
    manifest = json.loads((tmp_path / "out" / "scenario-3-l2" / "scenario.json").read_text())
    assert manifest["settings"]["training"]["l2"] == 100


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--samples", "7"], "a multiple of 5"),
        (["--subjects", "1"], "at least 2"),
        (["--base", "absent.npy"], "absent.npy cannot be read"),
        (["--n-runs", "0"], "at least 1"),
        (["--l2", "300"], "a product below 1"),
        (["--reports-only"], "holds no results of scenarios"),
    ],
)
def test_wrong_input_is_named_before_anything_is_written(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_help_starts_without_the_libraries_of_a_run() -> None:
    code = (
        "import sys; from bids_xai.cli.scenarios import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'pandas', 'scipy', 'matplotlib', 'nipype', 'torch', 'numba'} & set(sys.modules)\n"
        "sys.exit(' '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "28586" in done.stdout
