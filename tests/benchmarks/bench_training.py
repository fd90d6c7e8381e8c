"""Training in Gram space against a plain torch loop, and OD against one forward pass per voxel, in one run.

``python tests/benchmarks/bench_training.py`` takes the published size (2000 samples, 28586 voxels, 5 classes,
10000 minibatches of 20) with 200 models, each with a minibatch stream of its own; ``--samples`` and so on
change it, ``--sweep`` goes over numbers of classes, samples and minibatch sizes. Every part runs in a process
of its own, all with the same number of threads. The slow versions are timed on a part of the work
(``--loop-updates``, ``--loop-voxels``) and scaled up; warm-ups are not timed. Ours is everything that a model
needs: draws, initial weights, their logits, training, final weights, scores; draws and updates are also timed
alone. The share of sgemm sets the
operations that this takes in Gram space against the machine's rate of a product of two 4096 x 4096 matrices,
measured before and after.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import numpy.typing as npt
from parts import seconds, timed

_SWEEP = (
    {"classes": 2}, {"classes": 3}, {"classes": 8}, {"classes": 20},
    {"samples": 500}, {"samples": 5000}, {"batch": 1}, {"batch": 200},
)  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Time one part, or every part in a process of its own, and print the ratios."""
    options = parse(argv)
    if options.part:
        print(*(f"{value:.9g}" for value in PARTS[options.part](options)))
        return
    compare_training(options)
    if options.sweep:
        for change in _SWEEP:
            compare_training(argparse.Namespace(**{**vars(options), **change}))
        return
    (drawn,), (chosen,) = timed(__file__, "draw", options), timed(__file__, "choose", options)
    (closed,), (forward,) = timed(__file__, "closed", options), timed(__file__, "forward", options)
    report("minibatches of a model", drawn, chosen, "drawn at once", "Generator.choice")
    report("OD of a fold's held-out samples", closed, forward, "closed form", "one forward per voxel")


def compare_training(options: argparse.Namespace) -> None:
    """Print the ratio of one size."""
    (before,), (gram, ours), (updates,) = (
        timed(__file__, part, options) for part in ("sgemm", "gram", "updates")
    )
    (theirs,), (after,) = timed(__file__, "loop", options), timed(__file__, "sgemm", options)
    print(f"{options.samples} samples x {options.voxels} voxels, {options.classes} classes, ", end="")
    print(f"{options.updates} minibatches of {options.batch}, {options.threads} thread(s)")
    print(f"Gram matrix, once for all models        {gram:10.3f} s")
    report("training a model", ours, theirs, f"Gram space, mean of {options.models}", "torch loop")
    report("its minibatches and updates alone", updates, theirs, "Gram space", "torch loop")
    rate, best = operations(options) / ours, 2 * 4096**3 / min(before, after)
    print(
        f"    {rate / 1e9:.0f} of {best / 1e9:.0f} Gflop/s of sgemm: {100 * rate / best:.0f} %\n", flush=True
    )


def operations(options: argparse.Namespace) -> float:
    """Return the operations of one model in Gram space: updates, first logits, last weights."""
    updates = 2 * options.updates * options.batch * options.samples * (options.classes - 1)
    return updates + 2 * 2 * options.samples * options.voxels * options.classes


def report(title: str, ours: float, theirs: float, of_ours: str, of_theirs: str) -> None:
    """Print one comparison."""
    print(f"{title}:\n    {of_ours:36s}{ours:10.4f} s\n    {of_theirs:36s}{theirs:10.3f} s")
    print(f"    {'ratio':36s}{theirs / ours:10.1f}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--voxels", type=int, default=28586)
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=200, help="models trained in Gram space")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--loop-updates", type=int, default=500, help="updates of the plain loop timed")
    parser.add_argument("--loop-voxels", type=int, default=20, help="voxels set to zero one by one")
    parser.add_argument("--sweep", action="store_true", help="other sizes too")
    parser.add_argument("--part", choices=tuple(PARTS), help="time this part alone and print its seconds")
    return parser.parse_args(argv)


def data(options: argparse.Namespace) -> tuple[npt.NDArray, npt.NDArray[np.int64], np.random.Generator]:
    """Return samples with a weak pattern per class, their labels and a generator."""
    rng = np.random.default_rng(0)
    labels = np.arange(options.samples) % options.classes
    X = rng.standard_normal((options.samples, options.voxels), dtype=np.float32)
    X += 0.05 * rng.standard_normal((options.classes, options.voxels), dtype=np.float32)[labels]
    return X, labels, rng


def gram(options: argparse.Namespace) -> tuple[float, float]:
    """Time the Gram matrix, and models as an analysis trains them: 20 folds of a repetition side by side."""
    from threadpoolctl import threadpool_limits

    from bids_xai.attribution.runs import run_repetitions
    from bids_xai.decoding.basis import training_basis
    from bids_xai.decoding.descent import CpuTrainer
    from bids_xai.decoding.softmax import SgdParameters
    from bids_xai.decoding.splits import Fold

    X, labels, _ = data(options)
    start = time.perf_counter()
    basis = training_basis(X)
    of_gram = time.perf_counter() - start
    everything, n_folds = np.arange(len(X)), min(20, options.models)
    folds = [Fold("", everything, everything[: options.classes]) for _ in range(n_folds)]
    n_repetitions = options.models // n_folds

    def models(n: int, n_updates: int) -> None:
        for _ in run_repetitions(
            X,
            basis,
            np.tile(labels, (n, 1)),
            np.zeros(len(X), np.int64),
            folds,
            options.classes,
            seeds=np.random.SeedSequence(0).spawn(n),
            parameters=SgdParameters(0.005, options.batch, n_updates, l2=0.0),
            methods=("W",),
            trainer=CpuTrainer(options.threads),
        ):
            pass

    # As in the chunks of an analysis, products of matrices take one thread each.
    with threadpool_limits(1, user_api="blas"):
        models(1, 10)
        return of_gram, seconds(lambda: models(n_repetitions, options.updates)) / (n_repetitions * n_folds)


def updates(options: argparse.Namespace) -> tuple[float]:
    """Time minibatches and updates without initial logits and final weights, in the mean of the models."""
    from functools import partial

    from bids_xai.decoding.basis import training_basis
    from bids_xai.decoding.descent import CpuTrainer, Task
    from bids_xai.decoding.softmax import SgdParameters, draw_minibatches

    X, labels, rng = data(options)
    basis, everything = training_basis(X), np.arange(len(X))
    Z0 = rng.standard_normal((options.classes, len(X)), dtype=np.float32)

    def models(n: int, n_updates: int) -> None:
        parameters = SgdParameters(0.005, options.batch, n_updates, l2=0.0)
        draws = [partial(draw_minibatches, own, len(X), options.batch, n_updates) for own in rng.spawn(n)]
        CpuTrainer(options.threads)(basis, [Task(Z0, labels, everything, own) for own in draws], parameters)

    models(2, 10)
    return (seconds(lambda: models(options.models, options.updates)) / options.models,)


def sgemm(options: argparse.Namespace) -> tuple[float]:
    """Time numpy's product of two 4096 x 4096 matrices, the best of five."""
    A = np.random.default_rng(0).standard_normal((4096, 4096), dtype=np.float32)
    return (min(seconds(lambda: A @ A) for _ in range(6)),)


def loop(options: argparse.Namespace) -> tuple[float]:
    """Time torch's layer, loss and optimizer on a part of the updates, scaled up."""
    import torch

    X, labels, _ = data(options)
    inputs, targets = torch.from_numpy(X), torch.from_numpy(labels)
    layer = torch.nn.Linear(options.voxels, options.classes)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.005)

    def updates(n: int) -> None:
        for _ in range(n):
            chosen = torch.randperm(len(X))[: options.batch]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer(inputs[chosen]), targets[chosen]).backward()
            optimizer.step()

    updates(20)
    return (seconds(lambda: updates(options.loop_updates)) * options.updates / options.loop_updates,)


def draw(options: argparse.Namespace) -> tuple[float]:
    """Time the minibatches of one model."""
    from bids_xai.decoding.softmax import draw_minibatches

    rng = np.random.default_rng(0)
    draw_minibatches(rng, options.samples, options.batch, 10)
    return (seconds(lambda: draw_minibatches(rng, options.samples, options.batch, options.updates)),)


def choose(options: argparse.Namespace) -> tuple[float]:
    """Time the same, one call of numpy for each."""
    rng = np.random.default_rng(0)

    def one_by_one() -> None:
        for _ in range(options.updates):
            rng.choice(options.samples, options.batch, replace=False)

    return (seconds(one_by_one),)


def fold(options: argparse.Namespace) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray[np.bool_]]:
    """Return held-out samples (1 of 20), weights, and who is averaged in which class's map."""
    X, labels, rng = data(options)
    held_out = np.ascontiguousarray(X[: max(len(X) // 20, options.classes)])
    weights = rng.standard_normal((options.classes, options.voxels), dtype=np.float32)
    weights *= np.float32(np.sqrt(2 / (options.voxels + options.classes)))
    return held_out, weights, labels[: len(held_out)] == np.arange(options.classes)[:, None]


def closed(options: argparse.Namespace) -> tuple[float]:
    """Time the closed form of OD."""
    from bids_xai.attribution.linear import Linear, output_difference

    X, W, members = fold(options)
    bias = np.zeros(options.classes, np.float32)
    net = Linear(W, bias, X, X @ W.T, members)
    output_difference(net)
    return (seconds(lambda: output_difference(net)),)


def forward(options: argparse.Namespace) -> tuple[float]:
    """Time torch's forward passes with some voxels set to zero one by one, scaled up."""
    import torch

    X, W, _ = fold(options)
    inputs, weights = torch.from_numpy(X), torch.from_numpy(W)
    full = (inputs @ weights.T).softmax(dim=1)

    def without() -> None:
        for voxel in range(options.loop_voxels):
            kept = inputs[:, voxel].clone()
            inputs[:, voxel] = 0
            full - (inputs @ weights.T).softmax(dim=1)
            inputs[:, voxel] = kept

    return (seconds(without) * options.voxels / options.loop_voxels,)


PARTS = {
    "gram": gram,
    "updates": updates,
    "sgemm": sgemm,
    "loop": loop,
    "draw": draw,
    "choose": choose,
    "closed": closed,
    "forward": forward,
}


if __name__ == "__main__":
    main()
