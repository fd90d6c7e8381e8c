"""The page of the group level."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from bids_xai.decoding.design import ALL_CLASSES
from bids_xai.reports.brains import map_section, overlap_pictures, univariate_section
from bids_xai.reports.caveats import caveats
from bids_xai.reports.curves import reproducibility_curves
from bids_xai.reports.figures import accuracy_violins, confusion_matrices
from bids_xai.reports.html import (
    Alert,
    Facts,
    Fold,
    Gallery,
    Lines,
    Part,
    Section,
    Table,
    Text,
    count,
    number,
    percent,
    plain,
    render,
)  # fmt: skip
from bids_xai.reports.methods_text import citation_keys, methods_paragraphs
from bids_xai.reports.networks import network_sections
from bids_xai.reports.networks_scores import score_table
from bids_xai.reports.people import marks_explained, p_text, people_parts
from bids_xai.reports.references import REFERENCES, with_authors
from bids_xai.reports.regions import region_section
from bids_xai.reports.results import Results, load_results, overall_row, write_whole
from bids_xai.reports.verdict import folded_at_chance, verdict_blocks

_MOST_SUBJECTS = 40


def write_group_report(out_dir: Path | str) -> Path:
    """Write ``group.html``, and its figures as files in ``group/figures``.

    Parameters
    ----------
    out_dir
        Folder of the derivatives, with results of the group level.

    Returns
    -------
    Path
        The page: self-contained, it loads nothing from elsewhere.

    Raises
    ------
    InputError
        There are no results of the group level, or files that they name are missing.
    """
    results = load_results(out_dir)
    page, drawn = group_page(results)
    figures = results.group_dir / "figures"
    shutil.rmtree(figures, ignore_errors=True)
    for name, data in drawn.items():
        write_whole(figures / name, data)
    return write_whole(results.out_dir / "group.html", page)


def group_page(results: Results) -> tuple[str, dict[str, bytes]]:
    """Return the page of results of the group level, and its figures by file name."""
    gallery = Gallery()
    own = network_sections if results.of_networks else _softmax_sections
    sections = [
        *own(results, gallery),
        Section("methods", "Methods", _methods(results)),
        Section("warnings", "Warnings", _warnings(results)),
        Section("settings", "Settings", _settings(results)),
    ]
    page = render(f"Group report: {results.manifest['dataset']}", _subtitle(results), sections)
    return page, gallery.files


def _softmax_sections(results: Results, gallery: Gallery) -> list[Section]:
    return [
        Section("summary", "Summary", _summary(results)),
        Section("accuracy", "Accuracy", _accuracy(results, gallery)),
        Section("confusion", "Confusion", _confusion(results, gallery)),
        Section("maps", "Importance maps", folded_at_chance(results, map_section(results, gallery), "Maps")),
        Section(
            "reproducibility",
            "Reproducibility",
            folded_at_chance(results, _reproducibility(results, gallery), "Curves"),
        ),
        Section("univariate", "Univariate", univariate_section(results, gallery)),
        Section("regions", "Regions", folded_at_chance(results, region_section(results, gallery), "Regions")),
    ]


def _subtitle(results: Results) -> str:
    manifest = results.manifest
    parts = [
        count(len(manifest.get("subjects", [])), "subject"),
        f"{len(results.classes)} classes",
        f"task {', '.join(manifest['tasks'])}" if manifest.get("tasks") else "",
        manifest.get("space") or "native space",
    ]
    return " · ".join(part for part in parts if part)


def _summary(results: Results) -> list[Any]:
    manifest = results.manifest
    blocks: list[Any] = verdict_blocks(results)
    row = overall_row(results.table("accuracy_tests"))
    if row is not None:
        blocks.append(
            Text(
                f"Held-out samples were classified with a mean accuracy of {percent(row['mean'])} (chance "
                f"{percent(manifest['chance'])}; permuted labels {percent(row['null_mean'])}, at most "
                f"{percent(row['null_max'])}): p = {number(float(row['p']))} in "
                f"{number(row['n_permutations'])} permutations."
            )
        )
    failed = manifest.get("failed_subjects") or []
    if failed:
        blocks.append(
            Alert(f"Not part of these results, because they failed: {', '.join(failed)}.", "failure")
        )
    if manifest.get("warnings"):
        blocks.append(Alert(f"{count(len(manifest['warnings']), 'warning')}, listed below.", "warning"))
    resolution = manifest.get("resolution")
    facts = [
        ("Subjects", number(len(manifest.get("subjects", [])))),
        ("Samples", number(manifest.get("n_samples"))),
        ("Classes", ", ".join(results.classes)),
        ("Voxels", number(manifest.get("n_voxels"))),
        ("Space and resolution", f"{manifest.get('space') or 'native'}, {_mm(resolution)}"),
        ("Cross-validation", _folds(results)),
        ("Runs (true labels)", number(manifest.get("n_runs"))),
        ("Permutations (thresholds)", number(manifest.get("n_permutations"))),
        ("Permutations (reproducibility)", number(manifest.get("n_null"))),
        ("Labels permuted within", _exchange(results)),
        ("Smallest p within reach", number(manifest.get("smallest_p"))),
        ("Measures of importance", ", ".join(results.methods)),
    ]
    blocks.append(Facts(facts))
    table = _sample_table(results)
    return [*blocks, table] if table else blocks


def _folds(results: Results) -> str:
    manifest = results.manifest
    n_folds, dealt = manifest.get("n_folds"), manifest.get("n_repeats") or 1
    anew = f" ({number(n_folds // dealt)}, dealt {number(dealt)} times)" if n_folds and dealt > 1 else ""
    return f"{manifest.get('cv', 'n/a')}, {number(n_folds)} folds{anew}"


def _exchange(results: Results) -> str:
    within = results.settings.get("exchange_within")
    scheme = plain(results.manifest.get("permute"))
    return f"{scheme}, and levels of {within}" if within else scheme


def _mm(resolution: float | None) -> str:
    return f"{number(resolution)} mm" if resolution else "resolution of the images"


def _sample_table(results: Results) -> Table | None:
    samples = results.table("samples")
    if not len(samples):
        return None
    counts = samples.groupby(["subject", "class"]).size().unstack(fill_value=0)
    counts = counts.reindex(columns=results.classes, fill_value=0)
    rows = [
        [f"sub-{subject}", *(number(value) for value in row), number(row.sum())]
        for subject, row in counts.head(_MOST_SUBJECTS).iterrows()
    ]
    total = counts.sum()
    rows.append([f"all {len(counts)}", *(number(value) for value in total), number(total.sum())])
    more = f" (first {_MOST_SUBJECTS} subjects)" if len(counts) > _MOST_SUBJECTS else ""
    return Table(["Subject", *results.classes, "all"], rows, f"Samples by subject and class{more}.")


def _accuracy(results: Results, gallery: Gallery) -> list[Any]:
    accuracy, tests = results.table("accuracy"), results.table("accuracy_tests")
    if not len(accuracy):
        return []
    chance = float(results.manifest["chance"])
    caption = (
        f"Accuracy on held-out samples over {count(results.manifest.get('n_runs'), 'run')} with true labels "
        f"and {number(results.manifest.get('n_permutations'))} with permuted labels; by class, the fraction "
        "of its samples that are recognised. Figures: mean ± SD over runs (%)."
    )
    alt = "Violin plots of accuracy for all classes together and for each class, true and permuted labels"
    picture = gallery.drawing(accuracy_violins(accuracy, results.classes, chance), "accuracy", alt, caption)
    if not len(tests):
        return [picture]
    rows = [
        [
            "all classes" if row["scope"] == ALL_CLASSES else row["scope"],
            *(percent(row[name]) for name in ("chance", "mean", "sd", "null_mean", "null_sd", "null_max")),
            p_text(row),
        ]
        for _, row in tests.iterrows()
    ]  # fmt: skip
    header = ["", "Chance", "Mean", "SD", "Null mean", "Null SD", "Null maximum", "p"]
    caption = (
        "Accuracy and its permutation test; p = (b + 1)/(m + 1), one-sided, uncorrected over rows."
        f"{marks_explained(tests)}"
    )
    scores = score_table(results, "the classifier")
    return [picture, Table(header, rows, caption), *scores, *people_parts(results, gallery)]


def _confusion(results: Results, gallery: Gallery) -> list[Any]:
    confusion = results.table("confusion")
    if not len(confusion):
        return []
    caption = (
        "Per cent of the held-out samples of each true class (rows) by predicted class (columns), mean over "
        "runs. With permuted labels the “true” class is the permuted one."
    )
    alt = "Confusion matrices with true and with permuted labels"
    return [gallery.drawing(confusion_matrices(confusion, results.classes), "confusion", alt, caption)]


def _reproducibility(results: Results, gallery: Gallery) -> list[Any]:
    curves, thresholds = results.table("curves"), results.table("thresholds")
    if not len(curves):
        return []
    curves = curves[(curves["alpha"] - results.alpha).abs() < 1e-12]
    if len(thresholds):
        thresholds = thresholds[(thresholds["alpha"] - results.alpha).abs() < 1e-12]
    null = (
        "Dotted: the second set of permutations; triangles: the highest reproducibility that any voxel "
        "reaches there."
        if results.manifest.get("n_null")
        else "No second set of permutations was run."
    )
    caption = (
        f"Number of voxels by the fraction of runs in which they pass p ≤ {results.alpha:g}, {{}}. {null} "
        "Vertical axis logarithmic above 1. Runs with true labels share these labels: a voxel that passes by "
        f"chance does so in most of them{_expected(results)}."
    )
    methods, classes = results.methods, results.classes
    by_method = reproducibility_curves(curves, thresholds, methods, classes)
    by_class = reproducibility_curves(curves, thresholds, classes, methods, panel_column="class")
    alt = "Reproducibility curves, one panel per {}"
    overlap = overlap_pictures(results, gallery)
    return [
        gallery.drawing(
            by_method, "curves-by-method", alt.format("measure"), caption.format("by measure of importance")
        ),
        Part(
            "curves-by-class",
            "Measures compared within each class",
            [gallery.drawing(by_class, "curves-by-class", alt.format("class"), caption.format("by class"))],
        ),
        *([Part("overlap", "Measures that agree", overlap)] if overlap else []),
    ]


def _expected(results: Results) -> str:
    """Say how many voxels pass by chance, for the end of a sentence; nothing where the table does not."""
    table = results.table("thresholds")
    if "n_voxels_chance" not in table:
        return ""
    expected = table.loc[(table["alpha"] - results.alpha).abs() < 1e-12, "n_voxels_chance"]
    few, many = number(float(expected.min())), number(float(expected.max()))
    return f", and {few if few == many else f'{few} to {many}'} voxels of a measure and class are expected to"


def _methods(results: Results) -> list[Any]:
    paragraphs = methods_paragraphs(results)
    blocks: list[Any] = [Text("Text for a paper, also in logs/CITATION.md; references in logs/CITATION.bib.")]
    blocks += [
        Part(f"methods-{number_}", paragraph.title, [Text(with_authors(paragraph.text))])
        for number_, paragraph in enumerate(paragraphs)
    ]
    notes = [with_authors(note) for note in caveats(results)]
    blocks.append(Part("caveats", "Notes on interpretation", [Lines(notes)]))
    references = sorted(REFERENCES[key].text() for key in citation_keys(results))
    return [*blocks, Part("references", "References", [Lines(references)])]


def _warnings(results: Results) -> list[Any]:
    warnings = results.manifest.get("warnings") or []
    if not warnings:
        return [Text("None.")]
    return [Alert(str(warning), "warning") for warning in warnings]


def _settings(results: Results) -> list[Any]:
    rows = [[name, plain(value)] for name, value in results.settings.items()]
    blocks: list[Any] = []
    if rows:
        blocks.append(Text("logs/config.toml runs this analysis again."))
        blocks.append(Fold("All settings", [Table(["Setting", "Value"], rows, "Settings of this analysis.")]))
    versions = results.manifest.get("versions") or {}
    if versions:
        table = Table(
            ["Package", "Version"], [[key, str(value)] for key, value in versions.items()], "Software."
        )
        blocks.append(Fold("Versions", [table]))
    return blocks
