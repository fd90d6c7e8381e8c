"""Whether an atlas lies in the space of the maps that it is laid over."""

from __future__ import annotations

import os
from pathlib import Path

from bids_xai.atlases import ATLASES
from bids_xai.atlases.sources import file_name, space_of

# A space that its source does not name further, and the beginning of the names of its versions.
_MNI152 = "MNI152"


def described_atlas(name_or_path: str | os.PathLike[str]) -> tuple[str, str]:
    """Return name and space of an atlas without reading it; an empty space is not known.

    Parameters
    ----------
    name_or_path
        As :func:`bids_xai.atlases.sources.load_atlas` takes it. A file says its space in its name: by
        ``space-`` or, as TemplateFlow's, by ``tpl-``.
    """
    given = os.fspath(name_or_path)
    if given in tuple(ATLASES):
        return given, ATLASES[given].space
    return file_name(Path(given)), space_of(Path(given))


def space_note(name_or_path: str | os.PathLike[str], space: str | None) -> str:
    """Return what is wrong with laying an atlas over maps; empty where both are in one space.

    Regions are found by position in mm alone: nothing brings an atlas from its space to that of the maps.

    Parameters
    ----------
    name_or_path
        See :func:`described_atlas`.
    space
        BIDS name of the space of the maps; None: native.
    """
    name, own = described_atlas(name_or_path)
    if space is None:
        return (
            f"The atlas {name} is in {own or 'a space that its file name does not say'}, the maps are in no "
            "named space (native): nothing says that its regions lie where they are looked for."
        )
    if not own:
        return (
            f"The atlas {name} does not say its space, the maps are in {space}: whether its regions lie "
            f"where they are looked for is not known. If they do, name the file with space-{space}."
        )
    # MNI152NLin6Asym is also spelt MNI152NLin6ASym.
    if own.casefold() == space.casefold():
        return ""
    if own == _MNI152 and space.startswith(_MNI152):
        return (
            f"The atlas {name} is in {own}, its source does not say in which of its versions, the maps are "
            f"in {space}: versions differ by some millimetres, and so may the borders of regions."
        )
    if own.startswith(_MNI152) and space.startswith(_MNI152):
        return (
            f"The atlas {name} is in {own}, the maps are in {space}: these templates differ by some "
            "millimetres, and so do the borders of regions."
        )
    return (
        f"The atlas {name} is in {own}, the maps are in {space}: these are different brains, whose "
        "structures lie up to a centimetre apart. Regions near a border may be the wrong ones; an atlas in "
        f"{space} is to be preferred."
    )
