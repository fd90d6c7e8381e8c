"""A small output folder as the group level writes it, and reading it back."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from bids_xai.bids.columns import TABLE_COLUMNS
from bids_xai.errors import InputError
from bids_xai.reports.results import load_results, write_whole
from bids_xai.tables import read_frame
from tests.written import injected, injected_table

METHODS = ("W", "WX", "OD", "LRP-W2", "LRP-z")
NAMES = (
    "face",
    "house",
    "tool",
    "animal",
    "word",
    "scene",
    "body",
    "object",
    "chair",
    "shoe",
    "cat",
    "bottle",
)
ALPHAS = (0.001, 0.01, 0.05)


def brain(voxel=8.0):
    """Return an ellipsoid mask and a T1w-like background in template space."""
    shape = (int(160 / voxel), int(192 / voxel), int(152 / voxel))
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = [-80 + voxel / 2, -112 + voxel / 2, -66 + voxel / 2]
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    radius = np.sqrt((grid**2).sum(axis=0))
    return (
        nb.Nifti1Image((radius < 0.9).astype(np.uint8), affine),
        nb.Nifti1Image((100 * (radius < 1) * (1.2 - radius)).astype(np.float32), affine),
    )


def single_slice():
    """Return a native mask of one axial slice with anisotropic voxels, radiological order."""
    affine = np.diag([-3.1, 3.75, 3.75, 1.0])
    affine[:2, 3] = [60.45, -35.6]
    data = np.zeros((40, 20, 1), np.uint8)
    data[4:36, 3:18] = 1
    return nb.Nifti1Image(data, affine)


def make_output(
    out,
    *,
    n_classes=3,
    methods=METHODS,
    mask=None,
    background=None,
    n_runs=20,
    n_permutations=200,
    n_null=20,
    survivors=True,
    atlas=True,
    prevalence=False,
    seed=0,
):
    """Write ``out/group`` as the contract of the group level says; return ``out``."""
    rng = np.random.default_rng(seed)
    if mask is None:
        mask, background = brain()
    writer = _Writer(out / "group", rng, mask, list(NAMES[:n_classes]), list(methods))
    writer.n_runs, writer.n_permutations, writer.n_null = n_runs, n_permutations, n_null
    writer.survivors = survivors
    writer.maps()
    writer.tables(atlas=atlas, prevalence=prevalence)
    writer.manifest(background)
    return out


class _Writer:
    n_runs = n_permutations = n_null = 0
    survivors = True

    def __init__(self, folder, rng, mask, classes, methods):
        self.folder, self.rng, self.mask, self.classes, self.methods = folder, rng, mask, classes, methods
        self.inside = np.asarray(mask.dataobj) > 0
        self.entries, self.names, self.thresholds, self.curves = [], {}, [], []
        (folder / "maps").mkdir(parents=True)

    def save(self, values, name, class_=None, method=None, stat_="mean", alpha=None):
        path = f"maps/{name}.nii.gz"
        data = np.where(self.inside, values, 0).astype(np.float32)
        nb.Nifti1Image(data, self.mask.affine).to_filename(self.folder / path)
        if stat_ is not None:
            self.entries.append(
                {"class": class_, "method": method, "stat": stat_, "alpha": alpha, "path": path}
            )
        return path

    def table(self, name, rows):
        path = f"{name}_table.tsv"
        known = {key.replace("_", ""): key for key in TABLE_COLUMNS}[name]
        injected_table(known, pd.DataFrame(rows).columns, of_networks=False)
        pd.DataFrame(rows).to_csv(self.folder / path, sep="\t", index=False, na_rep="n/a")
        return path

    def smooth(self, sigma=1.5):
        noise = gaussian_filter(self.rng.standard_normal(self.inside.shape), sigma)
        return noise / max(noise.std(), 1e-9)

    def maps(self):
        null_level = 0.25 if self.n_null else np.nan
        for number, class_ in enumerate(self.classes):
            pattern = self.smooth()
            strengths = []
            for method in self.methods:
                mean = 0.01 * (pattern + 0.7 * self.smooth(0.8))
                mean = np.abs(mean) if method == "LRP-W2" else mean
                strength = (
                    1 / (1 + np.exp(-(mean * 100 - 1.8) * 3)) if self.survivors else np.zeros_like(mean)
                )
                rate = self.rng.binomial(self.n_runs, strength) / self.n_runs
                strengths.append(rate)
                code = f"class-{class_}_method-{method.replace('-', '')}"
                self.save(mean, f"{code}_stat-mean", class_, method)
                strongest = (mean == mean[self.inside].max()) & self.survivors
                self.save(np.where(strongest, 0.004, 1), f"{code}_stat-pfwer", class_, method, "pfwer")
                strong = (rate > 0.8) & self.survivors
                self.save(np.where(strong, 0.004, 1), f"{code}_stat-q", class_, method, "q")
                for alpha in ALPHAS:
                    passes = (rate > 0.5) & self.survivors & (alpha > 0.001)
                    self.save(
                        mean * passes, f"{code}_stat-thr_alpha-{alpha}", class_, method, "thresholded", alpha
                    )
                    self.save(
                        rate, f"{code}_stat-rep_alpha-{alpha}", class_, method, "reproducibility", alpha
                    )
                    self._counts(class_, method, alpha, passes, rate, null_level)
            t = pattern * 1.2 + self.smooth(0.8)
            agree = sum(rate > 0.5 for rate in strengths)
            self.save(t, f"class-{class_}_stat-t", class_, "t", "t")
            self.save(agree, f"class-{class_}_stat-overlap", class_, "all", "overlap", 0.01)
            self.save(
                agree * (np.abs(t) < 1), f"class-{class_}_stat-low", class_, "all", "lowunivariate", 0.01
            )
            if number == 0:
                self.save(np.abs(self.smooth()) * 3, "stat-F", None, "F", "F")

    def _counts(self, class_, method, alpha, passes, rate, null_level):
        passes, rate = passes[self.inside], rate[self.inside]
        finite = self.survivors and (self.n_permutations + 1) * alpha >= 1
        self.thresholds.append({
            "method": method, "class": class_, "alpha": alpha,
            "threshold_median": 0.0123 if finite else np.inf, "fwer_threshold": 0.04 if finite else np.inf,
            "reproducibility_threshold": null_level, "n_voxels_chance": alpha * len(passes),
            "n_voxels_p": int(passes.sum()), "n_voxels_fwer": 3,
            "n_voxels_fdr": 0, "n_voxels_reproducible": int((rate > np.nan_to_num(null_level)).sum()),
        })  # fmt: skip
        for level in range(self.n_runs + 1):
            fraction = level / self.n_runs
            row = {"method": method, "class": class_, "alpha": alpha, "reproducibility": fraction}
            self.curves.append({"kind": "real", **row, "n_voxels": int((rate >= fraction).sum())})
            if self.n_null:
                n = int(rate.size * np.exp(-30 * fraction)) if fraction <= null_level else 0
                self.curves.append({"kind": "null", **row, "n_voxels": n})

    def _people(self, chance):
        return [
            {
                "subject": name, "chance": chance, "mean": chance + gain, "null_mean": chance,
                "null_sd": 0.05, "sd": 0.01 if self.n_runs > 1 else np.nan, "null_low": chance - 0.1,
                "null_max": chance + 0.2, "null_high": chance + 0.1,
                "p": 1 / (1 + self.n_permutations) if gain > 0.1 else 0.4,
                "p_by": "counted", "n_permutations": self.n_permutations,
            }
            for name, gain in (("01", 0.25), ("02", 0.02), ("03", 0.3))
        ]  # fmt: skip

    def _population(self, scopes):
        return [
            {
                "scope": scope, "n_subjects": 3, "mean": 0.7, "null_mean": 0.5, "null_95": 0.57,
                "p_mean": 2e-4, "minimum": 0.52, "p_global": 0.03, "p_global_corrected": 0.04 + number / 100,
                "p_majority": 0.31, "p_majority_corrected": 0.34,
                "prevalence": 0.125 if not number else np.nan,
                "prevalence_corrected": 0.125 if not number else np.nan,
                "n_permutations": self.n_permutations, "n_draws": 100_000,
            }
            for number, scope in enumerate(scopes)
        ]  # fmt: skip

    def tables(self, *, atlas, prevalence=False):
        chance, scopes = 1 / len(self.classes), ["all", *self.classes]
        level = {scope: min(0.95, chance + 0.25 + 0.05 * self.rng.standard_normal()) for scope in scopes}
        accuracy, tests = [], []
        for scope in scopes:
            real = self.rng.normal(level[scope], 0.015, self.n_runs).clip(0, 1)
            null = self.rng.normal(chance, 0.04, self.n_permutations).clip(0, 1)
            accuracy += [
                {"kind": "real", "run": i, "scope": scope, "accuracy": x} for i, x in enumerate(real)
            ]
            accuracy += [
                {"kind": "null", "run": i, "scope": scope, "accuracy": x} for i, x in enumerate(null)
            ]
            tests.append({
                "scope": scope, "chance": chance, "mean": real.mean(),
                "sd": real.std(ddof=1) if real.size > 1 else np.nan, "null_mean": null.mean(),
                "null_sd": null.std(ddof=1), "null_max": null.max(), "p": 1 / (1 + self.n_permutations),
                "n_permutations": self.n_permutations,
            })  # fmt: skip
        self.names["accuracy"] = self.table("accuracy", accuracy)
        self.names["accuracy_tests"] = self.table("accuracytests", tests)
        self.names["subject_tests"] = self.table("subjecttests", self._people(chance))
        if prevalence:
            self.names["prevalence"] = self.table("prevalence", self._population(scopes))
        self.names["confusion"] = self.table("confusion", self._confusion(level, chance))
        self.names["curves"] = self.table("curves", self.curves)
        self.names["thresholds"] = self.table("thresholds", self.thresholds)
        self.names["samples"] = self.table("samples", sample_rows(self.classes, ("01", "02", "03")))
        self.names["folds"] = self.table("folds", [{"fold": "sub-01", "n_train": 48, "n_test": 24}])
        self.names["regions"] = [self.table("regions", self._regions())] if atlas else []

    def _confusion(self, level, chance):
        rows = []
        for kind in ("real", "null"):
            for true in self.classes:
                for predicted in self.classes:
                    hit = level[true] if kind == "real" else chance
                    miss = (1 - hit) / (len(self.classes) - 1)
                    rate = hit if true == predicted else miss
                    rows.append({"kind": kind, "true": true, "predicted": predicted, "rate": rate})
        return rows

    def _regions(self):
        rows = []
        for index in range(1, 41):
            for class_ in self.classes:
                for method in self.methods:
                    n = 5 + index
                    above = int(self.rng.integers(0, n)) if self.survivors and index % 3 == 0 else 0
                    total = float(self.rng.normal(0, 1))
                    rows.append({
                        "atlas": "aal", "index": index, "region": f"Temporal_Pole_Superior_part_{index}_L",
                        "class": class_, "method": method, "n_voxels": n, "sum": total, "density": total / n,
                        "n_above": above, "peak": 0.1, "peak_x": -20.0, "peak_y": 4.0, "peak_z": 8.0,
                    })  # fmt: skip
        return rows

    def manifest(self, background):
        samples = read_frame(self.folder / self.names["samples"])
        counts = samples["class"].value_counts()
        if background is not None:
            background.to_filename(self.folder / "maps" / "space-MNI152NLin2009aSym_T1w.nii.gz")
        content = {
            "version": "0.1.0", "dataset": "A <made-up> data set", "tasks": ["objectviewing"],
            "space": None if background is None else "MNI152NLin2009aSym",
            "resolution": None if background is None else 8.0, "subjects": ["01", "02", "03"],
            "classes": self.classes, "methods": self.methods, "alphas": list(ALPHAS), "report_alpha": 0.01,
            "chance": 1 / len(self.classes), "n_samples": len(samples),
            "samples_per_class": {name: int(counts[name]) for name in self.classes},
            "n_voxels": int(self.inside.sum()), "n_folds": 3, "cv": "subject", "permute": "subject",
            "tail": "greater", "importance_samples": "class", "n_runs": self.n_runs,
            "n_permutations": self.n_permutations, "n_null": self.n_null, "tail_fit": "none",
            "q_from": "gpd",
            "map_values": "share",
            "training": {"learning_rate": 0.005, "batch_size": 20, "n_updates": 10_000, "l2": 0.4,
                         "clip": 0.0, "bias": True},
            "no_prevalence": "the classifier of one person is trained on others",
            "smallest_p": 1 / (1 + self.n_permutations),
            "settings": {
                "preproc": "none", "detrend": True, "high_pass": None, "high_pass_sigma": None,
                "confounds": [], "standardize": True, "sample": "events", "window": None,
                "window_anchor": "onset", "hrf_shift": 5.0, "n_updates": 10000, "batch_size": 20,
                "map_scale": 1.0, "classes": self.classes, "random_seed": 0,
            },
            "versions": {"python": "3.11.2", "numpy": np.__version__},
            "mask": self.save(self.inside, "desc-brain_mask", stat_=None),
            "background": None if background is None else "maps/space-MNI152NLin2009aSym_T1w.nii.gz",
            "failed_subjects": ["04"], "warnings": ["sub-03 has fewer samples of 'tool' than the others."],
            "tables": self.names, "maps": self.entries,
        }  # fmt: skip
        injected(content["settings"], **content)
        (self.folder / "results.json").write_text(json.dumps(content), encoding="utf-8")


def sample_rows(classes, subjects):
    """Return rows of samples: two runs, four events per class and run."""
    return [
        {
            "subject": subject, "session": "", "task": "objectviewing", "run": run, "event": event,
            "onset": 12.0 + 24.0 * event, "trial_type": class_, "class": class_,
        }
        for subject in subjects
        for run in ("01", "02")
        for event, class_ in enumerate(list(classes) * 4)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return make_output(tmp_path_factory.mktemp("out"))


def test_image_is_found_by_what_it_is(out):
    results = load_results(out)
    path = next(
        entry["path"]
        for entry in results.manifest["maps"]
        if (entry["class"], entry["method"], entry["stat"], entry["alpha"])
        == ("tool", "OD", "thresholded", 0.05)
    )
    found = results.image("thresholded", "tool", "OD", 0.05)
    assert Path(found.get_filename()) == out / "group" / path
    assert results.image("thresholded", "spoon") is None


def test_tables_keep_labels_as_text(out):
    samples = load_results(out).table("samples")
    assert set(samples["subject"]) == {"01", "02", "03"}
    assert set(samples["run"]) == {"01", "02"}


def test_missing_table_is_empty(out):
    results = load_results(out)
    assert results.table("nothing").empty
    assert results.table_path("nothing") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "does not exist"), ("{", "not valid JSON"), ("{}", "lacks dataset, classes")],
)
def test_unusable_manifest_is_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path / "group").mkdir()
        (tmp_path / "group" / "results.json").write_text(content)
    with pytest.raises(InputError, match=words):
        load_results(tmp_path)


def test_missing_files_are_refused_by_name(tmp_path):
    make_output(tmp_path, n_classes=2, methods=("W",), atlas=False)
    results = load_results(tmp_path)
    (tmp_path / "group" / "curves_table.tsv").unlink()
    with pytest.raises(InputError, match=r"curves_table\.tsv"):
        results.table("curves")
    (tmp_path / "group" / "maps" / "desc-brain_mask.nii.gz").write_bytes(b"no image")
    with pytest.raises(InputError, match="desc-brain_mask"):
        results.named_image("mask")


def test_files_appear_whole_or_not_at_all(tmp_path):
    umask = os.umask(0o027)
    try:
        path = write_whole(tmp_path / "new" / "page.html", "é")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(umask)
    assert path.read_bytes() == "é".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    with pytest.raises(TypeError):
        write_whole(path, 3)
    assert path.read_bytes() == "é".encode()
    assert [item.name for item in path.parent.iterdir()] == ["page.html"]
