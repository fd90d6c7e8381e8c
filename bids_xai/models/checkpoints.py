"""Networks on disk: weights as safetensors, and a JSON card of what they are for."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from bids_xai import __version__
from bids_xai.atomic import whole_file
from bids_xai.errors import InputError
from bids_xai.models import NETWORKS
from bids_xai.models.build import build_network
from bids_xai.registry import nearest_name
from bids_xai.text_files import read_json_object

_WEIGHTS, _CARD = ".safetensors", ".json"
ALL = ("all",)


@dataclass(frozen=True)
class Card:
    """What a network is and what it was trained on; plain values, so that it goes through JSON.

    Parameters
    ----------
    model, model_options
        Name in the registry (or ``package.module:factory``) and options of the factory.
    shape
        Voxels of the volumes (x, y, z).
    affine
        4 x 4, from voxels to millimetres.
    classes
        Names of the classes, in the order of the outputs.
    input_scaling
        Scaling of every volume (:data:`bids_xai.decoding.volumes.SCALINGS`).
    training
        Parameters of the training and how it went.
    data
        Where the volumes come from: dataset, space, preprocessing, people.
    sha256
        Of the file of weights; filled in when it is written.
    version
        Of bids_xai.
    """

    model: str
    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]
    classes: tuple[str, ...]
    model_options: Mapping[str, Any] = field(default_factory=dict)
    input_scaling: str = "none"
    training: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""
    version: str = __version__

    def __post_init__(self) -> None:
        # JSON has lists, nibabel arrays.
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        affine = np.asarray(self.affine, dtype=float).tolist()
        object.__setattr__(self, "affine", tuple(tuple(row) for row in affine))
        object.__setattr__(self, "classes", tuple(self.classes))


def save_checkpoint(path_stem: Path | str, network: nn.Module, card: Card) -> Path:
    """Write ``<path_stem>.safetensors`` and ``<path_stem>.json``; return the path of the weights."""
    from safetensors.torch import save_file

    weights, described = _paths(path_stem)
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with whole_file(weights) as temporary:
        save_file(tensors, temporary)
        # The card of older weights must not pass for that of these: it is replaced last, and refused before.
        card = replace(card, sha256=_sha256(temporary))
    with whole_file(described) as temporary:
        temporary.write_text(json.dumps(asdict(card), indent=2) + "\n", encoding="utf-8")
    return weights


def load_card(path: Path | str) -> Card:
    """Return the card of a checkpoint, named by its stem or by either file.

    Raises
    ------
    InputError
        There is no card, or it lacks an entry.
    """
    described = _paths(path)[1]
    if not os.path.lexists(described):
        raise InputError(
            f"There is no card {described}.",
            "a checkpoint of two files, .safetensors and .json, of one name",
            "copy both, or train the network again",
        )
    content = read_json_object(described, "the card", "copy the checkpoint again")
    names = {entry.name for entry in fields(Card)}
    missing = sorted(names - set(content))
    if missing:
        raise _damaged(described, f"lacks {', '.join(missing)}")
    return Card(**{name: content[name] for name in names})


def load_checkpoint(
    path: Path | str,
    *,
    expect_grid: tuple[Sequence[int], npt.ArrayLike] | None = None,
    expect_classes: int | Sequence[str] | None = None,
    factory: str | None = None,
) -> tuple[nn.Module, Card]:
    """Return a network in evaluation mode on the CPU, and its card.

    A card is data: of itself it imports nothing but networks of the registry.

    Parameters
    ----------
    path
        Stem of the checkpoint, or either of its files.
    expect_grid
        Shape and affine that the volumes have.
    expect_classes
        Number of classes, or their names in order.
    factory
        ``package.module:factory`` that the user named, and that may be imported if the card names it, too.

    Raises
    ------
    InputError
        A file is missing or altered, the weights do not fit the model, the grid or the classes are others, or
        the card names a factory that the user did not.
    """
    weights, described = _paths(path)
    card = load_card(path)
    if card.model not in NETWORKS and card.model != factory:
        raise InputError(
            f"{described} is of the model {card.model!r}.",
            "a network of bids_xai, or the factory that was named",
            f"if you trust it, name it yourself: --model {card.model}",
        )
    _check_grid(weights, card, expect_grid)
    _check_classes(weights, card, expect_classes)
    tensors = read_weights(weights, card)
    network = build_network(card.model, card.shape, len(card.classes), seed=0, **card.model_options)
    own = network.state_dict()
    missing, surplus = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    wrong = [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
    if missing or surplus or wrong:
        raise InputError(
            f"{weights}: missing {missing or 'nothing'}, not in the model {surplus or 'nothing'}, "
            f"of another size {wrong or 'nothing'}.",
            f"the weights of {card.model} with {dict(card.model_options)}",
            "use the version of the model that they were trained with, or train again",
        )
    network.load_state_dict(tensors)
    return network.eval(), card


def load_own_checkpoint(path: Path | str) -> tuple[nn.Module, Card]:
    """Return a network that this run has trained, from its working folder, which holds code anyway."""
    return load_checkpoint(path, factory=load_card(path).model)


def read_weights(weights: Path, card: Card) -> dict[str, Tensor]:
    """Return the tensors of a file after comparing it with its card's checksum."""
    from safetensors.torch import load_file

    if not weights.is_file():
        raise InputError(f"There are no weights {weights}.", "a file beside the card", "copy it, too")
    found = _sha256(weights)
    if found != card.sha256:
        raise InputError(
            f"{weights} was altered: its SHA-256 is {found[:12]}...",
            f"{card.sha256[:12]}..., as its card says",
            "copy the checkpoint again, or train the network again",
        )
    return load_file(weights)


def transfer_weights(network: nn.Module, path: Path | str, names: Sequence[str] = ALL) -> tuple[str, ...]:
    """Copy weights of a checkpoint into a network (transfer learning, Eitel et al. 2019, 2.4.2).

    Parameters
    ----------
    network
        The network, changed in place.
    path
        The checkpoint.
    names
        ``("all",)``, or names of parameters and modules (``"features.0"`` stands for all it contains). The
        last layer with weights stays fresh where its sizes differ: other classes.

    Returns
    -------
    tuple of str
        Names of the parameters and buffers that were copied.

    Raises
    ------
    InputError
        A name is in neither, a size differs, or the file was altered.
    """
    weights, _ = _paths(path)
    tensors = read_weights(weights, load_card(path))
    own = network.state_dict()
    chosen = _chosen(weights, list(own), names)
    parameters = [name for name, _ in network.named_parameters()]
    output = parameters[-1].rpartition(".")[0]
    differing = [name for name in chosen if name not in tensors or tensors[name].shape != own[name].shape]
    for name in differing:
        if name.rpartition(".")[0] != output:
            found = f"of shape {tuple(tensors[name].shape)}" if name in tensors else "missing"
            raise InputError(
                f"{weights}: {name} is {found}.",
                f"shape {tuple(own[name].shape)}",
                "pre-train the same model on volumes of the same shape, or transfer fewer layers",
            )
    # A layer is fresh or transferred, never half of each.
    copied = tuple(n for n in chosen if not (differing and n.rpartition(".")[0] == output))
    network.load_state_dict({**own, **{name: tensors[name] for name in copied}})
    return copied


def _chosen(weights: Path, own: list[str], names: Sequence[str]) -> list[str]:
    if tuple(names) == ALL:
        return own
    for name in names:
        if not any(_within(key, name) for key in own):
            raise InputError(
                f"The model has no parameters {name!r} to take from {weights}.",
                f"'all', or some of {', '.join(own)}",
                nearest_name(name, own),
            )
    return [key for key in own if any(_within(key, name) for name in names)]


def _within(key: str, name: str) -> bool:
    return key == name or key.startswith(f"{name}.")


def _paths(path: Path | str) -> tuple[Path, Path]:
    stem = Path(path)
    if stem.suffix in (_WEIGHTS, _CARD):
        stem = stem.with_suffix("")
    return stem.with_name(stem.name + _WEIGHTS), stem.with_name(stem.name + _CARD)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"{path} {what}.", "a card as bids_xai writes it", "copy the checkpoint again")


def _check_grid(weights: Path, card: Card, expected: tuple[Sequence[int], npt.ArrayLike] | None) -> None:
    if expected is None:
        return
    shape, affine = tuple(int(size) for size in expected[0]), np.asarray(expected[1], dtype=float)
    # A thousandth of a millimetre: NIfTI headers keep affines in single precision.
    if shape != card.shape or not np.allclose(affine, np.asarray(card.affine), rtol=0, atol=1e-3):
        raise InputError(
            f"{weights} is of the grid {card.shape} with the affine {np.round(card.affine, 3).tolist()}.",
            f"the grid of the volumes, {shape} with {np.round(affine, 3).tolist()}",
            "resample the volumes to the grid of the checkpoint, or use another checkpoint",
        )


def _check_classes(weights: Path, card: Card, expected: int | Sequence[str] | None) -> None:
    if expected is None:
        return
    fits = len(card.classes) == expected if isinstance(expected, int) else card.classes == tuple(expected)
    if not fits:
        raise InputError(
            f"{weights} has the classes {', '.join(card.classes)}.",
            f"{expected} classes" if isinstance(expected, int) else ", ".join(expected),
            "choose classes and their order with --classes, or use another checkpoint",
        )
