"""A sidecar stands only beside the samples that it describes, and rows are compared with volumes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from bids_xai.bids.results import find_samples, written_rows
from bids_xai.bids.sample_files import check_collected, stacked_rows, write_samples
from bids_xai.errors import InputError
from bids_xai.images.stacking import stack_samples, stack_volumes

SHAPE = (3, 4, 2)
METADATA = {"Sample": "events", "Mask": "sub-01/func/sub-01_task-x_desc-brain_mask.nii.gz"}


def image(path: Path, n: int, seed: int = 0) -> Path:
    data = np.random.default_rng(seed).standard_normal((*SHAPE, n)).astype(np.float32)
    nb.save(nb.Nifti1Image(data, np.eye(4)), path)
    return path


def rows(n: int, run: int) -> pd.DataFrame:
    labels = ["face" if row % 2 else "house" for row in range(n)]
    return pd.DataFrame({"subject": "01", "session": None, "task": "x", "run": str(run), "class": labels})


def target(out: Path, run: int) -> Path:
    return out / f"sub-01/func/sub-01_task-x_run-{run}_desc-events_samples.nii.gz"


def write(out: Path, run: int, n: int = 8, seed: int | None = None) -> Path:
    made = image(out.parent / "work.nii.gz", n, run if seed is None else seed)
    return write_samples(made, rows(n, run), target(out, run), METADATA, out / METADATA["Mask"])


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return a folder with the samples of two runs."""
    folder = tmp_path / "out"
    mask = folder / METADATA["Mask"]
    mask.parent.mkdir(parents=True)
    nb.save(nb.Nifti1Image(np.ones(SHAPE, np.uint8), np.eye(4)), mask)
    for run in (1, 2):
        write(folder, run)
    return folder


def test_written_samples_are_read_back(out: Path) -> None:
    found = find_samples(out)
    assert written_rows(found)["run"].tolist() == ["1"] * 8 + ["2"] * 8
    assert found[0].metadata["NumberOfSamples"] == 8
    assert set(found[0].metadata["SHA256"]) == {"Image", "Rows", "Mask"}
    check_collected([item.samples for item in found], [item.mask for item in found])


def test_the_same_samples_are_not_touched(out: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    write(out, 1)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("ending", [".nii.gz", ".tsv"])
def test_a_writer_that_ends_before_its_last_file_leaves_no_result(out: Path, ending: str) -> None:
    stop = target(out, 1).with_name(target(out, 1).name.replace(".nii.gz", ending))
    stop.unlink()
    (stop / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match=r"[Dd]irectory"):
        write(out, 1, n=6)
    assert [item.run for item in find_samples(out)] == ["2"]


def _one_row_less(out: Path) -> None:
    replace_in(target(out, 1).with_name(target(out, 1).name.replace(".nii.gz", ".tsv")), "house\n", "")


def _labels_exchanged(out: Path) -> None:
    table = target(out, 1).with_name(target(out, 1).name.replace(".nii.gz", ".tsv"))
    table.write_text(table.read_text().replace("face", "x").replace("house", "face").replace("x", "house"))


def _another_image(out: Path) -> None:
    target(out, 1).write_bytes(target(out, 2).read_bytes())


def _another_mask(out: Path) -> None:
    smaller = np.ones(SHAPE, np.uint8)
    smaller[0] = 0
    nb.save(nb.Nifti1Image(smaller, np.eye(4)), out / METADATA["Mask"])


def _no_table(out: Path) -> None:
    target(out, 1).with_name(target(out, 1).name.replace(".nii.gz", ".tsv")).unlink()


def _no_checksums(out: Path) -> None:
    sidecar = target(out, 1).with_name(target(out, 1).name.replace(".nii.gz", ".json"))
    replace_in(sidecar, '"SHA256"', '"Other"')


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (_one_row_less, r"run-1.*\.tsv: not what"),
        (_labels_exchanged, r"run-1.*\.tsv: not what"),
        (_another_image, r"run-1.*\.nii\.gz: not what"),
        (_another_mask, r"mask\.nii\.gz: not what .*run-1"),
        (_no_table, r"run-1.*\.tsv does not exist"),
        (_no_checksums, "has no checksums"),
    ],
)
def test_what_does_not_belong_together_is_refused(out: Path, tamper, words: str) -> None:
    tamper(out)
    found = find_samples(out)
    with pytest.raises(InputError, match=words):
        written_rows(found)
    with pytest.raises(InputError, match=words):
        check_collected([item.samples for item in found], [item.mask for item in found])


def test_all_that_is_wrong_is_named(out: Path) -> None:
    for run in (1, 2):
        target(out, run).unlink()
    with pytest.raises(InputError, match=r"(?s)2 problems.*run-1.*run-2"):
        written_rows(find_samples(out))


def test_rows_are_counted_in_workflows_without_a_participant_level(tmp_path: Path) -> None:
    images = [image(tmp_path / f"{name}.nii.gz", n) for name, n in (("a", 3), ("b", 5))]
    tables = []
    for name, n in (("a", 3), ("b", 4)):
        tables.append(tmp_path / f"{name}.tsv")
        rows(n, 1).to_csv(tables[-1], sep="\t", index=False, na_rep="n/a")
    check_collected(images, images)
    assert stacked_rows(tables[:1], images[:1])["volume"].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"b\.nii\.gz has 5 volumes, and .*b\.tsv has 4 rows"):
        stacked_rows(tables, images)
    with pytest.raises(InputError, match="3 volumes, and its table has 9 rows"):
        write_samples(images[0], rows(9, 1), target(tmp_path, 1), {}, images[0])


def test_no_row_of_the_matrix_stays_empty(tmp_path: Path) -> None:
    images = [nb.load(image(tmp_path / f"{n}.nii.gz", n)) for n in (2, 3)]
    mask = nb.Nifti1Image(np.ones(SHAPE, np.uint8), np.eye(4))
    kept = np.array([0, 5])
    with pytest.raises(InputError, match="5 volumes, and sample 6"):
        stack_samples(images, mask, kept, out=np.zeros((2, 24), np.float32))
    with pytest.raises(InputError, match="5 volumes, and sample 6"):
        stack_volumes(images, kept, out=np.zeros((2, *SHAPE), np.float32))
