"""What GeneratedBy says of the container."""

from __future__ import annotations

import pytest

from bids_xai.bids.container import container_of

IMAGE = {"BIDS_XAI_CONTAINER": "docker:bids-xai:0.1.0"}
FILE = "/scratch/some one/bids-xai.sif"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"BIDS_XAI_CONTAINER": ""}, None),
        ({"BIDS_XAI_CONTAINER": "docker"}, None),
        (IMAGE, {"Type": "docker", "Tag": "bids-xai:0.1.0"}),
        (
            {**IMAGE, "APPTAINER_CONTAINER": FILE, "SINGULARITY_CONTAINER": FILE},
            {"Type": "apptainer", "Tag": "bids-xai:0.1.0"},
        ),
        ({**IMAGE, "SINGULARITY_CONTAINER": FILE}, {"Type": "singularity", "Tag": "bids-xai:0.1.0"}),
        # Folders may hold the name of a person; the name of the file is enough.
        ({"APPTAINER_CONTAINER": FILE}, {"Type": "apptainer", "Tag": "bids-xai.sif"}),
    ],
)
def test_the_environment_says_which_container_it_is(
    environ: dict[str, str], expected: dict[str, str] | None
) -> None:
    assert container_of(environ) == expected
