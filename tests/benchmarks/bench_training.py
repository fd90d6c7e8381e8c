"""Training in Gram space against a plain torch loop, and OD against one forward pass per voxel, in one run.

``python tests/benchmarks/bench_training.py`` takes the published size (2000 samples, 28586 voxels, 5 classes,
10000 minibatches of 20); ``--samples`` and so on make it smaller. Every part runs in a process of its own,
all with the same number of threads. The slow versions are timed on a part of the work (``--loop-updates``,
``--loop-voxels``) and scaled up; warm-ups are not timed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt


def main(argv: list[str] | None = None) -> None:
    """Time one part, or every part in a process of its own, and print the ratios."""
    options = parse(argv)
    if options.part:
        print(*(f"{value:.9g}" for value in PARTS[options.part](options)))
        return
    (gram, ours), (theirs,) = timed("gram", options), timed("loop", options)
    (drawn,), (chosen,) = timed("draw", options), timed("choose", options)
    (closed,), (forward,) = timed("closed", options), timed("forward", options)
    print(f"{options.samples} samples x {options.voxels} voxels, {options.classes} classes, ", end="")
    print(f"{options.updates} minibatches of {options.batch}, {options.threads} thread(s)")
    print(f"Gram matrix, once for all models        {gram:10.3f} s")
    report("training a model", ours, theirs, f"Gram space, mean of {options.models}", "torch loop")
    report("minibatches of a model", drawn, chosen, "drawn at once", "Generator.choice")
    report("OD of a fold's held-out samples", closed, forward, "closed form", "one forward per voxel")


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
    parser.add_argument("--models", type=int, default=10, help="models trained in Gram space")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--loop-updates", type=int, default=300, help="updates of the plain loop timed")
    parser.add_argument("--loop-voxels", type=int, default=20, help="voxels set to zero one by one")
    parser.add_argument("--part", choices=tuple(PARTS), help="time this part alone and print its seconds")
    return parser.parse_args(argv)


def timed(part: str, options: argparse.Namespace) -> list[float]:
    """Return the seconds that a part takes in a process of its own."""
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in vars(options).items() if value]
    threads = {
        f"{library}_NUM_THREADS": str(options.threads) for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")
    }
    done = subprocess.run(
        [sys.executable, __file__, *arguments, f"--part={part}"],
        env={**os.environ, **threads},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [float(value) for value in done.stdout.split()]


def data(options: argparse.Namespace) -> tuple[npt.NDArray, npt.NDArray[np.int64], np.random.Generator]:
    """Return samples with a weak pattern per class, their labels and a generator."""
    rng = np.random.default_rng(0)
    labels = np.arange(options.samples) % options.classes
    X = rng.standard_normal((options.samples, options.voxels), dtype=np.float32)
    X += 0.05 * rng.standard_normal((options.classes, options.voxels), dtype=np.float32)[labels]
    return X, labels, rng


def seconds(function: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def gram(options: argparse.Namespace) -> tuple[float, float]:
    """Time the Gram matrix, and all a model needs besides: draws, starts, training, final weights."""
    from bids_xai.decoding.descent import CpuTrainer
    from bids_xai.decoding.softmax import SgdParameters, draw_minibatches, gram_matrix, initial_weights

    X, labels, rng = data(options)
    start = time.perf_counter()
    K = gram_matrix(X)
    of_gram = time.perf_counter() - start
    samples = np.arange(len(X))
    train = CpuTrainer(options.threads)

    def models(n_models: int, n_updates: int) -> npt.NDArray:
        W0 = np.concatenate([initial_weights(rng, X.shape[1], options.classes) for _ in range(n_models)])
        Z0 = (W0 @ X.T).reshape(n_models, options.classes, len(X))
        batches = [draw_minibatches(rng, len(X), options.batch, n_updates) for _ in range(n_models)]
        trained = train(K, Z0, labels, [samples] * n_models, batches, SgdParameters())
        return W0 + np.concatenate([model.coefficients for model in trained]) @ X

    models(1, 10)
    return of_gram, seconds(lambda: models(options.models, options.updates)) / options.models


def loop(options: argparse.Namespace) -> tuple[float]:
    """Time torch's layer, loss and optimizer on a part of the updates, scaled up."""
    import torch

    X, labels, rng = data(options)
    inputs, targets = torch.from_numpy(X), torch.from_numpy(labels)
    layer = torch.nn.Linear(options.voxels, options.classes)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.005)

    def updates(batches: torch.Tensor) -> None:
        for chosen in batches:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer(inputs[chosen]), targets[chosen]).backward()
            optimizer.step()

    batches = torch.from_numpy(rng.integers(0, len(X), (options.loop_updates + 10, options.batch)))
    updates(batches[:10])
    return (seconds(lambda: updates(batches[10:])) * options.updates / options.loop_updates,)


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
    "loop": loop,
    "draw": draw,
    "choose": choose,
    "closed": closed,
    "forward": forward,
}


if __name__ == "__main__":
    main()
