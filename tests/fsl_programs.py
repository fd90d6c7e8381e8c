"""Programs that stand for FSL's and for N4: they note their commands and write files like the real ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

PROGRAMS = (
    "mcflirt", "bet", "fslmaths", "flirt", "convert_xfm", "robustfov", "N4BiasFieldCorrection",
)  # fmt: skip
UNALIGNED = 500.0

# What it registers looks like the reference, unless it is too bright. What it resamples is as bright as its
# brightest voxel everywhere, or is stretched to the reference's grid.
STAND_IN = """#!{python}
import os, sys
from pathlib import Path
import nibabel as nb
import numpy as np

program, words = Path(sys.argv[0]).name, sys.argv[1:]
with open({log!r}, "a") as log:
    note = " ".join([program, *(word if word[:1] == "-" else os.path.basename(word) for word in words)])
    log.write(os.environ.get("FSLOUTPUTTYPE", "") + "|" + note + "\\n")
after = dict(zip(words, words[1:]))

def save(data, like, path):
    nb.save(nb.Nifti1Image(np.asarray(data, np.float32), like.affine), path)

if program == "mcflirt":
    img = nb.load(after["-in"])
    # As the real one: the type that it reads, without scaling.
    data = np.asarray(img.dataobj).astype(img.get_data_dtype())
    nb.save(nb.Nifti1Image(data, img.affine), after["-out"])
    n = img.shape[3]
    os.mkdir(after["-out"] + ".mat")
    for t in range(n):
        matrix = np.eye(4)
        matrix[0, 3] = t
        np.savetxt(after["-out"] + f".mat/MAT_{{t:04d}}", matrix, fmt="%g")
elif program == "bet":
    img = nb.load(words[0])
    save(img.dataobj, img, words[1])
    save(np.asarray(img.dataobj) > 0, img, words[1].replace(".nii.gz", "_mask.nii.gz"))
elif program == "fslmaths":
    img = nb.load(words[0])
    data = np.asarray(img.dataobj)
    if "-mas" in words:
        mask = np.asarray(nb.load(after["-mas"]).dataobj) > 0
        data = data * (mask if data.ndim == 3 else mask[..., None])
    save(data.mean(axis=3) if "-Tmean" in words else data, img, words[-1])
elif program == "flirt":
    img, ref = nb.load(after["-in"]), nb.load(after["-ref"])
    value = np.asarray(img.dataobj).max()
    if "-applyxfm" in words and {stretch}:
        nearest = [np.linspace(0, m - 1, n).round().astype(int) for n, m in zip(ref.shape, img.shape)]
        save(np.asarray(img.dataobj)[np.ix_(*nearest)], ref, after["-out"])
    elif "-applyxfm" in words or value >= {unaligned}:
        save(np.full(ref.shape + img.shape[3:], value), ref, after["-out"])
    else:
        save(np.asarray(ref.dataobj) * (value / np.asarray(ref.dataobj).max()), ref, after["-out"])
    np.savetxt(after["-omat"], np.loadtxt(after["-init"]) if "-init" in after else np.eye(4))
elif program == "convert_xfm":
    last = np.loadtxt(words[-1])
    result = np.linalg.inv(last) if "-inverse" in words else np.loadtxt(words[-2]) @ last
    np.savetxt(after["-omat"], result)
elif program == "robustfov":
    img = nb.load(after["-i"])
    save(img.dataobj, img, after["-r"])
    np.savetxt(after["-m"], np.eye(4))
elif program == "N4BiasFieldCorrection":
    img = nb.load(after["--input-image"])
    save(img.dataobj, img, after["--output"])
"""


def write_programs(
    folder: Path, *, unaligned: float = UNALIGNED, stretch: bool = False
) -> tuple[dict[str, str], Path]:
    """Write the programs into a folder.

    Parameters
    ----------
    folder
        Folder of ``fsl`` and of the commands' notes.
    unaligned
        Images with a voxel as bright as this cannot be registered.
    stretch
        Whether resampled images are stretched to the reference's grid, so that what they show stays different
        from voxel to voxel, instead of taking one value.

    Returns
    -------
    tuple
        Variables of the environment that make them FSL, PATH among them, and the file that they note their
        commands in: ``FSLOUTPUTTYPE|command``, of paths only the last part.
    """
    programs, log = folder / "fsl" / "bin", folder / "commands.txt"
    programs.mkdir(parents=True)
    for program in PROGRAMS:
        path = programs / program
        path.write_text(
            STAND_IN.format(python=sys.executable, log=str(log), unaligned=unaligned, stretch=stretch)
        )
        path.chmod(0o755)
    return {"PATH": str(programs), "FSLDIR": str(programs.parent), "FSLOUTPUTTYPE": "NIFTI"}, log


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the programs, and no others, on PATH and return the file that they note their commands in."""
    environment, log = write_programs(folder)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return log
