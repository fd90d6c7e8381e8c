"""A small output folder of networks as the group level writes it, and what is read and drawn from it."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from test_reports_results import brain

from bids_xai.reports.networks_scores import (
    baseline_means,
    confusion_of,
    group_sizes,
    main_score,
    misclassified_of,
)
from bids_xai.reports.networks_summary import people_per_class
from bids_xai.reports.results import load_results
from bids_xai.reports.verdict import above_chance
from tests.written import injected, injected_table

METHODS = {
    "LRPAlphaBetaBeta0p5": ("lrp-alpha-beta", "LRP αβ (β = 0.5)",
                            "R_i = Σ_j ((1+β) z+_ij/z+_j − β z-_ij/z-_j) R_j", {"beta": 0.5}),
    "GuidedBackprop": ("guided-backprop", "Guided backpropagation", "ReLU passes max(g, 0) 1[a > 0]", {}),
    "Occlusion": ("occlusion", "Occlusion", "p(x) − p(x with the box covered)", {"box": [2, 2, 2]}),
}  # fmt: skip
NAMES = ("control", "patient", "other", "fear", "love")
BASELINES = {"logistic-regression": 0.61, "svm-linear": 0.58}
LAYERS = ("fc2", "fc1", "block4.conv", "block3.conv", "block2.conv", "block1.conv")


class Writer:
    """Writes ``out/group`` of kind networks, and heatmaps and images of some subjects."""

    def __init__(self, out, *, n_classes, n_people, n_permutations, n_runs, skill, seed, voxel, methods):
        self.out, self.folder = out, out / "group"
        self.rng = np.random.default_rng(seed)
        self.mask, self.background = brain(voxel)
        self.inside = np.asarray(self.mask.dataobj) > 0
        self.classes, self.methods = list(NAMES[:n_classes]), list(methods)
        self.n_people, self.n_permutations, self.n_runs, self.skill = n_people, n_permutations, n_runs, skill
        self.maps, self.names, self.heatmaps = [], {}, []
        (self.folder / "maps").mkdir(parents=True)
        self.subjects = [f"{number:02d}" for number in range(1, n_people * n_classes + 1)]
        self.true = [self.classes[number % n_classes] for number in range(len(self.subjects))]

    def image(self, path, values, affine=None):
        path.parent.mkdir(parents=True, exist_ok=True)
        affine = self.mask.affine if affine is None else affine
        nb.Nifti1Image(np.asarray(values, dtype=np.float32), affine).to_filename(path)

    def table(self, name, rows):
        path = f"networks_{name}.tsv"
        injected_table(name, pd.DataFrame(rows).columns, of_networks=True)
        pd.DataFrame(rows).to_csv(self.folder / path, sep="\t", index=False, na_rep="n/a")
        self.names[name] = path
        return path

    def smooth(self, sigma=1.2):
        noise = gaussian_filter(self.rng.standard_normal(self.inside.shape), sigma)
        return np.where(self.inside, noise / noise.std(), 0)

    def lesion(self):
        grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in self.inside.shape), indexing="ij"))
        centre = np.array([0.3, -0.25, 0.1]).reshape(3, 1, 1, 1)
        return np.exp(-((grid - centre) ** 2).sum(axis=0) / 0.06) * self.inside

    def mean_maps(self):
        groups = ["TP", "FP", "TN", "FN"] if len(self.classes) == 2 else ["correct", "incorrect"]
        explained = self.classes[1]
        for method in self.methods:
            positive = method == "GuidedBackprop"
            for group in [*self.classes, *groups]:
                gain = {self.classes[0]: 0.5, "FP": 1.5, "TN": 0.3, "FN": 0.2}.get(group, 3.0)
                values = 0.01 * (gain * self.lesion() + 0.3 * self.smooth())
                values = np.abs(values) if positive else values
                self.save(values, "mean", explained, method, group)
                if group in self.classes and self.n_permutations:
                    self.p_maps(values, explained, method, group)

    def p_maps(self, values, explained, method, group):
        """Count for real, against permuted maps that are noise."""
        null = 0.01 * np.stack([0.3 * self.smooth() for _ in range(self.n_permutations)])
        p = (1 + (null >= values).sum(axis=0)) / (1 + self.n_permutations)
        highest = null.max(axis=(1, 2, 3))
        pfwer = (1 + (highest[:, None, None, None] >= values).sum(axis=0)) / (1 + self.n_permutations)
        self.save(np.where(self.inside, p, 1), "p", explained, method, group)
        self.save(np.where(self.inside, pfwer, 1), "pfwer", explained, method, group)
        self.save(np.where(p <= 0.05, values, 0), "thresholded", explained, method, group, 0.05)

    def save(self, values, stat, class_, method, group, alpha=None):
        path = f"maps/class-{class_}_method-{method}_group-{group}_stat-{stat}_map.nii.gz"
        self.image(self.folder / path, values)
        entry = {
            "class": class_,
            "method": method,
            "stat": stat,
            "group": group,
            "alpha": alpha,
            "path": path,
        }
        self.maps.append(entry)

    def decisions(self):
        """Predictions first; every score is computed from them."""
        rows = []
        for run in range(self.n_runs):
            for number, (subject, true) in enumerate(zip(self.subjects, self.true, strict=True)):
                logits = self.rng.normal(0, 1, len(self.classes))
                logits[self.classes.index(true)] += self.skill
                probability = np.exp(logits) / np.exp(logits).sum()
                row = {"run": run, "fold": number % 3, "sample": number, "subject": subject, "session": "01",
                       "true": true, "predicted": self.classes[int(probability.argmax())]}  # fmt: skip
                rows.append(
                    row | {f"probability_{name}": probability[i] for i, name in enumerate(self.classes)}
                )
        self.table("predictions", rows)
        table = pd.DataFrame(rows)
        self.scores(table)
        self.roc(table)

    def scores(self, table):
        scores = []
        for run, found in table.groupby("run"):
            hit = (found["true"] == found["predicted"]).groupby(found["true"]).mean()
            right = float((found["true"] == found["predicted"]).mean())
            scores.append({"run": run, "metric": "accuracy", "class": "all", "value": right})
            scores.append({"run": run, "metric": "balanced_accuracy", "class": "all", "value": hit.mean()})
            scores += [
                {"run": run, "metric": "sensitivity", "class": name, "value": hit[name]}
                for name in self.classes
            ]
        rows = [{"model": "network", **row} for row in scores]
        # Other classifiers see every fold once.
        for model, value in BASELINES.items():
            rows += [
                {"model": model, "run": 0, "metric": row["metric"], "class": row["class"], "value": value}
                for row in scores
                if row["run"] == 0
            ]
        self.table("scores", rows)
        if not self.n_permutations:
            return
        tests, chance = [], 1 / len(self.classes)
        for (metric, class_), found in pd.DataFrame(scores).groupby(["metric", "class"], sort=False):
            null = self.rng.normal(chance, 0.06, self.n_permutations)
            mean = found["value"].mean()
            tests.append({
                "metric": metric, "class": class_, "mean": mean, "sd": found["value"].std(),
                "null_mean": null.mean(), "se": found["value"].std() / np.sqrt(self.n_runs),
                "null_sd": null.std(), "null_max": null.max(),
                "p": (1 + (null >= mean).sum()) / (1 + self.n_permutations),
                "smallest_p": 1 / (1 + self.n_permutations), "n_permutations": self.n_permutations,
                "n_runs": self.n_runs,
            })  # fmt: skip
        self.table("score_tests", tests)

    def roc(self, table):
        rows, grid = [], np.linspace(0, 1, 51)
        for name in self.classes:
            curves = []
            for _, found in table.groupby("run"):
                score, is_class = found[f"probability_{name}"].to_numpy(), (found["true"] == name).to_numpy()
                order = np.argsort(-score)
                tpr = np.concatenate([[0], np.cumsum(is_class[order]) / is_class.sum()])
                fpr = np.concatenate([[0], np.cumsum(~is_class[order]) / (~is_class).sum()])
                curves.append(np.interp(grid, fpr, tpr))
            se = np.std(curves, axis=0) / np.sqrt(len(curves))
            rows += [
                {"class": name, "fpr": x, "tpr": y, "se": e, "n_runs": self.n_runs}
                for x, y, e in zip(grid, np.mean(curves, axis=0), se, strict=True)
            ]
        self.table("roc", rows)

    def training(self):
        history, trainings, search = [], [], []
        for run in range(self.n_runs):
            for fold in range(3):
                best = int(self.rng.integers(6, 14))
                for epoch in range(1, best + 9):
                    history.append({
                        "run": run, "fold": fold, "epoch": epoch, "seconds": 2.5 * epoch,
                        "train_loss": 0.7 * np.exp(-epoch / 8) + 0.01 * self.rng.random(),
                        "validation_loss": 0.5 * np.exp(-epoch / 6) + 0.01 * max(0, epoch - best) + 0.2,
                        "validation_accuracy": 0.9 - 0.4 * np.exp(-epoch / 5),
                    })  # fmt: skip
                trainings.append({
                    "run": run, "fold": fold, "best_epoch": best,
                    "n_epochs": best + 8, "n_iterations": 12 * (best + 8), "seconds": 2.5 * (best + 8),
                    "batch_size": 4, "learning_rate": 1e-4, "patience": 8,
                })  # fmt: skip
                search += [
                    {"run": run, "fold": fold, "batch_size": (4, 6, 12)[draw], "patience": 12,
                     "learning_rate": 1e-4 / (1 + draw), "validation": 0.3 + 0.1 * (draw != fold),
                     "best_epoch": best, "iterations": 100 * draw, "seconds": 30.5, "chosen": draw == fold}
                    for draw in range(3)
                ]  # fmt: skip
        self.table("history", history)
        self.table("trainings", trainings)
        self.table("search", search)

    def trust(self):
        conservation, randomization, deletion, area, localisation = [], [], [], [], []
        for place, method in enumerate(self.methods):
            known = method.startswith("LRP")
            conservation.append({"method": method, "run": 0, "fold": 0, "outside_mask": 0.03,
                                 "residual_mean": 1e-4 if known else np.nan,
                                 "residual_max": 1e-3 if known else np.nan})  # fmt: skip
            stays = 0.9 if method == "GuidedBackprop" else 0.05
            for mode in ("cascading", "independent"):
                for depth, layer in enumerate(LAYERS, 1):
                    left = stays + (1 - stays) * np.exp(-depth / (1 if mode == "cascading" else 4))
                    row = {"method": method, "mode": mode, "depth": depth, "layer": layer}
                    similar = {"spearman": left - 0.1, "spearman_abs": left, "ssim": left**2}
                    randomization.append(row | similar)
            for fraction in np.linspace(0, 0.5, 11):
                drop = np.exp(-fraction * (12 - 3 * place))
                deletion.append(
                    {"method": method, "fraction": fraction, "probability": 0.1 + 0.8 * drop, "se": 0.02}
                )
            area.append({"method": method, "area_over_curve": 0.3 - 0.05 * place})
            for subject, true in list(zip(self.subjects, self.true, strict=True))[:20]:
                # The first class has no lesions.
                n_voxels = 10 + int(subject) if true != self.classes[0] else 0
                mass = 0.35 - 0.1 * place + 0.05 * self.rng.standard_normal() if n_voxels else 0.0
                localisation.append({
                    "method": method, "subject": subject, "session": "01", "true": true, "mass": mass,
                    "chance": 0.02 if n_voxels else 0.0, "auc": 0.9 - 0.1 * place if n_voxels else np.nan,
                    "pointing": float(mass > 0.2), "lesion_voxels": n_voxels,
                    "relevance": 1e-5 * (n_voxels + self.rng.normal(0, 5)),
                })  # fmt: skip
        deletion += [
            {"method": "random", "fraction": f, "probability": 0.9 - 0.6 * f, "se": 0.02}
            for f in np.linspace(0, 0.5, 11)
        ]
        area.append({"method": "random", "area_over_curve": 0.1})
        self.table("conservation", conservation)
        self.table("randomization", randomization)
        self.table("deletion", deletion)
        self.table("area", area)
        self.table("localisation", localisation)
        self.table("lesion_load", [
            {"method": method, "r": 0.66, "p": 0.0021, "n": 20, "n_permutations": 10000}
            for method in self.methods
        ])  # fmt: skip

    def regions(self):
        rows, overlap, biomarker = [], [], []
        for method in self.methods:
            for group in self.classes:
                for index in range(1, 41):
                    total = float(self.rng.gamma(2, 10)) / index
                    rows.append({
                        "atlas": "aal", "index": index, "region": f"Temporal_Pole_Superior_part_{index}_L",
                        "group": group, "method": method, "n_voxels": 5 + index, "sum": total,
                        "density": total / (5 + index),
                        "gain": 1 + self.rng.normal(0, 0.3) if index > 3 else np.inf,
                        "rank_sum": index, "rank_density": index, "rank_gain": index,
                    })  # fmt: skip
                for metric in ("sum", "density", "gain"):
                    overlap.append({"atlas": "aal", "method": method, "metric": metric, "group": group,
                                    "k": 10, "n_pairs": 3, "mean_overlap": self.rng.uniform()})  # fmt: skip
            for index in range(1, 41):
                p = self.rng.uniform(0.001, 1)
                biomarker.append({"atlas": "aal", "region": f"Part_{index}", "method": method, "n": 40,
                                  "r": self.rng.normal(0, 0.2), "p": p, "p_family": min(1.0, 40 * p),
                                  "n_permutations": 9999, "smallest_p": 1e-4})  # fmt: skip
        self.names["regions"] = [self.table("regions", rows)]
        self.table("overlap", overlap)
        self.table("biomarker", biomarker)
        patients = [subject for subject, true in zip(self.subjects, self.true, strict=True)
                    if true == self.classes[-1]]  # fmt: skip
        self.table("fingerprints", [
            {"atlas": "aal", "method": method, "subject": patients[0], "other": patients[1], "distance": 0.83}
            for method in self.methods
        ])  # fmt: skip
        distances = [
            {
                "method": method,
                "group": group,
                "run_a": a,
                "run_b": b,
                "distance": abs(self.rng.normal(3 + p, 0.5)),
            }
            for p, method in enumerate(self.methods)
            for group in self.classes
            for a in range(self.n_runs)
            for b in range(a + 1, self.n_runs)
        ]
        if distances:
            self.table("distances", distances)

    def similarity(self):
        pairs = [(a, b) for i, a in enumerate(self.classes) for b in self.classes[i + 1 :]]
        self.table("rdm", [
            {"kind": kind, "class_a": a, "class_b": b, "distance": self.rng.uniform(0.1, 1.4)}
            for kind in ("brain", "network") for a, b in pairs
        ])  # fmt: skip
        self.table("mantel", [{"r": -0.59, "p": 0.21, "n_permutations": 119}])
        voxels, rows = np.argwhere(self.inside), []
        for place, name in enumerate(self.classes):
            near = voxels[self.rng.choice(len(voxels), 100)]
            for voxel in near:
                x, y, z = self.mask.affine[:3, :3] @ voxel + self.mask.affine[:3, 3]
                one, two = self.rng.normal(place, 0.4, 2)
                rows.append({"class": name, "x": x, "y": y, "z": z, "drop": 0.1,
                             "umap_1": x / 20, "umap_2": y / 20, "functional_1": one,
                             "functional_2": two})  # fmt: skip
        self.table("positions", rows)

    def people(self, n=4):
        """Images of the first subjects, 3-D and 4-D, and their heatmaps."""
        for subject, true in list(zip(self.subjects, self.true, strict=True))[:n]:
            stem = f"sub-{subject}/ses-01/anat/sub-{subject}_ses-01"
            own = np.asarray(self.background.dataobj) * (1 + 0.1 * self.smooth())
            self.image(self.out / f"{stem}_desc-T1w_samples.nii.gz", own[..., None])
            sidecar = {"Modality": "T1w", "Target": "group", "Space": "MNI152NLin2009cAsym"}
            (self.out / f"{stem}_desc-T1w_samples.json").write_text(json.dumps(sidecar), encoding="utf-8")
            (self.out / f"{stem}_desc-T1w_samples.tsv").write_text(f"session\tclass\n01\t{true}\n")
            for method in self.methods:
                path = f"{stem}_desc-{method}_map.nii.gz"
                self.image(self.out / path, 0.01 * (2 * self.lesion() + 0.2 * self.smooth()))
                self.heatmaps.append({
                    "subject": subject, "session": "01", "task": None, "class": self.classes[1], "true": true,
                    "predicted": self.classes[1], "probability": 0.873, "method": method, "path": path,
                    "image": f"{stem}_desc-T1w_samples.nii.gz", "volume": 0,
                })  # fmt: skip

    def manifest(self):
        self.image(self.folder / "maps" / "mask.nii.gz", self.inside)
        self.background.to_filename(self.folder / "maps" / "background.nii.gz")
        rows = [
            {"subject": s, "session": "01", "class": c} for s, c in zip(self.subjects, self.true, strict=True)
        ]
        self.table("samples", rows)
        smallest = 1 / (1 + self.n_permutations) if self.n_permutations else None
        content = {
            "kind": "networks", "version": "0.1.0", "dataset": "A <made-up> data set", "tasks": [],
            "space": "MNI152NLin2009cAsym", "resolution": 8.0,
            "subjects": self.subjects, "classes": self.classes,
            "positive": self.classes[1] if len(self.classes) == 2 else None, "chance": 1 / len(self.classes),
            "model": "boehle2019", "n_parameters": 728898, "shape": list(self.inside.shape),
            "methods": self.methods, "explain_start": "probability", "explain_class": self.classes[1],
            "method_info": {
                label: {"title": title, "formula": formula, "source": "as published", "name": name,
                        "options": options}
                for label, (name, title, formula, options) in METHODS.items() if label in self.methods
            },
            "cv": "kfold", "n_samples": len(rows), "n_voxels": int(self.inside.sum()), "n_folds": 3,
            "samples_per_class": {name: self.true.count(name) for name in self.classes},
            "n_runs": self.n_runs, "n_permutations": self.n_permutations, "smallest_p": smallest,
            "permute": "between", "alphas": [0.01, 0.05], "report_alpha": 0.05,
            "settings": {"modality": "T1w", "preproc": "none", "learning_rate": 1e-4, "weight_decay": 1e-4,
                         "batch_size": 4, "patience": 8, "random_seed": 0},
            "versions": {"python": "3.11.2", "numpy": np.__version__}, "mask": "maps/mask.nii.gz",
            "background": "maps/background.nii.gz", "warnings": ["sub-03 has a <low> contrast."],
            "failed_subjects": ["99"], "tables": self.names, "maps": self.maps, "heatmaps": self.heatmaps,
        }  # fmt: skip
        injected(content["settings"], **content)
        (self.folder / "results.json").write_text(json.dumps(content), encoding="utf-8")


def make_networks(
    out,
    *,
    n_classes=2,
    n_people=24,
    n_permutations=39,
    n_runs=3,
    skill=2.0,
    seed=0,
    voxel=8.0,
    methods=METHODS,
):
    """Write results of networks as the contract of the group level says; return ``out``."""
    writer = Writer(out, n_classes=n_classes, n_people=n_people, n_permutations=n_permutations, n_runs=n_runs,
                    skill=skill, seed=seed, voxel=voxel, methods=methods)  # fmt: skip
    writer.mean_maps()
    writer.decisions()
    writer.training()
    writer.trust()
    writer.regions()
    writer.similarity()
    writer.people()
    writer.manifest()
    return out


def change(out, **manifest):
    """Change keys of the manifest."""
    path = out / "group" / "results.json"
    injected(None, **manifest)
    content = json.loads(path.read_text(encoding="utf-8")) | manifest
    path.write_text(json.dumps(content), encoding="utf-8")


def words_of(page):
    """Return the text of a page as a reader sees it."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return make_networks(tmp_path_factory.mktemp("networks"), methods=["Occlusion"])


def test_map_is_found_by_its_group(out):
    results = load_results(out)
    assert results.of_networks
    maps = {
        group: np.asarray(results.image("mean", "patient", "Occlusion", group=group).dataobj)
        for group in ("control", "patient", "TP", "FN")
    }
    for group, values in maps.items():
        path = out / "group" / "maps" / f"class-patient_method-Occlusion_group-{group}_stat-mean_map.nii.gz"
        np.testing.assert_array_equal(values, np.asarray(nb.load(path).dataobj))
    assert not np.array_equal(maps["control"], maps["patient"])
    assert results.image("mean", "patient", "Occlusion", group="nobody") is None


def test_confusion_is_that_of_scikit_learn(out):
    predictions = load_results(out).table("predictions")
    rates = confusion_of(predictions).set_index(["true", "predicted"])["rate"]
    wanted = np.mean(
        [
            confusion_matrix(rows["true"], rows["predicted"], labels=["control", "patient"], normalize="true")
            for _, rows in predictions.groupby("run")
        ],
        axis=0,
    )
    for row, true in enumerate(("control", "patient")):
        for column, predicted in enumerate(("control", "patient")):
            assert rates[true, predicted] == pytest.approx(wanted[row, column], abs=1e-12)


def test_who_was_misclassified_is_counted_as_a_loop_counts(out):
    predictions = load_results(out).table("predictions")
    table = misclassified_of(predictions).set_index("subject")
    assert sorted(table.index) == sorted(predictions["subject"].unique())
    for subject, row in table.iterrows():
        own = [one for _, one in predictions.iterrows() if one["subject"] == subject]
        assert row["n_decisions"] == len(own)
        wrong = sum(one["true"] != one["predicted"] for one in own) / len(own)
        assert row["misclassified"] == pytest.approx(wrong)
        mean = np.mean([one[f"probability_{one['true']}"] for one in own])
        assert row["probability"] == pytest.approx(mean)
    assert 0 < table["misclassified"].mean() < 1
    # Who is of several classes has an accuracy of their own.
    predictions = predictions.assign(true=["control", "patient"] * (len(predictions) // 2))
    assert not len(misclassified_of(predictions.assign(subject="01")))


def test_main_score_is_that_of_scikit_learn(out):
    predictions = load_results(out).table("predictions")
    wanted = [
        balanced_accuracy_score(rows["true"], rows["predicted"]) for _, rows in predictions.groupby("run")
    ]
    assert main_score(load_results(out))["mean"] == pytest.approx(np.mean(wanted), abs=1e-12)
    results = load_results(out)
    # Other classifiers do not count.
    without = replace(results, manifest={**results.manifest, "tables": {"scores": "networks_scores.tsv"}})
    assert baseline_means(results) == pytest.approx(BASELINES)
    assert main_score(without) == pytest.approx({"mean": np.mean(wanted), "sd": np.std(wanted, ddof=1)})
    assert above_chance(without) is None
    nothing = replace(results, manifest={**results.manifest, "tables": {}})
    assert main_score(nothing) is None


def test_people_are_counted_once(tmp_path):
    out = make_networks(tmp_path, n_people=3, methods=["Occlusion"], n_permutations=0, n_runs=1)
    path = out / "group" / "networks_samples.tsv"
    lines = path.read_text().splitlines()
    # Two more sessions of the same people.
    path.write_text("\n".join([*lines, *lines[1:], *lines[1:]]) + "\n")
    assert people_per_class(load_results(out)) == {"control": 3, "patient": 3}


def test_groups_are_as_large_as_a_loop_counts_them(out):
    results = load_results(out)
    wanted = dict.fromkeys(("control", "patient", "TP", "FP", "TN", "FN", "correct", "incorrect"), 0)
    for _, row in results.table("predictions").iterrows():
        right = row["true"] == row["predicted"]
        wanted[row["true"]] += 1
        wanted["correct" if right else "incorrect"] += 1
        wanted[("T" if right else "F") + ("P" if row["predicted"] == "patient" else "N")] += 1
    assert group_sizes(results) == wanted
    assert min(wanted.values()) > 0
    without = replace(results, manifest={**results.manifest, "positive": None})
    assert set(group_sizes(without)) == {"control", "patient", "correct", "incorrect"}
