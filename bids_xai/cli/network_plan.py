"""What networks would do: checks before anything is computed, and what ``--dry-run`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pandas as pd

from bids_xai.attribution.heatmaps import PREDICTED, TRUE, group_names
from bids_xai.bids.covariates import column_of, with_covariates
from bids_xai.bids.lesions import find_lesion_masks
from bids_xai.bids.query import SubjectRecord
from bids_xai.bids.results import SampleSet, written_rows
from bids_xai.cli.plan import (
    class_names,
    expected_rows,
    print_atlases,
    print_samples,
    print_warnings,
    rounded,
    scheme_of,
    with_samples,
)
from bids_xai.cli.target import needs_template, template_grid
from bids_xai.decoding.design import Design
from bids_xai.decoding.network_design import network_design
from bids_xai.decoding.partitions import validation_split
from bids_xai.errors import InputError
from bids_xai.execution.memory import NetworksMemory, networks_memory, refuse_excess
from bids_xai.execution.plugins import device_here, planned_device
from bids_xai.execution.resources import Resources
from bids_xai.images.grids import downsample
from bids_xai.inference.permutation import permute_design, smallest_p
from bids_xai.registry import nearest_name
from bids_xai.settings import Settings

_CALIBRATION_UPDATES = 2
# What the axes of --flip (x) and --shift-axes are.
_DIRECTIONS = {"x": "LR", "y": "AP", "z": "IS"}


def network_parameters(settings: Settings) -> dict[str, Any]:
    """Return the parameters of :class:`bids_xai.decoding.networks.NetworkParameters` that settings hold."""
    decoding, network = settings.decoding, settings.network
    return {
        "model": decoding.model,
        "model_options": model_options(network.model_options),
        "optimizer": network.optimizer,
        "learning_rate": decoding.learning_rate,
        "weight_decay": network.weight_decay,
        "batch_size": decoding.batch_size,
        "max_epochs": network.max_epochs,
        "patience": network.patience,
        "monitor": network.monitor,
        "schedule": network.schedule,
        "flip": network.flip,
        "learning_rate_decay": network.learning_rate_decay,
        "shift": network.max_shift,
        "shift_axes": tuple("xyz".index(axis) for axis in network.shift_axes),
        "class_weights": network.class_weights,
        "pretrained": None if network.pretrained is None else str(network.pretrained.absolute()),
        "transfer": tuple(network.transfer) or "all",
        "precision": "mixed" if network.mixed_precision else "single",
        "input_scaling": network.input_scaling,
    }


def model_options(words: Sequence[str]) -> dict[str, Any]:
    """Return ``NAME=VALUE`` words as options, numbers and truth values as such.

    Raises
    ------
    InputError
        A word has no ``=``.
    """
    options: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InputError(f"--model-options {word}.", "NAME=VALUE, such as dropout=0.3")
        options[name] = _value(value)
    return options


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def trainings(settings: Settings, design: Design) -> int:
    """Return the number of networks that are trained, the draws of a random search not counted."""
    return (settings.inference.n_runs + settings.inference.n_permutations) * len(design.folds)


def plan_networks(
    settings: Settings, subjects: Sequence[SubjectRecord], found: Sequence[SampleSet], bids_dir: Path
) -> tuple[Design, pd.DataFrame, tuple[int, ...]]:
    """Return the design, its rows, and the shape of the volumes, without computing anything.

    Raises
    ------
    InputError
        The samples cannot be split or balanced as asked, the network does not fit the grid or the classes, or
        the checkpoint, an explanation or a class is not there.
    """
    network = settings.network
    if subjects:
        names, rows = expected_rows(settings, subjects, bids_dir)
    else:
        names = class_names(settings, found)
        rows = written_rows(found, settings.inference.exchange_within)
    columns = [*network.stratify, *network.undersample, *([network.biomarker] if network.biomarker else [])]
    rows = with_covariates(rows, bids_dir / "participants.tsv", [column_of(name) for name in columns])
    design, kept = network_design(
        rows,
        classes=with_samples(settings, names, rows),
        cv=settings.decoding.cv,
        n_folds=settings.decoding.n_folds,
        n_repeats=settings.decoding.n_repeats,
        test_size=network.test_size,
        stratify=network.stratify,
        undersample=network.undersample,
        first_session=network.test_first_session,
        samples_per_class=network.samples_per_class,
        seed=settings.decoding.random_seed,
        exchange_within=settings.inference.exchange_within,
    )
    for fold in design.folds:  # refuses what cannot be parted
        validation_split(
            rows.iloc[kept], fold.train, share=network.validation_size, stratify=network.stratify, seed=0
        )
    if settings.inference.n_permutations:
        permute_design(design, scheme_of(settings, design), np.random.default_rng(0))
    group_names(design.classes)  # refuses names that are taken
    shape, affine = volume_grid(settings, subjects, found)
    check_network(settings, design.classes, shape, affine)
    return design, rows.iloc[kept], shape


def volume_grid(
    settings: Settings, subjects: Sequence[SubjectRecord], found: Sequence[SampleSet]
) -> tuple[tuple[int, ...], np.ndarray]:
    """Return shape and affine of the analysis grid."""
    images = settings.preprocessing
    if not subjects:
        image = nb.load(found[0].mask)
    elif needs_template(settings):
        image = template_grid(settings)
    else:
        record = subjects[0]
        path = record.runs[0].bold if images.modality == "bold" else record.anatomical[0].image
        image = nb.load(path)
        if images.resolution is not None:
            image = downsample(
                nb.Nifti1Image(np.zeros(image.shape[:3], dtype=np.uint8), image.affine), images.resolution
            )
    return tuple(int(size) for size in image.shape[:3]), np.asarray(image.affine)


def check_network(
    settings: Settings, classes: Sequence[str], shape: tuple[int, ...], affine: np.ndarray
) -> None:
    """Raise InputError unless network, checkpoint, explanations and class fit the data."""
    from bids_xai.models.build import build_network
    from bids_xai.models.checkpoints import load_checkpoint

    network = settings.network
    _check_axes(settings, affine)
    if network.explain_class not in (None, TRUE, PREDICTED, *classes):
        raise InputError(
            f"--explain-class {network.explain_class}.", f"one of {', '.join((TRUE, PREDICTED, *classes))}"
        )
    if network.similarity and len(classes) < 3:
        raise InputError("--similarity with two classes.", "three classes or more: two have one distance")
    if network.strongest_positions and not any(text.startswith("occlusion") for text in network.explain):
        raise InputError(
            "--strongest-positions without occlusion.", "--explain occlusion, whose positions these are"
        )
    if network.lesion_masks is not None:
        find_lesion_masks(network.lesion_masks, network.lesion_label)
    x, y, z = shape
    net = build_network(
        settings.decoding.model, (x, y, z), len(classes), **model_options(network.model_options)
    )
    filters = [text.rpartition(":")[::2] for text in network.visualise]
    if network.explain_layer is not None:
        filters.append((network.explain_layer, str(network.explain_filter)))
    for layer, number in filters:
        _check_filter(net, layer, number)
    _check_explanations(settings, net, shape)
    if network.pretrained is not None:
        load_checkpoint(network.pretrained, expect_grid=(shape, affine), factory=settings.decoding.model)


def _check_explanations(settings: Settings, net: Any, shape: tuple[int, ...]) -> None:
    """Refuse before anything is trained what an explanation cannot do with the network and its volumes."""
    import torch

    from bids_xai.attribution.explain import parse_explanation
    from bids_xai.attribution.starts import Start
    from bids_xai.models.build import without_data

    network = settings.network
    asked = without_data(settings.decoding.model, net)
    reference = next(asked.parameters(), torch.zeros(()))
    zeros = torch.zeros((1, 1, *shape), dtype=reference.dtype, device=reference.device)
    target = torch.zeros(1, dtype=torch.int64)
    start = Start(target, network.explain_start, network.explain_layer, network.explain_filter)
    for text in network.explain:
        explanation = parse_explanation(text)
        if explanation.name == "region-occlusion" and not settings.inference.atlas:
            raise InputError(
                "--explain region-occlusion without an atlas.", "--atlas, whose regions it covers"
            )
        try:
            explanation.check(asked, zeros, start)
        except InputError as error:
            raise InputError(f"--explain {text}: {error.found}", error.expected, error.remedy) from error


def _check_axes(settings: Settings, affine: np.ndarray) -> None:
    """Refuse to mirror or shift volumes along axes that do not run as the options say."""
    network = settings.network
    codes = nb.aff2axcodes(affine)
    used = {"x"} if network.flip else set()
    used |= set(network.shift_axes) if network.max_shift else set()
    for axis, (name, directions) in enumerate(_DIRECTIONS.items()):
        if name in used and codes[axis] not in directions:
            raise InputError(
                f"--flip {network.flip:g}, --max-shift {network.max_shift} along {name}: the axes of the "
                f"grid run {', '.join(map(str, codes))}, and its axis {axis + 1} is not {name}.",
                "a grid whose axes run left-right, front-back and up-down, in this order",
                "turn the images (nibabel.as_closest_canonical), or give --flip 0 --max-shift 0",
            )


def _check_filter(net: Any, layer: str, number: str) -> None:
    known = {name: module for name, module in net.named_modules() if hasattr(module, "out_channels")}
    if layer not in known:
        raise InputError(
            f"The network has no convolution {layer!r}.",
            f"one of {', '.join(known)}",
            nearest_name(layer, list(known)),
        )
    if not number.isdigit() or int(number) >= known[layer].out_channels:
        raise InputError(
            f"{layer} has no filter {number!r}.", f"a number from 0 to {known[layer].out_channels - 1}"
        )


def check_networks_memory(
    settings: Settings,
    subjects: Sequence[SubjectRecord],
    found: Sequence[SampleSet],
    design: Design,
    available: Resources,
) -> None:
    """Refuse networks that would not fit into memory; parameters as in :func:`plan_networks`.

    Raises
    ------
    InputError
        A node takes more than there is.
    """
    gb = memory_of_networks(settings, design, volume_grid(settings, subjects, found)[0]).gb
    what = f"{settings.decoding.model} with minibatches of {settings.decoding.batch_size}"
    refuse_excess(what, gb, available, ("a smaller --batch-size", "a coarser --resolution"))


def memory_of_networks(settings: Settings, design: Design, shape: tuple[int, ...]) -> NetworksMemory:
    """Return what the nodes take (:func:`bids_xai.execution.memory.networks_memory`)."""
    from bids_xai.models.build import build_network

    x, y, z = shape
    net = build_network(
        settings.decoding.model,
        (x, y, z),
        len(design.classes),
        **model_options(settings.network.model_options),
    )
    return networks_memory(settings, net, len(design.labels), shape, planned_device(settings.execution))


def print_networks_plan(
    settings: Settings,
    subjects: Sequence[SubjectRecord],
    found: Sequence[SampleSet],
    bids_dir: Path,
    n_procs: int,
    memory_gb: float = np.inf,
) -> None:
    """Print what a call would do, and about how long it takes after measuring a few updates."""
    from bids_xai.decoding.network_estimate import seconds_per_update
    from bids_xai.decoding.network_parameters import NetworkParameters
    from bids_xai.models.build import build_network, parameter_count

    design, rows, shape = plan_networks(settings, subjects, found, bids_dir)
    network, inference = settings.network, settings.inference
    print_samples(rows, design)
    x, y, z = shape
    net = build_network(
        settings.decoding.model, (x, y, z), len(design.classes), **model_options(network.model_options)
    )
    print(
        f"Network: {settings.decoding.model}, {parameter_count(net)} parameters, volumes of {x} x {y} x {z}"
    )
    print(f"Cross-validation: {design.describe_folds()}")
    count = trainings(settings, design)
    draws = f", each the best of {network.random_search} settings" if network.random_search else ""
    print(
        f"Trainings: {count} ({inference.n_runs} on the true labels, {inference.n_permutations} permuted; "
        f"times {len(design.folds)} folds{draws})"
    )
    if inference.n_permutations:
        by = scheme_of(settings, design)
        smallest = smallest_p(inference.n_permutations, design.labels, by, *design.exchange_codes)
        print(f"Labels are exchanged by: {by}")
        print(f"Smallest p that this design can reach: {smallest:.3g}")
    else:
        print("No permutations: there will be no p-values (--n-permutations)")
    print_warnings(design, scheme_of(settings, design) if inference.n_permutations else None)
    print(f"Explanations: {', '.join(network.explain)}")
    print_atlases(settings, found)
    gb = memory_of_networks(settings, design, shape).gb
    of_all = f"; {memory_gb:.1f} GB for all" if np.isfinite(memory_gb) else ""
    print(f"Memory of one process: about {gb['networks']:.1f} GB{of_all}")
    update = seconds_per_update(
        NetworkParameters(**network_parameters(settings)),
        shape,
        len(design.classes),
        device=device_here(settings.execution),
        n_threads=settings.execution.omp_nthreads,
        n_updates=_CALIBRATION_UPDATES,
    )
    updates = sum(-(-len(fold.train) // settings.decoding.batch_size) for fold in design.folds)
    share = max(n_procs // settings.execution.omp_nthreads, 1)
    repeats = (inference.n_runs + inference.n_permutations) * max(network.random_search, 1)
    seconds = update * updates * repeats / min(share, max(count, 1))
    most = rounded(seconds * network.max_epochs)
    print(
        f"Time of the trainings: about {rounded(seconds)} for an epoch of all, {most} if none stops before "
        f"{network.max_epochs} epochs, with {n_procs} processes"
    )
