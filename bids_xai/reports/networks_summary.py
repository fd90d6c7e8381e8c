"""What the page of networks says first: the score, and what it does not allow to conclude."""

from __future__ import annotations

import math
from typing import Any

from bids_xai.reports.html import Alert, Facts, Table, Text, count, number, percent, plain
from bids_xai.reports.networks_explanations import title_of
from bids_xai.reports.networks_scores import main_score
from bids_xai.reports.results import Results
from bids_xai.reports.verdict import above_chance, verdict_blocks

FEWEST_PEOPLE = 20
_EARLY = 3  # epochs
_ONE_SIDED = 1.645  # standard deviations, for a level of .05


def summary_blocks(results: Results) -> list[Any]:
    """Return what the page says first: the score and what it allows to conclude, then the facts."""
    manifest = results.manifest
    blocks = verdict_blocks(results) + [Text(text) for text in [_score_sentence(results)] if text]
    blocks += [Alert(text, "warning") for text in conclusions(results)]
    failed = manifest.get("failed_subjects") or []
    if failed:
        blocks.append(
            Alert(f"Not part of these results, because they failed: {', '.join(failed)}.", "failure")
        )
    if manifest.get("warnings"):
        blocks.append(Alert(f"{count(len(manifest['warnings']), 'warning')}, listed below.", "warning"))
    return [*blocks, _facts(results), *_samples(results)]


def people_per_class(results: Results) -> dict[str, int]:
    """Return the number of people with a sample of each class; empty where samples are not listed."""
    samples = results.table("samples")
    if not len(samples) or not {"subject", "class"} <= set(samples.columns):
        return {}
    counts = samples.groupby("class")["subject"].nunique()
    return {name: int(counts.get(name, 0)) for name in results.classes}


def _score_sentence(results: Results) -> str:
    score = main_score(results)
    if score is None:
        return ""
    start = (
        f"Held-out samples were classified with a balanced accuracy of {percent(score['mean'])} (chance "
        f"{percent(results.manifest['chance'])}"
    )
    if above_chance(results) is None:
        return f"{start}). No permutations: no p-value."
    return (
        f"{start}; permuted labels {percent(score.get('null_mean'))}, at most "
        f"{percent(score.get('null_max'))}): p = {number(float(score['p']))} in "
        f"{count(score.get('n_permutations'), 'permutation')}."
    )


def conclusions(results: Results) -> list[str]:
    """Return what these results do not allow to conclude; empty where nothing stands against them."""
    notes = []
    people = people_per_class(results)
    few = [f"{name} {n}" for name, n in people.items() if n < FEWEST_PEOPLE]
    if few:
        notes.append(
            f"This sample is too small to conclude anything: fewer than {FEWEST_PEOPLE} people of a class "
            f"({', '.join(few)}). What a network learns from so few need not hold for anybody else: scores "
            "and heatmaps show that the analysis runs, not what differs between the classes."
        )
    if learnt_nothing(results):
        notes.append(
            f"Nothing was learnt: in every training the weights that were kept are of one of the first "
            f"{_EARLY} epochs, and held-out samples were classified at chance. The explanations below are of "
            "networks that tell nothing apart."
        )
    return notes


def learnt_nothing(results: Results) -> bool:
    """Return whether every training kept an epoch of the first three, and scores are at chance.

    At chance: a balanced accuracy that is not significant or, without permutations, at most ``c + 1.645
    sqrt(c (1 - c) / n)``, c being chance and n the number of held-out samples.
    """
    trainings, score = results.table("trainings"), main_score(results)
    if score is None or "best_epoch" not in trainings or not (trainings["best_epoch"] <= _EARLY).all():
        return False
    above = above_chance(results)
    if above is not None:
        return not above
    chance = float(results.manifest["chance"])
    predictions = results.table("predictions")
    n = predictions["sample"].nunique() if "sample" in predictions else results.manifest.get("n_samples")
    margin = _ONE_SIDED * math.sqrt(chance * (1 - chance) / n) if n else 0.0
    return bool(score["mean"] <= chance + margin)


def _facts(results: Results) -> Facts:
    manifest = results.manifest
    shape, resolution = manifest.get("shape"), manifest.get("resolution")
    start = " of the ".join(
        str(part)
        for part in (manifest.get("explain_start"), _explained(manifest.get("explain_class")))
        if part
    )
    grid = " × ".join(map(str, shape)) if shape else "n/a"
    size = f"{number(resolution)} mm" if resolution else "resolution of the images"
    return Facts([
        ("Subjects", number(len(manifest.get("subjects", [])))),
        ("Samples", number(manifest.get("n_samples"))),
        ("Classes", ", ".join(results.classes)),
        ("Positive class", plain(manifest.get("positive"))),
        ("Network", plain(manifest.get("model"))),
        ("Parameters", number(manifest.get("n_parameters"))),
        ("Input", f"{grid} voxels, {number(manifest.get('n_voxels'))} in the mask"),
        ("Space and resolution", f"{manifest.get('space') or 'native'}, {size}"),
        ("Cross-validation", f"{manifest.get('cv', 'n/a')}, {count(manifest.get('n_folds'), 'fold')}"),
        ("Runs (true labels)", number(manifest.get("n_runs"))),
        ("Permutations", number(manifest.get("n_permutations"))),
        ("Smallest p within reach", number(manifest.get("smallest_p"))),
        ("Explanations", ", ".join(title_of(results, name) for name in results.methods)),
        ("Explained", start or "n/a"),
    ])  # fmt: skip


def _explained(class_: str | None) -> str:
    words = {"true": "true class", "predicted": "predicted class"}
    return words.get(class_ or "", f"class {class_}" if class_ else "")


def _samples(results: Results) -> list[Any]:
    per_class = results.manifest.get("samples_per_class") or {}
    if not per_class:
        return []
    people = people_per_class(results)
    rows = [
        [name, number(people.get(name)), number(per_class.get(name))]
        for name in results.classes
        if name in per_class
    ]
    return [Table(["Class", "People", "Samples"], rows, "People and samples of each class.")]
