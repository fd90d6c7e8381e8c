"""What tests of softmax maps find of a planted distributed pattern, beside t and nilearn's permuted_ols.

    python tests/benchmarks/bench_map_power.py --data-sets 10 --permutations 199 --runs 20

600 voxels, 120 of them with a pattern, 192 samples of eight participants (:mod:`tests.planted`). Compared
with single trainings on permuted labels is the mean of ``--runs`` trainings on the true ones, at alpha .05.
Per training and measure: accuracy; rate and family-wise rate at voxels without information; sensitivity of
single voxels, and power at that family-wise error, also as a share of that of permuted_ols; correlation of
the mean map with t (to be read where voxels are independent, ``--shared 0``).

Trainings: ``published`` (l2 0, learning rate .005, 10 000 updates), ``l2 1`` and ``l2 5`` (learning rate
.005), ``default`` (:meth:`bids_xai.decoding.softmax.SgdParameters.of`), and ``decay x`` with x times its
decay. ``--updates`` of those with a decay; they converge in a few hundred.
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import pandas as pd
from nilearn.mass_univariate import permuted_ols

from bids_xai.attribution import IMPORTANCES, MAP_VALUES, RAW
from bids_xai.decoding.basis import training_basis
from bids_xai.decoding.softmax import SgdParameters
from tests.planted import CLASSES, Planted, permutations, planted, rates, t_maps, trained_maps

PUBLISHED = "published"
FIXED = {"l2 1": 1.0, "l2 5": 5.0}


def parameters(name: str, data: Planted, n_updates: int) -> SgdParameters:
    """Return the training of a name."""
    if name == PUBLISHED:
        return SgdParameters(learning_rate=0.005, l2=0.0)
    if name in FIXED:
        return SgdParameters(learning_rate=0.005, l2=FIXED[name], n_updates=n_updates)
    own = SgdParameters(n_updates=n_updates).of(training_basis(data.X))
    if name == "default":
        return own
    return SgdParameters(own.step, l2=own.decay * float(name.removeprefix("decay ")), n_updates=n_updates)


def of_ols(data: Planted, n_permutations: int, seed: int) -> dict[str, float]:
    """Return what nilearn's permuted_ols finds family-wise, one-sided."""
    target = data.design.labels[:, None] == np.arange(len(CLASSES))
    log_p = permuted_ols(
        target.astype(float), data.X, n_perm=n_permutations, two_sided_test=False, random_state=seed,
        n_jobs=1, verbose=0, output_type="dict",
    )["logp_max_t"]  # fmt: skip
    found = log_p >= -np.log10(0.05) - 1e-9
    return {
        "fwer": float(found[:, ~data.informative].any(axis=1).mean()),
        "power": float(
            np.mean([own[voxels].mean() for own, voxels in zip(found, data.favoured, strict=True)])
        ),
    }


def analyse(number: int, options: argparse.Namespace) -> list[dict[str, object]]:
    """Return the rows of a data set."""
    data = planted(number, amplitude=options.amplitude, shared=options.shared)
    labels = data.design.labels
    permuted = permutations(data, options.permutations, [number, 1])
    t = t_maps(data.X, np.concatenate([labels[None], permuted]))
    rows: list[dict[str, object]] = [
        {
            "training": "-",
            "values": "-",
            "measure": "permuted_ols",
            **of_ols(data, options.permutations, number),
        },
        {"training": "-", "values": "-", "measure": "t"}
        | {name: float(value[0]) for name, value in rates(t[0], t[1:], data).items()},
    ]
    for training in options.trainings:
        for values in options.values:
            own = parameters(training, data, options.updates)
            real, scores = trained_maps(data, np.stack([labels] * options.runs), [number, 2], own, values)
            null, _ = trained_maps(data, permuted, [number, 3], own, values)
            mean = real.mean(axis=0)
            found = rates(mean, null, data)
            for m, measure in enumerate(IMPORTANCES):
                correlation = np.mean(
                    [np.corrcoef(mean[m, c], t[0, 0, c])[0, 1] for c in range(len(CLASSES))]
                )
                rows.append(
                    {"training": training, "values": values, "measure": measure, "accuracy": scores.mean()}
                    | {name: float(value[m]) for name, value in found.items()}
                    | {"r with t": correlation}
                )
    return rows


def main() -> None:
    """Print the table, of the data sets so far after each of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-sets", type=int, default=10)
    parser.add_argument("--permutations", type=int, default=199)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--amplitude", type=float, default=0.27)
    parser.add_argument("--shared", type=float, default=0.5)
    parser.add_argument("--trainings", nargs="+", default=[PUBLISHED, "default"])
    parser.add_argument("--values", nargs="+", default=[RAW, *(v for v in MAP_VALUES if v != RAW)])
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    for number in range(options.data_sets):
        rows += analyse(number, options)
        table = pd.DataFrame(rows).groupby(["training", "values", "measure"], sort=False).mean()
        table["of permuted_ols"] = table["power"] / table.loc[("-", "-", "permuted_ols"), "power"]
        print(f"{number + 1} data sets, {options}\n{table.round(3).to_string(na_rep='')}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
