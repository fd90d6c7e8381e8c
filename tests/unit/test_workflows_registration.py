"""Commands of the registration profiles, compared with antsRegistrationSyN.sh and SyNQuick.sh."""

from __future__ import annotations

import re

import pytest

from bids_xai.settings import resolve
from bids_xai.workflows import PROFILES as PROFILE_NAMES
from bids_xai.workflows.registration import COREGISTRATION, PROFILES, registration_interface

# What the scripts pass at 1 mm. SyNQuick's last level, 8x4x2x1 with 1000x500x250x0 and 100x70x50x0, has no
# iterations and is not here; voxels are mm.
LINEAR = {
    "full": "[1000x500x250x100,1e-06,10] --smoothing-sigmas 3x2x1x0mm --shrink-factors 8x4x2x1",
    "quick": "[1000x500x250,1e-06,10] --smoothing-sigmas 3x2x1mm --shrink-factors 8x4x2",
    "sloppy": "[50x20,1e-06,10] --smoothing-sigmas 3x2mm --shrink-factors 8x4",
}
SYN = {
    "full": "[100x70x50x20,1e-06,10] --smoothing-sigmas 3x2x1x0mm --shrink-factors 8x4x2x1",
    "quick": "[100x70x50,1e-06,10] --smoothing-sigmas 3x2x1mm --shrink-factors 8x4x2",
    "sloppy": "[20x10,1e-06,10] --smoothing-sigmas 3x2mm --shrink-factors 8x4",
}
SYN_METRIC = {"full": "CC[FIXED,MOVING,1,4,None]"}
MI = "MI[FIXED,MOVING,1,32,None]"
LINEAR_METRIC = "MI[FIXED,MOVING,1,32,Regular,0.25]"
FILES = {"fixed_image": "FIXED", "moving_image": "MOVING", "initial_moving_transform": "INIT"}
KINDS = {"rigid": ("Rigid",), "affine": ("Rigid", "Affine"), "syn": ("Rigid", "Affine", "SyN")}


@pytest.fixture
def inputs(tmp_path):
    """Return empty files: only their names go into a command."""
    for name in FILES.values():
        (tmp_path / f"{name}.nii").touch()
    return {port: str(tmp_path / f"{name}.nii") for port, name in FILES.items()}


def words(interface, inputs):
    """Return a command's words as the scripts write them: no spaces in brackets, whole numbers as such."""
    command = interface.cmdline
    command = command[re.search(r"\bantsRegistration\b(?= )", command).start() :]
    for port, name in (
        ("fixed_image", "FIXED"),
        ("moving_image", "MOVING"),
        ("initial_moving_transform", "INIT"),
    ):
        command = command.replace(inputs[port], name)
    command = re.sub(r"\[ | \]|(?<=,) ", lambda found: found.group().strip(), command)
    return re.sub(r"(\d)\.0(?!\d)", r"\1", command).split()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("profile", PROFILES)
def test_commands_are_the_scripts(kind, profile, inputs):
    stages = []
    for transform in KINDS[kind]:
        if transform == "SyN":
            stage = f"SyN[0.1,3,0] --metric {SYN_METRIC.get(profile, MI)} --convergence {SYN[profile]}"
        else:
            stage = f"{transform}[0.1] --metric {LINEAR_METRIC} --convergence {LINEAR[profile]}"
        stages.append(f"--transform {stage} --use-histogram-matching 0")
    expected = (
        "antsRegistration --collapse-output-transforms 1 --dimensionality 3 --float 1 "
        "--initial-moving-transform [INIT,0] --initialize-transforms-per-stage 0 --interpolation Linear "
        f"--output transform --random-seed 8 {' '.join(stages)} "
        "--winsorize-image-intensities [0.005,0.995] --write-composite-transform 1"
    )
    interface = registration_interface(kind, PROFILES[profile], random_seed=7, **inputs)
    assert words(interface, inputs) == expected.split()


@pytest.mark.parametrize(
    ("profile", "voxel_mm", "factors"),
    [
        ("full", 1, "8x4x2x1"),
        ("full", 2, "4x2x1x1"),
        ("quick", 1, "8x4x2"),
        ("quick", 2, "4x2x1"),
        ("sloppy", 2, "4x2"),
        ("sloppy", 4, "2x1"),
    ],
)
def test_levels_are_in_mm_whatever_the_template(profile, voxel_mm, factors, inputs):
    command = words(registration_interface("syn", PROFILES[profile], voxel_mm=voxel_mm, **inputs), inputs)
    shrinking = [command[i + 1] for i, word in enumerate(command) if word == "--shrink-factors"]
    assert shrinking == [factors] * 3


@pytest.mark.parametrize("profile", COREGISTRATION)
def test_coregistrations_end_at_every_voxel_of_their_finest_level(profile, inputs):
    levels = COREGISTRATION[profile]
    finest = levels.levels_mm[-1]
    command = words(registration_interface("affine", levels, voxel_mm=finest, **inputs), inputs)
    assert command[command.index("--shrink-factors") + 1].endswith("1")
    assert sum(word.startswith(("Rigid[", "Affine[")) for word in command) == 2
    assert f"[{'x'.join(map(str, levels.linear))},1e-06,10]" in command


@pytest.mark.parametrize("table", [PROFILES, COREGISTRATION], ids=["template", "coregistration"])
def test_every_level_has_its_numbers_and_levels_get_finer(table):
    for profile in table.values():
        n = len(profile.levels_mm)
        assert len(profile.sigmas_mm) == len(profile.linear) == n
        assert len(profile.syn) in (0, n)
        assert list(profile.levels_mm) == sorted(profile.levels_mm, reverse=True)
        assert list(profile.sigmas_mm) == sorted(profile.sigmas_mm, reverse=True)


def test_the_settings_offer_these_profiles():
    assert set(PROFILE_NAMES) == set(PROFILES) == set(COREGISTRATION)
    assert resolve().preprocessing.registration_profile in PROFILES


def test_the_default_seed_is_not_the_time_of_day(inputs):
    """A seed of 0 makes antsRegistration take the clock."""
    command = words(registration_interface("rigid", PROFILES["quick"], random_seed=0, **inputs), inputs)
    assert command[command.index("--random-seed") + 1] == "1"
