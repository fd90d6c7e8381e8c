import json
import shutil
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_xai.cli.phantom import main
from bids_xai.errors import InputError
from bids_xai.phantom.bids_dataset import make_dataset
from bids_xai.phantom.parameters import PhantomParameters

SMALL = {"runs": 2, "classes": 2, "trials_per_class": 3, "resolution": 8.0, "t1w_resolution": 8.0, "seed": 4}
TEMPLATE_MASK = "derivatives/truth/tpl-MNI152NLin2009aSym/tpl-MNI152NLin2009aSym_res-8_{}_mask.nii.gz"


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("plain") / "ds", PhantomParameters(subjects=2, **SMALL))


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    parameters = PhantomParameters(subjects=1, anatomy=True, motion=True, **SMALL)
    return make_dataset(tmp_path_factory.mktemp("moving") / "ds", parameters)


def test_same_seed_same_bytes_and_subjects_do_not_depend_on_each_other(plain, tmp_path):
    again = contents(make_dataset(tmp_path / "again", PhantomParameters(subjects=2, **SMALL)))
    assert again == contents(plain)
    alone = contents(make_dataset(tmp_path / "alone", PhantomParameters(subjects=1, **SMALL)))
    first = {name: data for name, data in again.items() if name.startswith("sub-01/")}
    assert first == {name: data for name, data in alone.items() if name.startswith("sub-01/")}
    other = contents(make_dataset(tmp_path / "other", PhantomParameters(subjects=1, **{**SMALL, "seed": 5})))
    assert all(other[name] != data for name, data in first.items())


@pytest.mark.parametrize("name", ["plain", "moving"])
@pytest.mark.parametrize("inner", [".", "derivatives/truth"])
def test_the_bids_validator_finds_no_error(name, inner, request):
    validator = shutil.which("bids-validator-deno", path=sys.exec_prefix + "/bin") or shutil.which(
        "bids-validator-deno"
    )
    if validator is None:
        pytest.skip("bids-validator-deno is not installed")
    folder = request.getfixturevalue(name) / inner
    done = subprocess.run([validator, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_headers_say_where_and_when(plain, moving):
    for folder, code in ((plain, 4), (moving, 1)):
        for path in sorted(folder.glob("sub-*/*/*.nii.gz")):
            header = nib.load(path).header
            assert (int(header["sform_code"]), int(header["qform_code"])) == (code, code)
            np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-4)
            assert header.get_xyzt_units() == ("mm", "sec")
    bold = nib.load(plain / "sub-01/func/sub-01_task-objects_run-1_bold.nii.gz")
    sidecar = json.loads((plain / "task-objects_bold.json").read_text())
    assert bold.header.get_zooms() == (8.0, 8.0, 8.0, sidecar["RepetitionTime"])
    mask = nib.load(plain / TEMPLATE_MASK.format("label-face"))
    assert mask.shape == bold.shape[:3]
    np.testing.assert_array_equal(mask.affine, bold.affine)
    events = pd.read_csv(plain / "sub-01/func/sub-01_task-objects_run-1_events.tsv", sep="\t")
    assert events["trial_type"].value_counts().to_dict() == {"face": 3, "house": 3}
    assert (events["onset"] + events["duration"]).max() < bold.shape[3] * sidecar["RepetitionTime"]


def test_masks_agree_with_each_other(plain):
    face, house, shared, brain = (
        nib.load(plain / TEMPLATE_MASK.format(part)).get_fdata() > 0
        for part in ("label-face", "label-house", "label-shared", "desc-brain")
    )
    np.testing.assert_array_equal(shared, face & house)
    assert 0.25 < shared.sum() / face.sum() < 0.75
    assert brain.sum() * 8**3 == pytest.approx(1.9e6, rel=0.1)


def test_a_head_of_its_own_comes_with_its_truth(moving, plain):
    truth = moving / "derivatives/truth"
    own = nib.load(truth / "sub-01/func/sub-01_task-objects_desc-brain_mask.nii.gz").get_fdata() > 0
    bold = np.asanyarray(nib.load(moving / "sub-01/func/sub-01_task-objects_run-1_bold.nii.gz").dataobj)
    template = nib.load(plain / TEMPLATE_MASK.format("desc-brain")).get_fdata() > 0

    def dice(a, b):
        return 2 * (a & b).sum() / (a.sum() + b.sum())

    lit = bold[..., 0] > 70
    assert dice(lit, own) > 0.93
    assert dice(lit, own) > dice(lit, template) + 0.05
    table = pd.read_csv(truth / "sub-01/func/sub-01_task-objects_run-1_desc-motion_timeseries.tsv", sep="\t")
    assert len(table) == bold.shape[3]
    assert not table.iloc[0].any()


def test_a_null_dataset_has_empty_masks_and_the_same_events(plain, tmp_path):
    command = ["--subjects", "1", "--classes", "2", "--trials-per-class", "3", "--seed", "4", "--null"]
    command += ["--resolution", "8", "--t1w-resolution", "8"]
    assert main([str(tmp_path / "null"), *command]) == 0
    assert not nib.load(tmp_path / "null" / TEMPLATE_MASK.format("label-face")).get_fdata().any()
    name = "sub-01/func/sub-01_task-objects_run-2_events.tsv"
    assert (tmp_path / "null" / name).read_bytes() == (plain / name).read_bytes()


def test_a_folder_that_holds_something_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main([str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_what_fails_halfway_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_args):
        raise OSError("disk full")

    monkeypatch.setattr("bids_xai.phantom.bids_dataset._write_subject", fail)
    with pytest.raises(OSError, match="disk full"):
        make_dataset(tmp_path / "ds", PhantomParameters(subjects=1, **SMALL))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        make_dataset(tmp_path / "file" / "ds", PhantomParameters(subjects=1, **SMALL))


def test_wrong_arguments_end_with_code_2(tmp_path, capsys):
    assert main([str(tmp_path / "ds"), "--classes", "99"]) == 2
    assert "between 2 and 8" in capsys.readouterr().err
    assert not (tmp_path / "ds").exists()
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2


def test_help_starts_fast():
    code = (
        "import sys; from bids_xai.cli.phantom import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    )
    code += "assert not {'numpy', 'nibabel', 'scipy', 'nilearn'} & set(sys.modules), 'heavy import'"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert (
        time.perf_counter() - start < 3
    )  # about .07 s when the machine is free; the imports are the real check
