"""What a reader must know before reading the maps."""

from __future__ import annotations

from collections.abc import Sequence

from bids_xai.reports.caveats_networks import network_caveats, on_groups
from bids_xai.reports.html import number
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
        "The family-wise and false-discovery-rate counts stand beside them."
    )
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
            "labels does so in many runs, so that exceeding the threshold is no family-wise significance."
        )
    if manifest.get("cv") == "event":
        notes.append(
            "Held-out events come from the runs that the classifier was trained on: the accuracy is that of "
            "other events of the same runs, and says nothing of other runs or people."
        )
    notes += on_groups(results)
    if "LRP-W2" in results.methods:
        notes.append(
            "Relevance by LRP-W2 sums to the output of the class: where the classifier succeeds, all voxels "
            "gain over permuted labels, and many pass thresholds without carrying information."
        )
    notes.append(
        "t and F maps treat samples as independent observations, as in the publication; with repeated "
        "measures of few subjects they describe the samples and are no test of the population."
    )
    return notes


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
