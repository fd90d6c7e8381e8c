"""``bids-xai-phantom``: kinds of phantom, and options that belong to one of them."""

from __future__ import annotations

import dataclasses

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_xai.cli.phantom import KINDS, build_parser, main, parameters_of
from bids_xai.errors import InputError
from bids_xai.phantom.lesion_parameters import LesionParameters
from bids_xai.phantom.parameters import PhantomParameters

SMALL = ["--subjects", "2", "--resolution", "8", "--seed", "3"]


def parsed(*words):
    return parameters_of(build_parser().parse_args(["ds", *words]))


def test_nothing_given_means_the_defaults_of_the_kind():
    assert parsed() == PhantomParameters()
    assert parsed("--kind", "lesions") == LesionParameters()


def test_every_parameter_has_an_option_of_its_type():
    for kind, parameters in KINDS.items():
        for field in dataclasses.fields(parameters):
            if field.name == "null":
                continue
            option = "--" + field.name.replace("_", "-")
            default = field.default
            value = [] if isinstance(default, bool) else [str(default)]
            assert type(getattr(parsed("--kind", kind, option, *value), field.name)) is type(default)
            assert option in build_parser().format_help()


def test_null_is_no_effect_of_bold_and_lesions_of_anybody():
    assert parsed("--null", "--effect", "2") == PhantomParameters(effect=0.0)
    assert parsed("--null", "--kind", "lesions") == LesionParameters(null=True)


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--kind", "lesions", "--tr", "2"], "--tr"),
        (["--modality", "FLAIR"], "--modality"),
        (["--kind", "lesions", "--no-motion"], "--motion"),
    ],
)
def test_an_option_of_the_other_kind_is_refused(words, option):
    with pytest.raises(InputError, match=f"leave out {option}, or choose another --kind"):
        parsed(*words)


def test_a_dataset_with_lesions_is_written(tmp_path, capsys):
    words = ["--kind", "lesions", "--modality", "FLAIR", "--classes", "2", *SMALL]
    assert main([str(tmp_path / "ds"), *words]) == 0
    table = pd.read_csv(tmp_path / "ds/participants.tsv", sep="\t")
    assert sorted(table["group"]) == ["control", "patient"]
    flair = nib.load(tmp_path / "ds/sub-01/anat/sub-01_FLAIR.nii.gz")
    np.testing.assert_allclose(flair.header.get_zooms(), 8)
    assert main([str(tmp_path / "ds"), *words]) == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_wrong_values_end_with_code_2(tmp_path, capsys):
    assert main([str(tmp_path / "ds"), "--kind", "lesions", "--classes", "3"]) == 2
    assert "--classes is 3" in capsys.readouterr().err
    assert main([str(tmp_path / "ds"), "--kind", "lesions", "--modality", "T2w"]) == 2
    assert "one of T1w, FLAIR" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
