"""ANTs' programs: installed, or inside antspyx in a child process."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from nipype.interfaces import ants as stock
from nipype.pipeline import engine as pe
from nipype.pipeline.engine.nodes import NodeExecutionError

from bids_xai.errors import InputError
from bids_xai.images.motion import rigid_matrix
from bids_xai.interfaces import ants, ants_program
from bids_xai.workflows.registration import PROFILES, registration_interface
from tests.heads import CENTRE, SmoothHead, centred_affine

NAMES = ("Registration", "ApplyTransforms", "N4BiasFieldCorrection")
SHAPE = (24, 24, 24)
AFFINE = centred_affine(np.diag([6.0, 6.0, 6.0]), SHAPE)

STAND_IN = """#!/bin/sh
echo "$(basename $0) $ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS $*" > ran.txt
"""


@pytest.fixture
def no_programs(tmp_path, monkeypatch):
    """Leave only the shell's own folders on PATH, without ANTs."""
    monkeypatch.chdir(tmp_path)  # nipype asks installed programs for their version wherever it is
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    if any((Path(place) / name).exists() for place in ("/usr/bin", "/bin") for name in ants.PROGRAMS):
        pytest.skip("ANTs lies beside the shell")
    return folder


@pytest.fixture
def stand_ins(no_programs):
    """Put scripts on PATH that write down their name, arguments and number of threads."""
    for name in ants.PROGRAMS:
        script = no_programs / name
        script.write_text(
            '#!/bin/sh\necho "$(basename $0) $ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS $*" > ran.txt\n'
        )
        script.chmod(0o755)
    return no_programs


@pytest.fixture
def images(tmp_path):
    """Write a head and the head 8 mm further and 10 degrees turned."""
    movement = rigid_matrix(np.array([8.0, -5, 4, 0.0, 0.0, 0.17]), CENTRE)
    for name, matrix in (("fixed", np.eye(4)), ("moving", movement)):
        data = SmoothHead().image(SHAPE, AFFINE, matrix[None]).slicer[..., 0]
        nb.save(data, tmp_path / f"{name}.nii.gz")
    return str(tmp_path / "fixed.nii.gz"), str(tmp_path / "moving.nii.gz")


def inputs_of(name, images):
    fixed, moving = images
    if name == "Registration":
        return registration_interface(
            "syn", PROFILES["sloppy"], voxel_mm=6, fixed_image=fixed, moving_image=moving
        ).inputs.get_traitsfree()
    if name == "ApplyTransforms":
        return {
            "dimension": 3,
            "input_image": moving,
            "reference_image": fixed,
            "transforms": [fixed, moving],
            "interpolation": "BSpline",
            "float": True,
        }
    return {
        "dimension": 3,
        "input_image": moving,
        "n_iterations": [50, 50, 50],
        "convergence_threshold": 1e-7,
        "bspline_fitting_distance": 200.0,
        "shrink_factor": 2,
        "copy_header": True,
    }


def run(interface, folder):
    folder.mkdir(exist_ok=True)
    return interface.run(cwd=str(folder))


# The command ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_without_programs_the_stock_command_goes_to_antspyx(name, images, no_programs):
    inputs = inputs_of(name, images)
    ours = getattr(ants, name)(**inputs).cmdline
    theirs = getattr(stock, name)(**inputs).cmdline
    assert ours.endswith(theirs)
    assert shlex.split(ours.removesuffix(theirs)) == [sys.executable, ants_program.__file__]
    assert theirs.split()[0] in ants.PROGRAMS


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_installed_programs_get_the_stock_command(name, images, stand_ins):
    inputs = inputs_of(name, images)
    assert getattr(ants, name)(**inputs).cmdline == getattr(stock, name)(**inputs).cmdline


@pytest.mark.parametrize(("threads", "expected"), [({}, "1"), ({"num_threads": 3}, "3")])
def test_an_installed_program_runs_with_its_arguments_in_one_thread(
    threads, expected, images, stand_ins, tmp_path, monkeypatch
):
    monkeypatch.setenv("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "7")
    interface = ants.ApplyTransforms(**inputs_of("ApplyTransforms", images), **threads)
    interface.ignore_exception = True  # the script makes no output image
    run(interface, tmp_path / "work")
    words = (tmp_path / "work" / "ran.txt").read_text().split()
    fixed, moving = images
    shown = interface.cmdline.replace(moving, "inputs/0/moving.nii.gz").replace(
        fixed, "inputs/1/fixed.nii.gz"
    )
    assert words == ["antsApplyTransforms", expected, *shown.split()[1:]]


# The programs inside antspyx -------------------------------------------------------------------------------


def test_bias_fields_are_corrected(images, no_programs, tmp_path):
    head = nb.load(images[0]).get_fdata()
    tissues = np.select([head > 900, head > 300], [1000.0, 600.0], 10.0)  # of even brightness
    bias = np.exp(np.linspace(-0.4, 0.4, 24))[:, None, None]
    nb.save(nb.Nifti1Image((tissues * bias).astype(np.float32), AFFINE), images[1])
    interface = ants.N4BiasFieldCorrection(**inputs_of("N4BiasFieldCorrection", images))
    corrected = nb.load(run(interface, tmp_path / "n4").outputs.output_image)
    assert corrected.shape == SHAPE
    np.testing.assert_allclose(corrected.affine, AFFINE)
    inside = tissues > 10
    left = corrected.get_fdata()[inside] / tissues[inside]
    before = np.broadcast_to(bias, SHAPE)[inside]
    assert left.std() / left.mean() < 0.5 * before.std() / before.mean()


def registered(images, folder):
    """Register and apply; return the registered image's file and the composite transform."""
    register = ants.Registration(**inputs_of("Registration", images))
    transform = run(register, folder).outputs.composite_transform
    apply = ants.ApplyTransforms(**inputs_of("ApplyTransforms", images))
    apply.inputs.transforms = [transform]
    apply.inputs.interpolation = "Linear"
    return run(apply, folder).outputs.output_image


@pytest.mark.slow
def test_registrations_align_and_repeats_are_equal_to_the_bit(images, no_programs, tmp_path, monkeypatch):
    first = registered(images, tmp_path / "first")
    monkeypatch.setenv("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "2")
    second = registered(images, tmp_path / "second")
    fixed, moving, moved = (nb.load(path).get_fdata() for path in (*images, first))
    before, after = (np.corrcoef(fixed.ravel(), x.ravel())[0, 1] for x in (moving, moved))
    assert after > 0.99 > before
    np.testing.assert_array_equal(moved, nb.load(second).get_fdata())


def test_antspyx_is_found_where_the_parent_finds_it(images, no_programs, tmp_path, monkeypatch):
    """On clusters, packages often come through PYTHONPATH or lie in the user's own folder."""
    places = {str(Path(package.__file__).parents[1]) for package in (np, nb)}
    places.add(str(ants_program.library().parents[1]))
    monkeypatch.setattr(sys, "executable", sys._base_executable)
    monkeypatch.setenv("PYTHONPATH", ":".join(places))
    interface = ants.N4BiasFieldCorrection(**inputs_of("N4BiasFieldCorrection", images))
    assert Path(run(interface, tmp_path / "n4").outputs.output_image).is_file()


# What goes wrong --------------------------------------------------------------------------------------------


def crash_of(interface, folder):
    with pytest.raises(NodeExecutionError) as raised:
        pe.Node(interface, name="program", base_dir=str(folder)).run()
    return str(raised.value)


def test_a_failing_program_is_a_crash_with_its_message(images, no_programs, tmp_path):
    broken = tmp_path / "broken.txt"
    broken.write_text("no transform\n")
    interface = ants.ApplyTransforms(**inputs_of("ApplyTransforms", images))
    interface.inputs.transforms = [str(broken)]
    message = crash_of(interface, tmp_path)
    done = subprocess.run(shlex.split(interface.cmdline), capture_output=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "antsApplyTransforms" in message
    assert "Transform reader for" in message.split("Stderr:")[1]


class _Unknown(ants._Embedded, stock.base.ANTSCommand):
    _cmd = "antsMotionCorr"


def test_an_unknown_program_is_a_crash_that_says_so(no_programs, tmp_path):
    message = crash_of(_Unknown(), tmp_path)
    assert "antspyx has no program antsMotionCorr" in message
    assert "exited with code 127" in message


def test_a_child_without_antspyx_says_so():
    command = [sys.executable, "-I", "-S", ants_program.__file__, "antsRegistration"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert done.stderr == "antspyx is not installed: pip install antspyx\n"


def test_the_programs_or_antspyx_must_be_here(no_programs, stand_ins, monkeypatch):
    ants.check_ants()  # the programs
    (no_programs / "antsRegistration").unlink()
    ants.check_ants()  # antspyx
    monkeypatch.setitem(sys.modules, "ants", None)
    assert ants_program.library() is None
    with pytest.raises(InputError, match=r"not here: antsRegistration are not(.|\n)*pip install antspyx"):
        ants.check_ants()
