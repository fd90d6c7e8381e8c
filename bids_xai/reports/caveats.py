"""What a reader must know before reading the maps."""

from __future__ import annotations

from bids_xai.reports.html import number
from bids_xai.reports.results import Results


def caveats(results: Results) -> list[str]:
    """Return what a reader must know before reading the maps, with citations."""
    manifest = results.manifest
    notes = []
    if any(method in ("W", "LRP-W2") for method in results.methods):
        notes.append(
            "Weights say what the classifier reads, not where the signal is: a voxel may get weight because "
            "it cancels noise in another [@haufe2014]. W and LRP-W2 inherit this fully; measures that "
            "multiply with the input (WX, OD, LRP-z) inherit it in part."
        )
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
