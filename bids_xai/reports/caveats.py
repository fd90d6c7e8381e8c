"""What a reader must know before reading the maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bids_xai.attribution import IMPORTANCES, RAW
from bids_xai.inference.accuracy import COUNTED
from bids_xai.registry import Attribution
from bids_xai.reports.caveats_networks import network_caveats, on_groups
from bids_xai.reports.html import listed, number
from bids_xai.reports.results import Results
from bids_xai.reports.verdict import verdict

_PATTERN = "Haufe"


def caveats(results: Results) -> list[str]:
    """Return what a reader must know before reading the maps, with citations."""
    first = [text for text in [verdict(results)] if text]
    if results.of_networks:
        return [*first, *network_caveats(results)]
    manifest = results.manifest
    notes = [*first, *_on_weights(results.methods)]
    if manifest.get("tail", "greater") == "greater":
        notes.append(
            "Thresholds are one-sided: only importance larger than under permutation is marked, so evidence "
            "that speaks against a class is not."
        )
    notes.append(
        "Per-voxel thresholds hold for each voxel by itself; over all voxels a fraction α passes by chance. "
        "The family-wise and false-discovery-rate counts stand beside them, and maps of what survives them "
        "come first."
    )
    notes += _on_false_discovery(results)
    smallest = manifest.get("smallest_p")
    unreachable = [alpha for alpha in manifest["alphas"] if smallest is not None and alpha < smallest]
    if unreachable:
        levels = ", ".join(f"{alpha:g}" for alpha in unreachable)
        notes.append(
            f"The smallest p that this design can reach is {number(smallest)}: no voxel can pass at α = "
            f"{levels}."
        )
    asked, done = results.settings.get("n_permutations") or 0, manifest.get("n_permutations") or 0
    if results.settings.get("stop_after_exceedances") and done < asked:
        notes.append(
            f"Permuting stopped after {number(done)} of {number(asked)} permutations because of the "
            "accuracy, whose p-value accounts for it. Those of classes, people and voxels, and thresholds, "
            "are of the permutations that there were."
        )
    tails = results.table("tails")
    if len(tails):
        few, fitted = int(tails["n_voxels_p_few"].sum()), int(tails["n_voxels_p_fitted"].sum())
        notes.append(
            "P-values below one over the number of permutations rest on the fitted tail of the null "
            "[@knijnenburg2009], an extrapolation. Over all measures and classes, fewer than 10 permutations "
            f"reach the importance in {number(few)} voxels, {number(fitted)} of which have a tail that fits; "
            "the others are counted, as are thresholds and what passes them."
        )
    if manifest.get("n_null"):
        notes.append(
            "The reproducibility threshold is the published one: runs with true labels share these labels, "
            "while each permuted run has labels of its own. A voxel that passes by chance with the true "
            "labels does so in many runs, so that exceeding the threshold is no family-wise significance: "
            "without any information, voxels exceeded it in every second to all of simulated data sets. The "
            "table of thresholds says how many are to be expected by chance. The same holds of "
            "the maps of how many measures agree."
        )
    if manifest.get("cv") == "event":
        notes.append(
            "Held-out events come from the runs that the classifier was trained on: the accuracy is that of "
            "other events of the same runs, and says nothing of other runs or people."
        )
    notes += on_groups(results)
    notes += _on_scales(results)
    notes.append(
        "t and F maps treat samples as independent observations, as in the publication; with repeated "
        "measures of few subjects they describe the samples and are no test of the population."
    )
    return notes


def _on_scales(results: Results) -> list[str]:
    """Return what follows from how maps were compared, and what the measures find."""
    entries = [IMPORTANCES[name] for name in results.methods]
    if results.manifest.get("map_values", RAW) == RAW:
        loose = [entry for entry in entries if not entry.scale_has_meaning]
        by_scale = {scale: [own.name for own in loose if own.scale == scale] for scale in _scales(loose)}
        return [
            f"The size of the maps of {listed(names)} follows {scale}. They were compared as they are "
            "(--map-values raw), so that voxels can pass, or fail to, whatever they hold."
            for scale, names in by_scale.items()
        ]
    notes = []
    powers = [(entry.power, entry.name) for entry in entries if entry.power is not None]
    if powers and results.settings.get("l2") is None:
        listing = ", ".join(f"{name} {power:g}" for power, name in sorted(powers, reverse=True))
        notes.append(
            "How much measures find: in simulations with a distributed pattern and the default training, the "
            "family-wise test found so many informative voxels for one that ordinary least squares with "
            f"permutation finds (nilearn's permuted_ols): {listing}. Where a measure that finds little marks "
            "nothing, that says little."
        )
    words = [f"{entry.name} {entry.t_correlation:g}" for entry in entries if entry.t_correlation]
    if words:
        notes.append(
            "In noise that voxels do not share, some measures say the same as a univariate t of the class "
            f"against the others: the correlation with t over voxels is {listed(words)}. There they are no "
            "evidence beyond it."
        )
    return notes


def _scales(entries: Sequence[Attribution]) -> list[str]:
    return list(dict.fromkeys(entry.scale for entry in entries))


def _on_false_discovery(results: Results) -> list[str]:
    """Say what false discovery rates of counted p-values cannot find."""
    manifest = results.manifest
    m, n_voxels = manifest.get("n_permutations") or 0, manifest.get("n_voxels") or 0
    if manifest.get("q_from") != COUNTED or not m:
        return []
    needed = ", ".join(
        f"{number(int(np.ceil(n_voxels / (alpha * (m + 1)))))} at α = {alpha:g}"
        for alpha in manifest["alphas"]
    )
    return [
        f"With {number(m)} permutations the tail of the null cannot be fitted, and false discovery rates are "
        f"of counted p-values: they find something only where so many voxels have the smallest p: {needed}."
    ]


def _on_weights(methods: Sequence[str]) -> list[str]:
    """Return what weights and patterns say, and do not say."""
    notes = []
    if set(methods) - {_PATTERN}:
        notes.append(
            "Weights say what the classifier reads, not where the signal is: a voxel may get weight because "
            "it cancels noise in another [@haufe2014]. Permutation does not remove such voxels, for the "
            "classifier does use them. W and LRP-W2 inherit this fully; measures that multiply with the "
            "input (WX, OD, LRP-z) inherit it in part. "
            + (
                "Compare them with the Haufe patterns, in which such voxels drop out."
                if _PATTERN in methods
                else f"--importance {_PATTERN} adds the patterns in which such voxels drop out."
            )
        )
    if _PATTERN in methods:
        notes.append(
            "Haufe patterns say where the signal is that the classifier reads [@haufe2014], not what it "
            "needs: a voxel whose signal others hold as well is in the pattern, with or without a weight. "
            "Where a classifier fits its training samples closely, they come close to differences of class "
            "means; where it cancels noise in part only, some of that noise stays in them."
        )
    return notes
