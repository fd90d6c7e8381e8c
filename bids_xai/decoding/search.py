"""Random search of training parameters, chosen by validation inside the training set (Eitel et al. 2021)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_xai.decoding.network_parameters import NetworkParameters
from bids_xai.decoding.network_steps import substream
from bids_xai.decoding.networks import TrainedNetwork, train_network
from bids_xai.errors import InputError
from bids_xai.registry import nearest_name

Space = Mapping[str, Sequence[Any]]
EITEL_2021: Space = {"batch_size": (4, 6, 12), "learning_rate": (1e-4, 5e-5), "patience": (12, 16)}
_DRAW, _TRAINING = range(2)


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Parameters
    ----------
    parameters, trained
        Of the draw with the best validation; the first of equals.
    table
        A row per draw: its values, ``validation`` (the best monitored value), ``best_epoch``, ``iterations``,
        ``seconds``, ``chosen``.
    """

    parameters: NetworkParameters
    trained: TrainedNetwork
    table: pd.DataFrame


def draw_parameters(
    base: NetworkParameters,
    *,
    space: Space = EITEL_2021,
    n_draws: int = 5,
    seed: np.random.SeedSequence | int,
) -> list[NetworkParameters]:
    """Draw parameters at random (Eitel et al. 2021, table 1: five draws of batch size, rate and patience).

    Draws differ from each other as long as there are combinations left, and models (``"model"`` in the space)
    are dealt as evenly as can be: each of two at least twice in five draws, as in the paper.

    Parameters
    ----------
    base
        What the space does not name.
    space
        Values of fields of :class:`NetworkParameters`.
    n_draws
        Number of draws.
    seed
        Of the draws.

    Raises
    ------
    InputError
        The space names no such field or no values, or there are no draws.
    """
    known = [entry.name for entry in fields(NetworkParameters)]
    for name, values in space.items():
        if name not in known or not values:
            raise InputError(
                f"Search over {name!r} with values {list(values)}.",
                f"values of one of {', '.join(known)}",
                nearest_name(name, known),
            )
    if n_draws < 1:
        raise InputError(f"A search with {n_draws} draws.", "1 or more")
    rng = np.random.default_rng(seed)
    models = list(space.get("model", (base.model,)))
    dealt = np.resize(rng.permutation(len(models)), n_draws)
    rest = {name: values for name, values in space.items() if name != "model"}
    combinations = [dict(zip(rest, values, strict=True)) for values in itertools.product(*rest.values())]
    # A deck of combinations per model, shuffled anew when all are dealt.
    decks: dict[int, list[int]] = {code: [] for code in range(len(models))}
    drawn = []
    for code in rng.permutation(dealt).tolist():
        decks[code] = decks[code] or rng.permutation(len(combinations)).tolist()
        drawn.append(replace(base, model=models[code], **combinations[decks[code].pop()]))
    return drawn


def random_search(
    volumes: npt.NDArray,
    labels: npt.NDArray[np.int64],
    train: npt.NDArray[np.int64],
    validation: npt.NDArray[np.int64],
    *,
    base: NetworkParameters,
    space: Space = EITEL_2021,
    n_draws: int = 5,
    n_classes: int,
    seed: np.random.SeedSequence | int,
    device: str = "cpu",
    folder: Path | None = None,
    n_threads: int | None = 1,
) -> SearchResult:
    """Train with every draw, and choose the one with the best validation; test samples are never seen.

    Parameters
    ----------
    volumes, labels, train, validation, n_classes, device, n_threads
        As in :func:`bids_xai.decoding.networks.train_network`.
    base, space, n_draws
        As in :func:`draw_parameters`. ``monitor`` of the base compares the draws.
    seed
        Of draws and trainings.
    folder
        Where every training keeps its state, in ``draw-1`` and so on; an interrupted search goes on. None:
        nowhere.

    Raises
    ------
    InputError
        As in :func:`draw_parameters` and :func:`bids_xai.decoding.networks.train_network`, or the space names
        ``monitor``.
    """
    if "monitor" in space:
        raise InputError(
            "A search over 'monitor'.", "one measure that compares all draws", "set it for all draws"
        )
    seed = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    best: tuple[float, NetworkParameters, TrainedNetwork] | None = None
    records: list[dict[str, Any]] = []
    drawn = draw_parameters(base, space=space, n_draws=n_draws, seed=substream(seed, _DRAW))
    for number, parameters in enumerate(drawn):
        trained = train_network(
            volumes,
            labels,
            train,
            validation,
            parameters=parameters,
            n_classes=n_classes,
            seed=substream(seed, _TRAINING, number),
            device=device,
            folder=None if folder is None else folder / f"draw-{number + 1}",
            n_threads=n_threads,
        )
        value = trained.history[trained.best_epoch - 1][f"validation_{base.monitor}"]
        gain = -value if base.monitor == "loss" else value
        if best is None or gain > best[0]:
            best = (gain, parameters, trained)
        values = {name: getattr(parameters, name) for name in space}
        effort = {"iterations": trained.n_iterations, "seconds": trained.seconds}
        records.append({**values, "validation": value, "best_epoch": trained.best_epoch, **effort})
    assert best is not None  # there is a draw
    table = pd.DataFrame(records)
    table["chosen"] = [parameters is best[1] for parameters in drawn]
    return SearchResult(best[1], best[2], table)
