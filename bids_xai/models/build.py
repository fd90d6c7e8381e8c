"""Networks by name, or by the user's own factory, checked before anything is computed with them."""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from bids_xai.errors import InputError
from bids_xai.models import NETWORKS
from bids_xai.registry import nearest_name

Factory = Callable[..., Any]


def build_network(
    name: str, shape: Sequence[int], n_classes: int, *, seed: int | None = None, **options: Any
) -> nn.Module:
    """Build a network, with its first weights, in training mode.

    Parameters
    ----------
    name
        A network of the registry, or ``package.module:factory``: a callable of the user that takes
        ``(shape, n_classes, **options)`` and returns a module.
    shape
        Voxels per axis of the volumes.
    n_classes
        Classes to tell apart, at least 2.
    seed
        Seed of the first weights; the same seed gives the same bits. torch's own generator is left as it was,
        with a seed and without.
    options
        Keyword-only parameters of the factory.

    Raises
    ------
    InputError
        Another name, a factory that cannot be imported or called or returns no module, an option that it does
        not take, a volume too small, an output that does not match the classes.
    """
    if n_classes < 2:
        raise InputError(f"{n_classes} class for {name!r}.", "at least 2 classes")
    factory = _factory(name)
    _check_options(name, factory, options)
    with _own_randomness(seed):
        with users_code(name):
            network = factory(tuple(int(n) for n in shape), n_classes, **options)
        if not isinstance(network, nn.Module):
            raise InputError(
                f"{name!r} returned a {type(network).__name__}.",
                "a torch.nn.Module",
                "name a function of (shape, n_classes) that returns the network",
            )
        check_output(name, network, shape, n_classes)
    return network


def parameter_count(network: nn.Module) -> int:
    """Return the number of values that training can change."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def check_output(name: str, network: nn.Module, shape: Sequence[int], n_classes: int) -> None:
    """Refuse a network whose output does not match the classes, by one forward of two volumes of zeros.

    A network of the registry is asked for the shape of its output only, without computing it (torch's "meta"
    device): whole brains at 1 mm would take gigabytes. One of the user computes.

    Raises
    ------
    InputError
        An output that is neither (2, n_classes) nor, for two classes, (2, 1); a forward that fails.
    """
    sizes = " x ".join(str(int(n)) for n in shape)
    wanted = f"({'n, 2) or (n, 1' if n_classes == 2 else f'n, {n_classes}'}) for {n_classes} classes"
    asked = without_data(name, network)
    reference = next(asked.parameters(), torch.zeros(()))
    zeros = torch.zeros((2, 1, *shape), dtype=reference.dtype, device=reference.device)
    with _evaluating(asked), torch.no_grad():
        try:
            output = asked(zeros)
        except (Exception, SystemExit) as error:
            raise InputError(
                f"{name!r} fails on volumes of {sizes} voxels: {_said(error)}",
                f"a network that takes (n, 1, {sizes.replace(' x ', ', ')}) and gives {wanted}",
            ) from error
    if not isinstance(output, torch.Tensor):
        raise InputError(f"{name!r} gives a {type(output).__name__}.", f"a tensor of shape {wanted}")
    if tuple(output.shape) not in ({(2, n_classes), (2, 1)} if n_classes == 2 else {(2, n_classes)}):
        found = (
            ", ".join(["n", *map(str, output.shape[1:])]) if output.shape[:1] == (2,) else str(output.shape)
        )
        raise InputError(
            f"{name!r} gives output of shape ({found}) for volumes of {sizes} voxels.",
            f"shape {wanted}",
            "let the last layer have one unit per class",
        )


def without_data(name: str, network: nn.Module) -> nn.Module:
    """Return a copy on torch's "meta" device, which knows shapes alone; a network of the user as it is."""
    return copy.deepcopy(network).to("meta") if name in NETWORKS else network


def _factory(name: str) -> Factory:
    if ":" not in name:
        return NETWORKS[name].load()
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{name!r} cannot be imported: {_said(error)}",
            "package.module:factory",
            "install the package, or put its folder on PYTHONPATH",
        ) from error
    if not hasattr(module, attribute):
        raise InputError(
            f"{module_name} has no {attribute!r}.",
            "package.module:factory",
            nearest_name(attribute, [found for found in vars(module) if not found.startswith("_")]),
        )
    factory = getattr(module, attribute)
    if not callable(factory):
        raise InputError(
            f"{name!r} is a {type(factory).__name__}, which cannot be called.",
            "a function of (shape, n_classes) that returns a torch.nn.Module",
        )
    return factory


def _check_options(name: str, factory: Factory, options: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(factory)
    except ValueError:  # a callable written in C may have none
        return
    parameters = list(signature.parameters.values())
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        known = [
            parameter.name for parameter in parameters[2:] if parameter.kind is not parameter.VAR_POSITIONAL
        ]
        for option in options:
            if option not in known:
                raise InputError(
                    f"{name!r} has no option {option!r}.",
                    f"one of {', '.join(known)}" if known else "no options",
                    nearest_name(option, known),
                )
    try:
        signature.bind((), 2, **options)
    except TypeError as error:
        raise InputError(
            f"{name!r} cannot be called with a shape and a number of classes: {error}.",
            "a function of (shape, n_classes) whose other parameters have defaults",
        ) from error


@contextlib.contextmanager
def users_code(name: str) -> Iterator[None]:
    """Name the network whose code fails in this block, whatever it raises; an InputError stays as it is.

    Raises
    ------
    InputError
        The code raised something, or ended the process.
    """
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"The code of {name!r} failed: {_said(error)}",
            "a torch.nn.Module from (shape, n_classes)",
            "try it by itself in Python, with the same shape and options",
        ) from error


def _said(error: BaseException) -> str:
    if isinstance(error, ImportError | RuntimeError | ValueError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@contextlib.contextmanager
def _own_randomness(seed: int | None) -> Iterator[None]:
    """Draw from a generator of this block's own: torch's is put back afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        if seed is not None:
            torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
