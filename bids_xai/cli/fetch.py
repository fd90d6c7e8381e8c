"""``bids-xai-fetch``: bring templates to this machine before a run without network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bids_xai import __version__
from bids_xai.errors import InputError
from bids_xai.images import TEMPLATES

_DONE, _WRONG_INPUT = 0, 2
LICENCES = {
    "MNI152NLin2009aSym": "permissive, with the copyright notice of McConnell Brain Imaging Centre, MNI",
    "MNI152NLin2009cAsym": "permissive, with the copyright notice of McConnell Brain Imaging Centre, MNI",
    "MNI152NLin6Asym": "of FSL: free for non-commercial use",
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="bids-xai-fetch",
        description="Fetch templates from TemplateFlow into its cache (TEMPLATEFLOW_HOME), for use without "
        "network.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="TemplateFlow's name of a template")
    parser.add_argument("--list", action="store_true", help="list the templates that are here, and stop")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Fetch what the arguments name.

    Returns
    -------
    int
        0 when everything is here, 2 when a template is not to be had.
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if not arguments.names and not arguments.list:
        parser.error("give the names of templates, or --list")
    from bids_xai.images.templates import template_image, templateflow_home

    if arguments.list:
        for name in TEMPLATES:
            print(f"{name}: {TEMPLATES[name].summary}. {TEMPLATES[name].source}. Licence: {LICENCES[name]}")
        for folder in sorted(templateflow_home().glob("tpl-*")):
            print(f"{folder.name[4:]}: in {templateflow_home()}")
        return _DONE
    try:
        for name in arguments.names:
            shape = "x".join(map(str, template_image(name, allow_downloads=True).shape))
            where = "an installed package" if name in tuple(TEMPLATES) else str(templateflow_home())
            print(f"{name}: {shape} voxels, in {where}")
    except InputError as error:
        sys.stderr.write(f"bids-xai-fetch: {error}\n")
        return _WRONG_INPUT
    return _DONE


if __name__ == "__main__":
    sys.exit(main())
