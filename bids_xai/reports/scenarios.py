"""The page of data with known truth: what was classified, and what importance maps found of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.decoding.design import ALL_CLASSES
from bids_xai.errors import InputError
from bids_xai.inference.chunks import load_chunk
from bids_xai.inference.recovery import MEAN, T_TEST
from bids_xai.reports.curves import reproducibility_curves
from bids_xai.reports.figures import accuracy_violins, confusion_matrices
from bids_xai.reports.html import (
    Facts,
    Fold,
    Gallery,
    Lines,
    Part,
    Section,
    Table,
    Text,
    listed,
    number,
    percent,
    plain,
    render,
)  # fmt: skip
from bids_xai.reports.recovery import recovery_figure, voxel_strips
from bids_xai.reports.references import REFERENCES
from bids_xai.reports.results import write_whole
from bids_xai.tables import read_frame
from bids_xai.text_files import read_json_object

PAGE = "scenarios.html"
_CRITERIA = {
    "p": "p",
    "FDR": "false discovery rate",
    "FWER": "family-wise",
    "reproducibility": "more reproducible than by chance",
}


@dataclass(frozen=True)
class ScenarioResults:
    """The folder of a scenario: its manifest, and the tables and maps beside it."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the scenario, with the variant of its training."""
        return str(self.manifest["name"])

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of their codes."""
        return list(self.manifest["classes"])

    @property
    def methods(self) -> list[str]:
        """Names of the importance measures."""
        return list(self.manifest["methods"])

    @property
    def alpha(self) -> float:
        """Significance level of the figures that show one."""
        return float(self.manifest["report_alpha"])

    def table(self, name: str) -> pd.DataFrame:
        """Return a table by its name."""
        return read_frame(self.folder / f"{name}.tsv")

    def truth(self) -> npt.NDArray[np.bool_]:
        """Return whether a voxel is of a class's pattern, shape (n_classes, n_voxels)."""
        truth: npt.NDArray[np.bool_] = np.load(self.folder / "truth.npy")
        return truth


def load_scenarios(out_dir: Path | str) -> list[ScenarioResults]:
    """Return the finished scenarios of a folder, by name.

    Raises
    ------
    InputError
        There are none.
    """
    manifests = sorted(Path(out_dir).glob("scenario-*/scenario.json"))
    if not manifests:
        raise InputError(
            f"{out_dir} holds no results of scenarios (scenario-*/scenario.json).",
            "a folder that bids-xai-scenarios has written to",
            "run bids-xai-scenarios first",
        )
    return [ScenarioResults(path.parent, read_json_object(path)) for path in manifests]


def write_scenarios_report(out_dir: Path | str) -> Path:
    """Write ``scenarios.html``, and its figures as files in ``figures``.

    Parameters
    ----------
    out_dir
        Folder with results of one or more scenarios.

    Returns
    -------
    Path
        The page: self-contained, it loads nothing from elsewhere.

    Raises
    ------
    InputError
        There are no results.
    """
    out = Path(out_dir)
    scenarios, gallery = load_scenarios(out), Gallery()
    sections = [Section("summary", "Summary", _summary(scenarios))]
    sections += [
        Section(f"scenario-{results.name}", f"Scenario {results.name}", _scenario(results, gallery))
        for results in scenarios
    ]
    names = listed([results.name for results in scenarios])
    page = render("Data with known truth", f"Scenario{'s' if len(scenarios) > 1 else ''} {names}", sections)
    shutil.rmtree(out / "figures", ignore_errors=True)
    for name, data in gallery.files.items():
        write_whole(out / "figures" / name, data)
    return write_whole(out / PAGE, page)


def _summary(scenarios: list[ScenarioResults]) -> list[Any]:
    rows = []
    for results in scenarios:
        tests, found = results.table("accuracy_tests"), results.table("discoveries")
        overall = tests[tests["scope"] == ALL_CLASSES].iloc[0]
        t_test = found[(found["method"] == T_TEST) & (found["class"] != MEAN)]
        corrected = t_test[
            (t_test["criterion"] == "FWER") & np.isclose(t_test["alpha"], t_test["alpha"].max())
        ]
        rows.append(
            [
                results.name,
                number(int(results.truth().shape[1])),
                percent(overall["mean"]),
                percent(overall["null_mean"]),
                number(float(overall["p"])),
                number(int(corrected["n_voxels"].sum())),
            ]
        )
    header = ["Scenario", "Voxels", "Accuracy", "Permuted", "p", "Voxels that survive t-tests"]
    caption = (
        "Accuracy over all classes and its permutation test; voxels whose one-versus-rest t passes "
        "Bonferroni correction at the largest level, summed over the classes."
    )
    about = (
        "Simulated samples whose classes differ in known voxels, classified as the published analysis "
        "does it. A voxel that an importance map marks is right or wrong, and can be counted."
    )
    reference = Lines([REFERENCES["gotsopoulos2018"].text()])
    return [Text(about), Table(header, rows, caption), reference]


def _scenario(results: ScenarioResults, gallery: Gallery) -> list[Any]:
    settings = results.manifest["settings"]
    facts = [
        ("Subjects", number(results.manifest["n_subjects"])),
        ("Samples", number(results.manifest["n_samples"])),
        ("Voxels", number(int(results.truth().shape[1]))),
        ("Mean added", _means(results)),
        ("Training", _training(settings["training"])),
        ("Runs (true labels)", number(results.manifest["n_runs"])),
        ("Permutations (thresholds)", number(results.manifest["n_permutations"])),
        ("Permutations (reproducibility)", number(results.manifest["n_null"])),
        ("Labels permuted within", plain(results.manifest["permute"])),
        ("Samples that a map averages", settings["importance_samples"]),
    ]
    key = f"scenario-{results.name}"
    return [
        Facts(facts),
        _truth_table(results),
        Part(f"{key}-accuracy", "Accuracy", _accuracy(results, gallery)),
        Part(f"{key}-maps", "Maps and truth", [_maps(results, gallery)]),
        Part(f"{key}-curves", "Reproducibility", [_curves(results, gallery)]),
        Part(f"{key}-recovery", "What is found of the truth", _recovery(results, gallery)),
    ]


def _means(results: ScenarioResults) -> str:
    settings = results.manifest["settings"]
    two = results.name.startswith("3")
    return f"{settings['mu']:g}, on the right {settings['mu_right']:g}" if two else f"{settings['mu']:g}"


def _training(training: Mapping[str, Any]) -> str:
    words = f"{number(training['n_updates'])} minibatches of {training['batch_size']}, "
    words += f"learning rate {training['learning_rate']:g}"
    return f"{words}, weight decay {training['l2']:g}" if training["l2"] else words


def _truth_table(results: ScenarioResults) -> Table:
    truth = results.truth().astype(np.int64)
    shared = truth @ truth.T
    alone = (truth * (truth.sum(axis=0) == 1)).sum(axis=1)
    rows = [
        [name, *(number(int(count)) for count in shared[c]), number(int(alone[c]))]
        for c, name in enumerate(results.classes)
    ]
    caption = (
        "Voxels of the patterns: shared by two classes (on the diagonal, all of a class), and of it alone."
    )
    return Table(["", *results.classes, "alone"], rows, caption)


def _accuracy(results: ScenarioResults, gallery: Gallery) -> list[Any]:
    accuracy = accuracy_violins(results.table("accuracy"), results.classes, 1 / len(results.classes))
    confusion = confusion_matrices(results.table("confusion"), results.classes)
    return [
        gallery.drawing(
            accuracy,
            f"scenario-{results.name}-accuracy",
            "Violin plots of accuracy for all classes and each class, true and permuted labels",
            "Accuracy on held-out people, over the runs with true and with permuted labels (figure 2 of the "
            "paper).",
        ),
        gallery.drawing(
            confusion,
            f"scenario-{results.name}-confusion",
            "Confusion matrices with true and with permuted labels",
            "Per cent of the held-out samples of each class (rows) by predicted class (columns), mean over "
            "the runs.",
        ),
    ]


def _maps(results: ScenarioResults, gallery: Gallery) -> Any:
    maps = load_chunk(results.folder / "maps.npz")
    number_ = [float(alpha) for alpha in results.manifest["alphas"]].index(results.alpha)
    shown = np.asarray(maps[f"reproducibility-{number_}"])
    by_method = {method: shown[m] for m, method in enumerate(results.methods)}
    figure = voxel_strips(results.truth(), np.asarray(maps["t"]), by_method, results.classes)
    caption = (
        "Truth, one-versus-rest t, and the fraction of runs in which a voxel passes "
        f"p ≤ {results.alpha:g}, by measure of importance. Voxels run down the columns of a picture, column "
        "after column (figure 3 of the paper)."
    )
    alt = "Pictures of all voxels, a column per class: truth, t values, reproducibility of each measure"
    return gallery.photograph(figure, f"scenario-{results.name}-maps", alt, caption)


def _curves(results: ScenarioResults, gallery: Gallery) -> Any:
    curves, thresholds = results.table("curves"), results.table("thresholds")
    figure = reproducibility_curves(
        curves[np.isclose(curves["alpha"], results.alpha)],
        thresholds[np.isclose(thresholds["alpha"], results.alpha)],
        results.methods,
        results.classes,
    )
    caption = (
        f"Number of voxels by the fraction of runs in which they pass p ≤ {results.alpha:g}, true labels "
        "and, dotted, the second set of permuted labels; triangles: the highest that any voxel reaches there "
        "(figure 5 of the paper)."
    )
    alt = "Reproducibility curves, one panel per measure"
    return gallery.drawing(figure, f"scenario-{results.name}-curves", alt, caption)


def _recovery(results: ScenarioResults, gallery: Gallery) -> list[Any]:
    figure = recovery_figure(results.table("recovery"), results.table("thresholds"), results.methods)
    caption = (
        "Voxels rightly called important or not, false ones among those found, and true ones among the "
        "rest, mean over the classes, against the reproducibility that is asked for; triangles: the "
        "reproducibility that is reached by chance (supplementary figure 2 of the paper)."
    )
    alt = "Curves of voxel accuracy, false discovery rate and false omission rate by level and measure"
    found = results.table("discoveries")
    mean = found[found["class"] == MEAN]
    rows = [
        [
            str(row["method"]),
            f"{row['alpha']:g}",
            _CRITERIA[row["criterion"]],
            number(round(row["n_voxels"], 1), 4),
            *(percent(row[name]) for name in ("accuracy", "FDR", "FOR", "sensitivity")),
        ]
        for _, row in mean.iterrows()
    ]
    header = ["Measure", "Level", "Criterion", "Voxels", "Accuracy", "FDR", "FOR", "Pattern found"]
    return [
        gallery.drawing(figure, f"scenario-{results.name}-recovery", alt, caption),
        Fold(
            "By other criteria",
            [Table(header, rows, "What is found, mean over the classes; t: univariate test.")],
        ),
    ]
