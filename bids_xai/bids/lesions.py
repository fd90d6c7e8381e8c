"""Lesion masks of people in a folder of derivatives."""

from __future__ import annotations

from pathlib import Path

from bids_xai.errors import InputError


def find_lesion_masks(folder: Path, label: str = "lesion") -> dict[tuple[str, str], Path]:
    """Return the lesion mask of every participant and session (``""``: none).

    Parameters
    ----------
    folder
        Derivatives: ``sub-*/**/*label-<label>_mask.nii.gz``; where a person has several, the one with a
        ``space`` is taken, as heatmaps are in a space.
    label
        What the masks are of.

    Raises
    ------
    InputError
        There is none, or a person has several in one session that differ in more.
    """
    found: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(folder.glob(f"sub-*/**/*label-{label}_mask.nii.gz")):
        entities = dict(part.split("-", 1) for part in path.name.split("_") if "-" in part)
        found.setdefault((entities["sub"], entities.get("ses", "")), []).append(path)
    if not found:
        raise InputError(
            f"{folder} holds no sub-*/**/*label-{label}_mask.nii.gz.",
            "BIDS derivatives with a lesion mask per person, in the space of the analysis",
            "correct --lesion-masks, or name the label of its masks with --lesion-label",
        )
    chosen = {}
    for key, paths in found.items():
        in_space = [path for path in paths if "_space-" in path.name] or paths
        if len(in_space) > 1:
            raise InputError(
                f"sub-{key[0]} has {len(in_space)} lesion masks: {in_space[0]}, {in_space[1].name}.",
                "one per person and session in the space of the analysis",
                "keep that one in the folder of --lesion-masks",
            )
        chosen[key] = in_space[0]
    return chosen
