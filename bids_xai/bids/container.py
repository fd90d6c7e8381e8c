"""The container that the program runs in, as ``GeneratedBy`` records it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

IMAGE = "BIDS_XAI_CONTAINER"
# Apptainer sets both of its names, Singularity only the older one.
_SIF = {"apptainer": "APPTAINER_CONTAINER", "singularity": "SINGULARITY_CONTAINER"}


def container_of(environ: Mapping[str, str]) -> dict[str, str] | None:
    """Return ``Type`` and ``Tag`` of the container, None outside of one.

    Parameters
    ----------
    environ
        The environment. :data:`IMAGE`, which the Dockerfile sets, is ``TYPE:NAME:VERSION``; in an image file
        of Apptainer or Singularity the type is theirs, and the tag that of the image it was made from, else
        the name of the file.
    """
    kind, _, tag = environ.get(IMAGE, "").partition(":")
    for name, variable in _SIF.items():
        if environ.get(variable):
            return {"Type": name, "Tag": tag or Path(environ[variable]).name}
    return {"Type": kind, "Tag": tag} if kind and tag else None
