"""Names of spaces that images can be declared to be in."""

from __future__ import annotations

from bids_xai.errors import InputError
from bids_xai.images import TEMPLATES
from bids_xai.images.templates import templateflow_home
from bids_xai.registry import nearest_name

# Standard template identifiers for volumes, BIDS 1.10, appendix "Coordinate systems".
STANDARD_SPACES = (
    "ICBM452AirSpace",
    "ICBM452Warp5Space",
    "IXI549Space",
    "fsaverage",
    "MNI152Lin",
    "MNI152NLin2009aSym",
    "MNI152NLin2009aAsym",
    "MNI152NLin2009bSym",
    "MNI152NLin2009bAsym",
    "MNI152NLin2009cSym",
    "MNI152NLin2009cAsym",
    "MNI152NLin6Sym",
    "MNI152NLin6ASym",
    "MNI152NLin6Asym",
    "MNI305",
    "NIHPD",
    "OASIS30AntsOASISAnts",
    "OASIS30Atropos",
    "Talairach",
    "UNCInfant",
)


def check_space(space: str | None) -> None:
    """Raise InputError unless a declared space is a standard one or a template on this machine."""
    if space is None:
        return
    cached = sorted(path.name[4:] for path in templateflow_home().glob("tpl-*"))
    known = list(dict.fromkeys([*TEMPLATES, *STANDARD_SPACES, *cached]))
    if space not in known:
        raise InputError(
            f"Unknown space {space!r}.",
            f"one of {', '.join(known)}",
            nearest_name(space, known) or "leave out --space for images in another space",
        )
