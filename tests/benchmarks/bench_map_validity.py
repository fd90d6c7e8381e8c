"""Do maps of networks that pass lie where the signal is? Every explanation, raw beside shares.

``python tests/benchmarks/bench_map_validity.py --sets 6`` makes data sets of noise, 10 x 10 x 10 voxels, with
one blob that carries the class, trains a small network on the true and on permuted labels, explains the
held-out samples by every registered explanation from the logit and from the probability, and tests the mean
heatmaps as a run does (:func:`bids_xai.attribution.held_out.explain_fold`,
:func:`bids_xai.inference.networks.map_test`), as they are and as shares.

The rate is that of voxels without information, three voxels or more from the blob, with p at most .05. Its
bound is what a valid test exceeds once in a hundred: .05 plus 2.33 standard errors, from how much the rates
of permuted trainings differ, for neighbouring voxels share cells and windows; the first line gives what it
would be were all voxels independent. The sensitivity is the share of the blob's voxels that pass. Class 1 has
the blob; it is explained for the samples of both classes.
About 90 s a data set on one quiet core.

A cell of Grad-CAM at the last convolution sees 8 voxels along an axis, and its value goes to the voxels up to
two from its centre: within six voxels of the blob every voxel's value has information on the class, and in
a volume of 10 none lies farther. ``--side 16 --explain grad-cam guided-grad-cam`` has voxels that do, and the
rate of these two is that of them; ``grad-cam:layer=0`` looks at the first convolution.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from bids_xai.attribution import EXPLANATIONS, RAW, SHARE
from bids_xai.attribution.explain import parse_explanation
from bids_xai.attribution.held_out import HeldOut, explain_fold
from bids_xai.decoding.networks import NetworkParameters, predict, train_network
from bids_xai.inference.networks import map_test
from bids_xai.models.outputs import KINDS

RADIUS, ALPHA = 1.5, 0.05
# Voxels from the blob from which on a value says nothing of it: of most explanations, and along one axis of
# those that give every voxel what a cell of the last convolution sees.
_APART, _SEEN_BY_CELLS = 3, 6
_BY_CELLS = ("grad-cam", "guided-grad-cam")
_OPTIONS = {
    "integrated-gradients": "steps=10",
    "occlusion": "box=4x4x4,stride=2,batch_size=64",
    "region-occlusion": "batch_size=64",
}
_BESIDES = ("lrp-alpha-beta:beta=0.5", "guided-backprop:absolute=true", "grad-cam:layer=0")


def small(shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    """Two convolutions and a dense layer."""
    cells = int(np.prod([size // 2 for size in shape]))
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(4, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * cells, n_classes),
    )


class Planted(NamedTuple):
    """Volumes of noise with a blob in class 1, their classes, and masks of voxels, raveled."""

    volumes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    inside: npt.NDArray[np.bool_]
    far: npt.NDArray[np.bool_]
    unseen: npt.NDArray[np.bool_]


def planted(seed: int, n: int, amplitude: float, side: int) -> Planted:
    """Return volumes, the voxels of the blob, those far away, and those of cells that do not see it."""
    rng = np.random.default_rng([seed, 7])
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1)
    away = grid - rng.integers(2, side - 2, 3)
    distance = np.linalg.norm(away, axis=-1)
    labels = np.tile([0, 1], n // 2)
    volumes = rng.normal(size=(n, side, side, side))
    volumes += amplitude * labels[:, None, None, None] * np.exp(-(distance**2) / (2 * 1.2**2))
    inside, far = distance <= RADIUS, distance >= RADIUS + _APART
    unseen = np.abs(away).max(axis=-1) >= RADIUS + _SEEN_BY_CELLS
    return Planted(volumes.astype(np.float32), labels, inside.ravel(), far.ravel(), unseen.ravel())


def explanations() -> list[str]:
    """Return every registered explanation with the options used here, and variants of some."""
    named = [f"{name}:{_OPTIONS[name]}" if name in _OPTIONS else name for name in EXPLANATIONS]
    return [*named, *_BESIDES]


class Row(NamedTuple):
    """What one data set says of an explanation; ``spread`` is the SD of the rate of permuted trainings."""

    start: str
    name: str
    group: str
    values: str
    accuracy: float
    rate: float
    sensitivity: float
    spread: float


def one_set(seed: int, names: Sequence[str], options: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for every start, explanation, class of the samples and kind of values."""
    sizes = (options.train, 20, options.test)
    side = options.side
    volumes, labels, inside, far, unseen = planted(seed, sum(sizes), options.amplitude, side)
    train, validation, test = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    thirds = np.minimum(np.arange(side) // 3, 2)
    regions = (1 + 9 * thirds[:, None, None] + 3 * thirds[:, None] + thirds).astype(np.int32)
    parameters = NetworkParameters(
        model=f"{Path(__file__).stem}:small", flip=0, shift=0, input_scaling="none", monitor="loss",
        learning_rate=3e-3, batch_size=16, max_epochs=options.epochs, patience=options.epochs,
    )  # fmt: skip
    found: dict[tuple[str, str], list[npt.NDArray[np.float32]]] = defaultdict(list)
    accuracy = np.nan
    for number in range(options.permutations + 1):
        rng = np.random.default_rng([seed, number])
        used = labels if number == 0 else rng.permutation(labels)
        network = train_network(
            volumes, used, train, validation, parameters=parameters, n_classes=2, seed=1000 * seed + number
        ).network
        said = predict(network, volumes, test, batch_size=len(test)).argmax(axis=1)
        accuracy = float((said == used[test]).mean()) if number == 0 else accuracy
        held_out = HeldOut(volumes[test], used[test], said[None], n_classes=2)
        for kind in KINDS:
            result = explain_fold(
                [lambda network=network: network], held_out, [parse_explanation(text) for text in names],
                np.ones((side,) * 3, dtype=bool), of_class=options.of_class, kind=kind,
                batch_size=len(test), regions=regions, keep=False, map_values=SHARE, shown_values=RAW,
            )  # fmt: skip
            for values, sums in ((SHARE, result.tested), (RAW, result.sums)):
                found[kind, values].append(sums[0, :, :2] / result.counts[0, :2, None])
    for (kind, values), maps in found.items():
        passed = map_test(maps[0], maps[1:], tail=options.tail).p <= ALPHA
        # Which of all trainings, the true one and the permuted ones, is the largest in a voxel.
        largest = np.argmax(np.abs(maps) if options.tail == "two-sided" else maps, axis=0)
        for number, name in enumerate(names):
            without = unseen if name in _BY_CELLS and unseen.any() else far
            for group in (0, 1):
                own = passed[number, group]
                shares = np.bincount(largest[number, group, without], minlength=len(maps)) / without.sum()
                yield Row(
                    kind, name, str(group), values, accuracy,
                    own[without].mean(), own[inside].mean(), shares[1:].std(ddof=1),
                )  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Print rate and sensitivity of every explanation."""
    options = parse(argv)
    torch.set_num_threads(1)
    names = options.explain or explanations()
    rows: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    n_far = 0
    for seed in range(options.first, options.first + options.sets):
        for row in one_set(seed, names, options):
            rows[row[:4]].append(row)
        n_far += int(planted(seed, 2, 1.0, options.side).far.sum())
        print(f"set {seed}: accuracy {row.accuracy:.3f}", flush=True)
        report(rows, n_far)


def report(rows: dict[tuple[str, ...], list[Row]], n: int) -> None:
    """Print the means over the data sets so far."""
    accuracies = [row.accuracy for row in next(iter(rows.values()))]
    print(
        f"{len(accuracies)} data sets, accuracy {np.mean(accuracies):.3f} ({min(accuracies):.3f} to "
        f"{max(accuracies):.3f}); {n} voxels without information: bound of the rate, were they independent, "
        f"{stats.binom.ppf(0.99, n, ALPHA) / n:.3f}"
    )
    print(f"{'start':12s}{'explanation':44s}class  raw: rate  sens.  share: rate  bound  sens.")
    for (kind, name, group, values), found in rows.items():
        if values == SHARE:
            raw = rows[kind, name, group, RAW]
            rate = np.mean([row.rate for row in found])
            error = np.sqrt(np.sum([row.spread**2 for row in found])) / len(found)
            bound = ALPHA + stats.norm.ppf(0.99) * error
            print(
                f"{kind:12s}{name:44s}{group:6s}{np.mean([row.rate for row in raw]):10.3f}"
                f"{np.mean([row.sensitivity for row in raw]):7.2f}{rate:13.3f}{bound:7.3f}"
                f"{np.mean([row.sensitivity for row in found]):7.2f}{'' if rate <= bound else '  above'}"
            )
    sys.stdout.flush()


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=6, help="data sets")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--permutations", type=int, default=19)
    parser.add_argument("--side", type=int, default=10, help="voxels along an axis")
    parser.add_argument("--train", type=int, default=80, help="training samples")
    parser.add_argument("--test", type=int, default=40, help="held-out samples")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--amplitude", type=float, default=1.5, help="of the blob, in SD of the noise")
    parser.add_argument("--of-class", type=lambda text: int(text) if text.isdigit() else text, default=1)
    parser.add_argument("--tail", default="greater")
    parser.add_argument("--explain", nargs="+", help="explanations (default: all)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
