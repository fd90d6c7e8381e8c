"""What a dataset says of a person beyond the label stays in the dataset."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nb
import pytest

from tests.datasets import QUICK, make_dataset, write_mask

pytestmark = pytest.mark.slow

# No word of ours, so that any place it turns up in is one too many.
SECRET, PASSWORD = "Qvixley", "Zwurnhagel"
# A file of the last subject goes bad between the check and the run, so that a node leaves a crash file.
PROGRAM = """
import sys
from pathlib import Path
from bids_xai.cli import run, stages
query = stages.query_dataset

def query_and_spoil(*arguments):
    found = query(*arguments)
    path = Path(sys.argv[1]) / "sub-04/func/sub-04_task-look_run-1_bold.nii.gz"
    path.write_bytes(path.read_bytes()[:2000])
    return found

if __name__ == "__main__":
    stages.query_dataset = query_and_spoil
    sys.exit(run.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Run both levels, talking as much as they can, with one subject that fails; return all that is left."""
    folder = tmp_path_factory.mktemp("private")
    bids = _dataset(folder / "bids")
    program = folder / "program.py"
    program.write_text(PROGRAM)
    mask = write_mask(folder / "mask.nii.gz")
    words = [bids, folder / "out", "participant", "group", "--mask", mask, "-w", folder / "work", "-vv"]
    words += ["--skip-bids-validation", *QUICK]
    done = subprocess.run(
        [sys.executable, program, *map(str, words)],
        capture_output=True,
        check=False,
        env={**os.environ, "MY_TOKEN": PASSWORD},
    )
    assert done.returncode == 1, done.stderr.decode()
    found = {"what is printed": done.stdout + done.stderr}
    for path in (*(folder / "out").rglob("*"), *(folder / "work").rglob("*")):
        if path.is_file():
            packed = path.read_bytes()
            is_packed = packed[:2] == b"\x1f\x8b"
            found[str(path.relative_to(folder))] = gzip.decompress(packed) if is_packed else packed
    return found


def _dataset(root: Path) -> Path:
    """Write a dataset that has names where they should not be, but are: in tables, sidecars and headers."""
    bids = make_dataset(root, n_subjects=4)
    lines = (bids / "participants.tsv").read_text().splitlines()
    people = [f"{line}\t{SECRET}\t{SECRET}-1970" for line in lines[1:]]
    (bids / "participants.tsv").write_text("\n".join([f"{lines[0]}\tname\tborn", *people]) + "\n")
    sidecar = {"TaskName": "look", "RepetitionTime": 2.0, "PatientName": SECRET, "PatientID": SECRET}
    for path in sorted(bids.glob("sub-*/func/*_bold.nii.gz")):
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
        image = nb.load(path)
        image.header["descrip"] = image.header["db_name"] = SECRET.encode()
        nb.save(nb.Nifti1Image(image.get_fdata(dtype="float32"), image.affine, image.header), path)
    return bids


def test_logs_and_outputs_name_people_by_their_labels_alone(traces: dict[str, bytes]) -> None:
    assert b"sub-04" in traces["what is printed"]
    assert any(Path(name).name.startswith("crash-") for name in traces)
    told = [name for name, content in traces.items() if SECRET.encode() in content]
    assert [name for name in told if not name.startswith("work/")] == []


def test_the_environment_is_kept_nowhere(traces: dict[str, bytes]) -> None:
    assert any(name.startswith("work/") and name.endswith(".pklz") for name in traces)
    assert [name for name, content in traces.items() if PASSWORD.encode() in content] == []
