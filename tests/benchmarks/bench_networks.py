"""Training of networks: samples per second, ours against a plain float32 loop, in one run.

``python tests/benchmarks/bench_networks.py`` trains ``--model`` on ``--samples`` random volumes of
``--shape`` for ``--epochs`` epochs. Both loops do the same updates: Adam, minibatches in random order,
min-max scaling, flips and shifts (in the plain loop volume by volume with torch.roll). On a GPU
(``--device auto``) ours is also timed in mixed precision, with the volumes resident and channels last. The
share of peak sets the operations of convolutions and dense layers, forward and backward (three times the
forward), against the rate of a product of two square matrices in the same precision, measured beside.
Validation is on one volume and its time is in ours. The first epoch of each is not counted.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bids_xai.decoding.networks import NetworkParameters, train_network
from bids_xai.decoding.softmax import resolve_device
from bids_xai.models.build import build_network


def main(argv: list[str] | None = None) -> None:
    """Print rates and ratios."""
    options = parse(argv)
    device = resolve_device(options.device)
    rng = np.random.default_rng(0)
    volumes = rng.standard_normal((options.samples + 1, *options.shape), dtype=np.float32)
    labels = np.arange(len(volumes)) % 2
    work = 3 * operations(options)
    print(
        f"{options.model} at {' x '.join(map(str, options.shape))}, minibatches of {options.batch}, "
        f"{device}, {options.threads} thread(s), {work / 1e9:.1f} Gflop a sample (forward and backward)"
    )
    plain = plain_loop(volumes, labels, options, device)
    report("plain loop, float32", plain, plain, work, peak(device, torch.float32, options.threads))
    ways = [("single", torch.float32)] + ([("mixed", torch.bfloat16)] if device == "cuda" else [])
    for precision, kind in ways:
        rate = ours(volumes, labels, options, device, precision)
        report(f"ours, {precision} precision", rate, plain, work, peak(device, kind, options.threads))


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="boehle2019")
    parser.add_argument("--shape", type=int, nargs=3, default=(96, 114, 96))
    parser.add_argument("--samples", type=int, default=16, help="to train on, in an epoch")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=3, help="the first is not counted")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(argv)


def ours(
    volumes: npt.NDArray,
    labels: npt.NDArray[np.int64],
    options: argparse.Namespace,
    device: str,
    precision: str,
) -> float:
    """Return samples per second of train_network."""
    parameters = NetworkParameters(
        model=options.model, batch_size=options.batch, max_epochs=options.epochs, patience=options.epochs
    )
    n = options.samples
    trained = train_network(
        volumes,
        labels,
        np.arange(n),
        np.arange(n, len(volumes)),
        parameters=replace(parameters, precision=precision),
        n_classes=2,
        seed=0,
        device=device,
        n_threads=options.threads,
    )
    return n / float(np.median([record["seconds"] for record in trained.history[1:]]))


def plain_loop(
    volumes: npt.NDArray, labels: npt.NDArray[np.int64], options: argparse.Namespace, device: str
) -> float:
    """Return samples per second of the loop of a tutorial: scaled and moved on the CPU, copied by batch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    network = build_network(options.model, options.shape, 2, seed=0).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-4)
    rng, times = np.random.default_rng(0), []
    for _ in range(options.epochs):
        start = time.perf_counter()
        order = rng.permutation(options.samples)
        for first in range(0, options.samples, options.batch):
            chosen = order[first : first + options.batch]
            batch = torch.stack([moved(torch.from_numpy(volumes[i]), rng) for i in chosen])[:, None]
            target = torch.from_numpy(labels[chosen]).to(device)
            loss = loss_of(network(batch.to(device)), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        times.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    return options.samples / float(np.median(times[1:]))


def moved(volume: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Scale, flip and shift one volume."""
    volume = (volume - volume.min()) / (volume.max() - volume.min())
    if rng.random() < 0.5:
        volume = volume.flip(0)
    return torch.roll(volume, int(rng.integers(-2, 3)), 0)


def loss_of(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean loss of a minibatch."""
    if output.shape[1] == 1:
        return nn.functional.binary_cross_entropy_with_logits(output[:, 0], target.float())
    return nn.functional.cross_entropy(output, target)


def operations(options: argparse.Namespace) -> float:
    """Return the operations of one forward pass of one volume, counted by torch."""
    from torch.utils.flop_counter import FlopCounterMode

    network = build_network(options.model, options.shape, 2, seed=0).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(2, 1, *options.shape, device="meta"))
    return counter.get_total_flops() / 2


def peak(device: str, kind: torch.dtype, threads: int, size: int | None = None) -> float:
    """Return operations per second of a product of two square matrices."""
    size = size or (8192 if device == "cuda" else 2048)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    a = torch.randn(size, size, device=device).to(kind)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        product = a @ a
        product[0, 0].item()
        times.append(time.perf_counter() - start)
    torch.set_num_threads(before)
    return 2 * size**3 / min(times)


def report(title: str, rate: float, reference: float, work: float, best: float) -> None:
    """Print one line."""
    print(
        f"    {title:28s}{rate:10.2f} samples/s{rate / reference:8.2f} x{rate * work / 1e9:12.1f} Gflop/s, "
        f"{100 * rate * work / best:.0f} % of {best / 1e9:.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
