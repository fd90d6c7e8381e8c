"""Networks from the command line: from a phantom with lesions to heatmaps, scores and reports."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_xai.cli.network_plan import plan_networks
from bids_xai.cli.parser import parse
from bids_xai.cli.phantom import main as phantom
from bids_xai.cli.run import main
from bids_xai.cli.stages import _check_input
from bids_xai.decoding.design import Design
from bids_xai.models.build import build_network, parameter_count
from bids_xai.settings import load_preset, resolve
from tests.integration.test_command_line import _checksums, _validate

pytestmark = pytest.mark.slow

N_SUBJECTS = 12
MODEL = "tests.integration.small_network:small"
IMAGES = (
    *("--modality", "T1w", "--target", "participants:group", "--classes", "control", "patient"),
    *("--preproc", "none", "--space", "MNI152NLin2009aSym", "--resolution", "6"),
    "--skip-bids-validation",
)
# Nodes run in this process, where nothing is said of processes: starting others takes longer than the nodes.
HERE = ("--use-plugin", str(Path(__file__).with_name("linear.toml")))
TRAINING = (
    "--model",
    MODEL,
    "--cv",
    "kfold",
    "--n-folds",
    "2",
    "--max-epochs",
    "6",
    "--learning-rate",
    ".003",
)
EXPLAIN = (
    *("--explain", "lrp-alpha-beta:beta=0.5", "gradient-x-input", "guided-backprop", "grad-cam"),
    *("occlusion:box=3x3x3,stride=3", "region-occlusion", "--atlas", "aal"),
)
METHODS = [
    "LRPAlphaBetaBeta0p5", "GradientXInput", "GuidedBackprop", "GradCAM", "OcclusionBox3x3x3Stride3",
    "RegionOcclusion",
]  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lesions") / "bids"
    words = [folder, "--kind", "lesions", "--subjects", N_SUBJECTS, "--resolution", 6, "--incidental", 0]
    assert phantom([str(word) for word in words]) == 0
    return folder


@pytest.fixture(scope="module")
def samples(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an output folder with the participant level in it."""
    out = tmp_path_factory.mktemp("samples") / "out"
    words = [
        dataset,
        out,
        "participant",
        *IMAGES,
        *HERE,
        "--mask",
        _brain(dataset),
        "-w",
        out.parent / "work",
    ]
    assert main([str(word) for word in words]) == 0
    return out


def _brain(dataset: Path) -> Path:
    (path,) = (dataset / "derivatives" / "truth").glob("tpl-*/*desc-brain_mask.nii.gz")
    return path


@pytest.fixture(scope="module")
def finished(dataset: Path, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("networks") / "out"
    shutil.copytree(samples, out)
    truth = dataset / "derivatives" / "truth"
    before = _checksums(dataset)
    words = [
        dataset, out, "group", *IMAGES, *HERE, *TRAINING, *EXPLAIN, "--n-runs", 2, "--n-permutations", 3,
        "--alpha", ".25",
        "--lesion-masks", truth, "--lesion-label", "evidence", "--biomarker", "lesion_volume",
        "--baseline", "logistic-regression", "--stratify", "sex", "-w", out.parent / "work",
    ]  # fmt: skip
    assert main([str(word) for word in words]) == 0
    assert _checksums(dataset) == before, "the input dataset is never written to"
    return out


def _manifest(out: Path) -> dict:
    return json.loads((out / "group" / "results.json").read_text())


def _table(out: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(out / "group" / _manifest(out)["tables"][name], sep="\t", dtype={"subject": str})


def test_heatmaps_lie_in_the_mask_that_was_given(dataset: Path, finished: Path) -> None:
    brain = np.asarray(nb.load(_brain(dataset)).dataobj) > 0
    mask = np.asarray(nb.load(finished / "group" / _manifest(finished)["mask"]).dataobj) > 0
    assert not (mask & ~brain).any()
    assert mask.sum() > 0.99 * brain.sum()
    heatmap = nb.load(finished / _manifest(finished)["heatmaps"][0]["path"]).get_fdata()
    assert not heatmap[~mask].any()


def test_the_output_is_valid_bids_and_every_file_of_the_manifest_is_there(finished: Path) -> None:
    _validate(finished)
    manifest = _manifest(finished)
    assert manifest["methods"] == METHODS
    for entry in manifest["maps"]:
        assert (finished / "group" / entry["path"]).is_file()
    for name, path in manifest["tables"].items():
        for own in path if name == "regions" else [path]:
            sidecar = json.loads((finished / "group" / own).with_suffix(".json").read_text())
            columns = pd.read_csv(finished / "group" / own, sep="\t").columns
            assert set(sidecar) == set(columns), name


def test_everybody_is_left_out_once_and_has_a_heatmap_of_every_method_on_the_own_image(
    finished: Path,
) -> None:
    heatmaps = pd.DataFrame(_manifest(finished)["heatmaps"])
    assert len(heatmaps) == N_SUBJECTS * len(METHODS)
    assert heatmaps.groupby("method")["subject"].nunique().eq(N_SUBJECTS).all()
    assert set(heatmaps["class"]) == {"patient"}, "of two classes the second is explained for everyone"
    for row in heatmaps.sample(8, random_state=0).to_dict("records"):
        image, own = nb.load(finished / row["path"]), nb.load(finished / row["image"])
        assert image.shape == own.shape[:3]
        np.testing.assert_allclose(image.affine, own.affine)
        sidecar = json.loads((finished / row["path"].replace(".nii.gz", ".json")).read_text())
        assert sidecar["TrueClass"] == row["true"]
        assert "Source:" in sidecar["Method"]["formula"]


def test_mean_heatmaps_are_the_means_of_those_of_the_people(finished: Path) -> None:
    manifest = _manifest(finished)
    heatmaps = pd.DataFrame(manifest["heatmaps"])
    for method in METHODS:
        own = heatmaps[(heatmaps["method"] == method) & (heatmaps["true"] == "patient")]
        expected = np.mean([nb.load(finished / path).get_fdata() for path in own["path"]], axis=0)
        (entry,) = [
            entry
            for entry in manifest["maps"]
            if (entry["method"], entry["stat"], entry["group"]) == (method, "mean", "patient")
        ]
        found = nb.load(finished / "group" / entry["path"]).get_fdata()
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_scores_agree_with_the_predictions(finished: Path) -> None:
    predictions, scores = _table(finished, "predictions"), _table(finished, "scores")
    for run, own in predictions.groupby("run"):
        assert len(own) == N_SUBJECTS
        recalls = [(part["true"] == part["predicted"]).mean() for _, part in own.groupby("true")]
        chosen = scores[
            (scores["run"] == run)
            & (scores["metric"] == "balanced_accuracy")
            & (scores["model"] == "network")
        ]
        assert chosen["value"].item() == pytest.approx(np.mean(recalls))
    assert set(scores["model"]) == {"network", "logistic-regression"}
    tests = _table(finished, "score_tests").set_index(["metric", "class"])
    assert tests.loc[("balanced_accuracy", "all"), "n_permutations"] == 3
    assert tests["p"].dropna().ge(0.25).all()


def test_p_maps_are_counted_over_the_permutations(finished: Path) -> None:
    manifest = _manifest(finished)
    entries = [entry for entry in manifest["maps"] if entry["stat"] == "p"]
    assert len(entries) == 2 * len(METHODS)
    for entry in entries[:3]:
        values = np.unique(nb.load(finished / "group" / entry["path"]).get_fdata().round(4))
        assert set(values) <= {0.25, 0.5, 0.75, 1.0}


def test_shares_are_what_is_tested_and_every_map_says_what_it_holds(finished: Path) -> None:
    manifest = _manifest(finished)
    assert (manifest["map_values"], manifest["shown_values"]) == ("share", "share")
    mask = np.asarray(nb.load(finished / "group" / manifest["mask"]).dataobj) > 0
    found = {(own["method"], own["stat"], own["group"]): own["path"] for own in manifest["maps"]}

    def values(*key: str) -> np.ndarray:
        return nb.load(finished / "group" / found[key]).get_fdata()[mask]

    for method in METHODS:
        share = values(method, "share", "patient")
        assert share.min() >= 0
        silent = manifest["n_silent"][method]
        # What is 0 everywhere has no shares, and counts as 0.
        assert share.sum() == pytest.approx(1, abs=1e-4 + silent["silent"] / N_SUBJECTS)
        assert np.abs(values(method, "mean", "patient")).sum() <= share.sum() * (1 + 1e-4)
        passed = values(method, "p", "patient") <= manifest["report_alpha"]
        np.testing.assert_allclose(values(method, "thresholded", "patient"), share * passed)
        info = manifest["method_info"][method]
        assert (info["tested"], info["shown"], info["scale_has_meaning"]) == ("share", "share", False)
        sidecar = finished / "group" / found[method, "share", "patient"].replace(".nii.gz", ".json")
        assert "|R| / sum |R|" in json.loads(sidecar.read_text())["Values"]
    assert (
        "Every heatmap was divided by the sum of its absolute values" in (finished / "group.html").read_text()
    )


def test_raw_values_are_tested_where_asked_for_and_warned_of(
    dataset: Path, samples: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(samples, out)
    words = [
        dataset, out, "group", *IMAGES, *HERE, *TRAINING, "--max-epochs", "1", "--explain", "saliency",
        "--no-trust", "--n-permutations", "1", "--alpha", ".5", "--map-values", "raw",
        "-w", tmp_path / "work",
    ]  # fmt: skip
    assert main([str(word) for word in words]) == 0
    manifest = _manifest(out)
    assert (
        manifest["method_info"]["Saliency"]["tested"] == manifest["method_info"]["Saliency"]["shown"] == "raw"
    )
    assert "share" not in {own["stat"] for own in manifest["maps"]}
    (warned,) = [text for text in manifest["warnings"] if "--map-values raw" in text]
    assert warned.startswith("Saliency: ")
    page = (out / "group.html").read_text()
    assert "averaged, compared and tested as they are (--map-values raw)" in page
    assert "Do not read these p-values as evidence of where" in page


def test_heatmaps_are_judged_against_lesions_parameters_and_deletion(finished: Path) -> None:
    localisation = _table(finished, "localisation")
    assert set(localisation["method"]) == set(METHODS)
    patients = localisation[localisation["true"] == "patient"]
    assert patients["lesion_voxels"].gt(0).all()
    assert patients["auc"].between(0, 1).all()
    randomization = _table(finished, "randomization")
    assert set(randomization["method"]) == set(METHODS)
    layers = randomization.groupby("method")["layer"].unique().map(list)
    assert layers.map(lambda own: str(own[0])).eq("8").all(), "the last layer comes first"
    assert set(_table(finished, "deletion")["method"]) == {*METHODS, "random"}
    conservation = _table(finished, "conservation").set_index("method")
    assert conservation.loc["GuidedBackprop", "residual_mean"].isna().all()
    assert conservation.loc["GradientXInput", "residual_mean"].notna().all()


def test_regions_trainings_and_the_biomarker_are_compared(finished: Path) -> None:
    manifest = _manifest(finished)
    regions = pd.read_csv(finished / "group" / manifest["tables"]["regions"][0], sep="\t")
    one = regions[(regions["method"] == METHODS[0]) & (regions["group"] == "patient")]
    assert sorted(one["rank_sum"]) == list(range(1, len(one) + 1))
    np.testing.assert_allclose(one["density"], one["sum"] / one["n_voxels"])
    assert set(_table(finished, "biomarker")["n"]) == {N_SUBJECTS}
    assert _table(finished, "overlap")["mean_overlap"].between(0, 1).all()
    pairs = _table(finished, "method_overlap")
    assert len(pairs) == 3 * len(METHODS) * (len(METHODS) - 1) / 2
    assert pairs["overlap"].dropna().between(0, 1).all()
    assert (_table(finished, "distances")["distance"] > 0).all()


def test_reports_show_the_heatmaps(finished: Path) -> None:
    page = (finished / "group.html").read_text()
    assert "LRP alpha-beta (beta = 0.5)" in page
    assert "Overlap between explanations" in page
    assert "Grad-CAM" in (finished / "sub-01.html").read_text()
    assert "Adebayo" in (finished / "logs" / "CITATION.bib").read_text()


def test_the_same_command_gives_the_same_bits_with_one_process_and_after_a_kill(
    dataset: Path, samples: Path, tmp_path: Path
) -> None:
    short = (
        *TRAINING,
        "--max-epochs",
        "4",
        "--explain",
        "gradient-x-input",
        "--no-trust",
        "--n-permutations",
        "1",
    )

    def words(name: str, processes: int) -> list[str]:
        out = tmp_path / name
        if not out.exists():
            shutil.copytree(samples, out)
        own = [dataset, out, "group", *IMAGES, *short, "--nprocs", processes, "-w", tmp_path / f"work-{name}"]
        return [str(word) for word in own]

    assert main(words("two", 2)) == 0
    assert main(words("one", 1)) == 0
    command = [sys.executable, "-m", "bids_xai.cli.run", *words("killed", 1)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    states = tmp_path / "work-killed"
    deadline = time.monotonic() + 300
    while not list(states.rglob("training.pt")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(states.rglob("training.pt")), "it was killed within a training"
    assert not (tmp_path / "killed" / "group.html").exists()
    assert main(words("killed", 1)) == 0
    expected = [_images(tmp_path / name) for name in ("two", "one", "killed")]
    assert expected[0]
    assert expected[0] == expected[1] == expected[2]


def _images(out: Path) -> dict[str, str]:
    found = _checksums(out / "group")
    return {
        name: value for name, value in found.items() if name.endswith((".nii.gz", "predictions_table.tsv"))
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "boehle2018"], "did you mean 'boehle2019'"),
        (["--model", "boehle2019"], "too small for boehle2019"),
        (["--model", "tests.integration.small_network:three"], "(?s)three.*3.*2"),
        (["--model", "tests.integration.small_network:nothing"], "nothing"),
        (["--model-options", "wdth=3"], "did you mean 'width'"),
        (["--explain", "lrp-alfa-beta"], "did you mean 'lrp-alpha-beta'"),
        (["--explain", "lrp-epsilon:epsilom=1"], "did you mean 'epsilon'"),
        (["--explain", "region-occlusion"], "--atlas"),
        (["--explain-class", "sick"], "(?s)sick.*control, patient"),
        (["--stratify", "gender"], "(?s)participants.tsv has no column 'gender'"),
        (["--lesion-masks", "."], "label-lesion_mask"),
        (["--pretrained", "nothing.safetensors"], "nothing"),
        (["--classes", "control"], "(?s)Classes? .*control"),
        (["--cv", "subject"], "--n-folds with --cv subject"),
        (["--similarity"], "three classes or more"),
        (["--strongest-positions", "5"], "--explain occlusion"),
    ],
)
def test_bad_input_is_refused_before_anything_is_computed(
    dataset: Path,
    samples: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    before = _checksums(samples)
    arguments = [
        str(dataset),
        str(samples),
        "group",
        *IMAGES,
        *TRAINING,
        *words,
        "-w",
        str(tmp_path / "work"),
    ]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert _checksums(samples) == before, "nothing is half-written"
    assert not (tmp_path / "work").exists()


def test_the_dry_run_says_what_would_be_trained(
    dataset: Path, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(dataset), str(samples), "group", *IMAGES, *TRAINING, "--n-permutations", "5", "--dry-run"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "Trainings: 12 (1 on the true labels, 5 permuted; times 2 folds)" in printed
    assert "Smallest p that this design can reach: 0.167" in printed
    assert "Time of the trainings" in printed


def test_a_trained_network_starts_another_and_an_altered_or_foreign_one_is_refused(
    dataset: Path, samples: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = finished / "group" / _manifest(finished)["networks"][0]
    card = weights.with_suffix(".json")
    shutil.copytree(samples, tmp_path / "out")

    def run(*words: str, folder: Path) -> int:
        arguments = [dataset, tmp_path / "out", "group", *IMAGES, *HERE, *TRAINING, *words, "-w", folder]
        return main([str(word) for word in arguments])

    short = ("--max-epochs", "1", "--explain", "saliency", "--no-trust")
    searched = ("--random-search", "2", "--search-batch-size", "2", "4", "--search-patience", "1")
    pretrained = (
        "--pretrained",
        str(weights),
        "--visualise",
        "0:1",
        "--explain-layer",
        "3",
        "--explain-filter",
        "2",
    )
    assert run(*short, *searched, *pretrained, folder=tmp_path / "work") == 0
    out = tmp_path / "out"
    search = _table(out, "search")
    assert search.groupby("fold")["chosen"].sum().eq(1).all()
    (entry,) = [entry for entry in _manifest(out)["maps"] if entry["stat"] == "filter"]
    image = nb.load(out / "group" / entry["path"]).get_fdata()
    assert image.std() > 0
    assert json.loads(card.read_text())["classes"] == ["control", "patient"]

    capsys.readouterr()
    altered = tmp_path / "altered.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    altered.write_bytes(content)
    shutil.copy(card, altered.with_suffix(".json"))
    assert run("--pretrained", str(altered), folder=tmp_path / "w2") == 2
    assert "was altered" in capsys.readouterr().err
    foreign = {**json.loads(card.read_text()), "shape": [30, 40, 30]}
    altered.write_bytes(weights.read_bytes())
    altered.with_suffix(".json").write_text(json.dumps(foreign))
    assert run("--pretrained", str(altered), folder=tmp_path / "w2") == 2
    assert "(30, 40, 30)" in capsys.readouterr().err
    assert not (tmp_path / "w2").exists()


def test_a_volume_with_a_hole_and_a_class_of_one_person_are_refused(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bids = tmp_path / "bids"
    shutil.copytree(dataset, bids)
    words = [
        str(bids),
        str(tmp_path / "out"),
        "participant",
        "group",
        *IMAGES,
        *TRAINING,
        "-w",
        str(tmp_path / "w"),
    ]
    table = pd.read_csv(bids / "participants.tsv", sep="\t")
    table["lone"] = ["a", *["b"] * (len(table) - 1)]
    table.to_csv(bids / "participants.tsv", sep="\t", index=False)
    assert main([*words, "--target", "participants:lone", "--classes", "a", "b"]) == 2
    assert "Too few samples: a has 1 in all images" in capsys.readouterr().err
    path = bids / "sub-02" / "anat" / "sub-02_T1w.nii.gz"
    image = nb.load(path)
    data = image.get_fdata(dtype=np.float32)
    data[tuple(size // 2 for size in data.shape)] = np.nan
    nb.save(nb.Nifti1Image(data, image.affine), path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "sub-02_T1w.nii.gz" in error
    assert "not finite" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "preset", ["boehle2019", "eitel2019", "eitel2019-robustness", "klingenberg2021", "eitel2021-pif"]
)
def test_published_presets_plan_what_was_published(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], preset: str
) -> None:
    settings = resolve(load_preset(preset))
    words = [
        dataset, tmp_path / "out", "participant", "group", "--preset", preset, "--modality", "T1w",
        "--target", "participants:group", "--classes", "control", "patient", "--preproc", "ants",
        "--space", "MNI152NLin2009cAsym", "--skip-bids-validation", "-w", tmp_path / "work", "--mem-gb", 64,
    ]  # fmt: skip
    if settings.preprocessing.registration_study:
        words += ["--no-registration-study", "--undersample", "sex", "--stratify", "sex"]
    plan, shape = _plan([str(word) for word in words])
    n_parameters = {"boehle2019": 728_898, "eitel2019": 333_889}.get(settings.decoding.model)
    network = build_network(settings.decoding.model, shape, 2)
    if shape in ((193, 229, 193), (96, 114, 96)):
        assert n_parameters in (None, parameter_count(network))
    n_splits = settings.decoding.n_folds
    assert len(plan.folds) == n_splits
    assert not (tmp_path / "out").exists()


def _plan(words: list[str]) -> tuple[Design, tuple[int, ...]]:
    """Return the design and the shape of the volumes that a command would train on."""
    request, subjects, found, _ = _check_input(parse(words))
    design, _, shape = plan_networks(request.settings, subjects, found, request.bids_dir)
    return design, shape


def test_where_nobody_is_classified_well_enough_nothing_is_explained_and_the_report_says_so(
    dataset: Path, samples: Path, tmp_path: Path
) -> None:
    shutil.copytree(samples, tmp_path / "out")
    words = [
        dataset, tmp_path / "out", "group", *IMAGES, *HERE, *TRAINING, "--max-epochs", "1", "--explain",
        "saliency", "occlusion:box=4x4x4,stride=4", "--explain-above", "1", "--strongest-positions", "9",
        "--atlas", "aal", "--n-permutations", "1", "-w", tmp_path / "work",
    ]  # fmt: skip
    assert main([str(word) for word in words]) == 0
    manifest = _manifest(tmp_path / "out")
    assert manifest["heatmaps"] == []
    *unexplained, of_atlas = manifest["warnings"]
    assert len(unexplained) == 2
    assert "aal is in MNIColin27" in of_atlas
    page = (tmp_path / "out" / "group.html").read_text()
    assert "No held-out sample of class control is explained" in page
