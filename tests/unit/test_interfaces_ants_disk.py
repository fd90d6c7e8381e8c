"""Programs of ITK on a full disk: they report success, and leave half a file."""

from __future__ import annotations

import errno
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

from bids_xai.interfaces import ants
from bids_xai.interfaces.ants import check_whole
from tests.disks import fill, small_tmpfs


@pytest.fixture
def image(tmp_path: Path, rng: np.random.Generator) -> Path:
    path = tmp_path / "image.nii.gz"
    nb.save(nb.Nifti1Image(rng.standard_normal((24, 24, 24)).astype(np.float32), np.eye(4)), path)
    return path


@pytest.mark.parametrize("name", ["out.nii.gz", "out.nii"])
@pytest.mark.parametrize("leave_kib", [0, 20])
def test_half_an_image_is_an_error(image: Path, tmp_path: Path, name: str, leave_kib: int) -> None:
    with small_tmpfs(tmp_path / "disk", 128) as disk:
        filler = fill(disk, leave_kib)
        interface = ants.ApplyTransforms(
            input_image=str(image),
            reference_image=str(image),
            transforms="identity",
            output_image=str(disk / name),
        )
        with pytest.raises((OSError, FileNotFoundError), match=r"No space left|No such file"):
            interface.run(cwd=tmp_path)
        filler.unlink()
        interface.run(cwd=tmp_path)
        check_whole(disk / name)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n"])
def test_half_a_transform_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "Composite.h5"
    path.write_bytes(content)
    with pytest.raises(OSError, match="No space left") as caught:
        check_whole(path)
    assert caught.value.errno == errno.ENOSPC


def test_a_registration_is_whole(image: Path, tmp_path: Path) -> None:
    interface = ants.Registration(
        fixed_image=str(image), moving_image=str(image), metric=["MI"], metric_weight=[1.0],
        radius_or_number_of_bins=[16], transforms=["Affine"], transform_parameters=[(0.1,)],
        number_of_iterations=[[2]], smoothing_sigmas=[[0.0]], shrink_factors=[[1]],
        write_composite_transform=True, output_warped_image=str(tmp_path / "warped.nii.gz"),
        output_transform_prefix=str(tmp_path / "to"),
    )  # fmt: skip
    outputs = interface.run(cwd=tmp_path).outputs
    for path in (outputs.composite_transform, outputs.inverse_composite_transform, outputs.warped_image):
        check_whole(Path(path))
    damaged = Path(outputs.composite_transform)
    damaged.write_bytes(damaged.read_bytes()[:-200])
    with pytest.raises(OSError, match="No space left"):
        check_whole(damaged)
