"""Relevance propagation against one plain forward and backward, and against zennit, in one run.

``python tests/benchmarks/bench_relevance.py`` takes ``boehle2019`` at 96 x 114 x 96 with 2 volumes;
``--network`` and ``--grid`` change it. The plain pass is one of training: gradients of all parameters and of
the volumes. Every number is the median of ``--repeats`` calls after one that is not timed, all parts taking
turns in one process.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from parts import seconds
from torch import nn

from bids_xai.attribution import EXPLANATIONS
from bids_xai.attribution.starts import of_class
from bids_xai.models import NETWORKS

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.outside import torchvision_stand_in

_TARGET = 4.0


def main(argv: list[str] | None = None) -> None:
    """Time every rule and print its ratios."""
    options = parse(argv)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    network = NETWORKS[options.network].load()(tuple(options.grid), 2).eval()
    x = torch.rand(options.volumes, 1, *options.grid)
    ours = {
        "lrp-epsilon": ("lrp-epsilon", {"bias": "include", "batch_norm": "pass"}),
        "z+": ("deep-taylor", {"bias": "include", "batch_norm": "pass"}),
        "alpha 2, beta 1": ("lrp-alpha-beta", {"beta": 1.0, "bias": "include", "batch_norm": "pass"}),
        "gamma": ("lrp-gamma", {"bias": "include", "batch_norm": "pass"}),
        "epsilon plus": ("lrp-composite", {"bias": "include", "batch_norm": "pass"}),
        "alpha 1.5, beta 0.5, Boehle": (
            "lrp-alpha-beta", {"beta": 0.5, "one_sided": "boehle", "batch_norm": "pass"},
        ),
        "z+, merged": ("lrp-alpha-beta", {}),
        "alpha 2, beta 1, merged": ("lrp-alpha-beta", {"beta": 1.0}),
    }  # fmt: skip
    start = of_class(network(x[:1]).shape[1] - 1 or 1, options.volumes)
    calls: dict[str, Callable[[], object]] = {"plain": lambda: plain(network, x)}
    for label, (name, given) in ours.items():
        function = EXPLANATIONS[name].load()
        calls[label] = partial(function, network, x, start, **given)
    theirs = outside(network, x)
    calls |= {f"zennit {label}": call for label, call in theirs.items()}
    taken: dict[str, list[float]] = {label: [] for label in calls}
    for repeat in range(options.repeats + 1):
        for label, call in calls.items():
            spent = seconds(call)
            if repeat:
                taken[label].append(spent)
    report({label: statistics.median(times) for label, times in taken.items()}, list(ours))


def report(taken: dict[str, float], labels: list[str]) -> None:
    """Print seconds and ratios."""
    print(f"one plain forward and backward {taken['plain']:8.3f} s")
    for label in labels:
        ratio = taken[label] / taken["plain"]
        line = f"{label:30s} {taken[label]:8.3f} s  {ratio:5.2f} x plain (target {_TARGET:.0f})"
        if f"zennit {label}" in taken:
            other = taken[f"zennit {label}"]
            line += f"   zennit {other:8.3f} s, {other / taken[label]:5.2f} x ours"
        print(line, flush=True)


def plain(network: nn.Module, x: torch.Tensor) -> None:
    """One forward and one backward, as in training."""
    inputs = x.clone().requires_grad_()
    network(inputs)[:, -1].sum().backward()
    network.zero_grad()


def outside(network: nn.Module, x: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Return zennit's calls of the same rules; none where it is not installed."""
    try:
        with torchvision_stand_in():
            from zennit import composites, rules, types
    except ImportError:
        print("zennit is not installed: ours alone")
        return {}

    def everywhere(rule: object) -> Callable[[], object]:
        base = composites.layer_map_base(1e-9)
        return lambda: attribute([*base, (types.Linear, rule)])

    def attribute(layers: list) -> None:
        inputs = x.clone().requires_grad_()
        with composites.LayerMapComposite(layers).context(network) as hooked:
            output = hooked(inputs)
            seed = torch.zeros_like(output)
            seed[:, -1] = output.detach()[:, -1]
            torch.autograd.grad(output, inputs, seed)

    base = composites.layer_map_base(1e-9)
    plus = [*base, (types.Convolution, rules.ZPlus(1e-9)), (nn.Linear, rules.Epsilon(1e-3))]
    return {
        "lrp-epsilon": everywhere(rules.Epsilon(1e-3)),
        "z+": everywhere(rules.ZPlus(1e-9)),
        "alpha 2, beta 1": everywhere(rules.AlphaBeta(2.0, 1.0, 1e-9)),
        "gamma": everywhere(rules.Gamma(0.25, 1e-9)),
        "epsilon plus": lambda: attribute(plus),
    }


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="boehle2019", choices=list(NETWORKS))
    parser.add_argument("--grid", type=int, nargs=3, default=[96, 114, 96])
    parser.add_argument("--volumes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
