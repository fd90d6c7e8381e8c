"""Compare the maps of a finished phantom run with the places the phantom was made with.

    python tests/benchmarks/phantom_recovery.py PHANTOM OUT

Per method, mean over the classes: what ``bids_xai.inference.recovery.recovery`` says of the voxels that pass
their threshold (p), and of those more reproducible than any voxel by chance.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nb
import pandas as pd

from bids_xai.inference.recovery import recovery


def main(phantom: Path, out: Path) -> None:
    """Print the table."""
    group = out / "group"
    results = json.loads((group / "results.json").read_text(encoding="utf-8"))
    inside = nb.load(group / results["mask"]).get_fdata() > 0
    thresholds = pd.read_csv(group / results["tables"]["thresholds"], sep="\t")
    rows = []
    for entry in results["maps"]:
        if entry["stat"] not in ("thresholded", "reproducibility"):
            continue
        values = nb.load(group / entry["path"]).get_fdata()[inside]
        criterion, detected = "p", values != 0
        if entry["stat"] == "reproducibility":
            chosen = thresholds[["method", "class", "alpha"]] == [
                entry["method"],
                entry["class"],
                entry["alpha"],
            ]
            limit = thresholds.loc[chosen.all(axis=1), "reproducibility_threshold"].item()
            criterion, detected = "reproducibility", values > limit + 1e-6
        (truth_file,) = phantom.glob(f"derivatives/truth/tpl-*/*_label-{entry['class']}_mask.nii.gz")
        truth = nb.load(truth_file).get_fdata()[inside] > 0
        rows.append(
            {
                "alpha": entry["alpha"],
                "criterion": criterion,
                "method": entry["method"],
                **{name: float(value) for name, value in recovery(detected, truth).items()},
            }
        )
    table = pd.DataFrame(rows).groupby(["criterion", "alpha", "method"], sort=False).mean()
    print(f"{inside.sum()} voxels, {int(truth.sum())} true ones of class {entry['class']}")
    print(table.round(4).to_string())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
