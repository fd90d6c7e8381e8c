from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from bids_xai.errors import InputError
from bids_xai.settings import (
    SECTIONS,
    Settings,
    load_file,
    load_preset,
    options_of,
    preset_names,
    resolve,
    write_file,
)


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_written_settings_come_back_equal(tmp_path: Path) -> None:
    layer = {
        "selection": {"participant_label": ("01", "02"), "derivatives": (tmp_path / "d",)},
        "samples": {"window": (-2.0, 4.5), "classes": ("face", "tool=scissors+shoe")},
        "preprocessing": {"resolution": 4.0, "detrend": False},
        "inference": {"alpha": (0.05,)},
        "execution": {"work_dir": tmp_path},
    }
    settings = resolve(layer)
    write_file(settings, tmp_path / "logs" / "config.toml")
    assert resolve(load_file(tmp_path / "logs" / "config.toml")) == settings


def test_every_setting_is_documented_and_can_be_written(tmp_path: Path) -> None:
    for section in SECTIONS.values():
        for name, option in options_of(section).items():
            assert len(option.help) > 10, name
    names = [f.name for section in SECTIONS.values() for f in dataclasses.fields(section)]
    assert len(names) == len(set(names)), "an option of the command line has one meaning"


def test_later_layers_win() -> None:
    preset = load_preset("gotsopoulos2018")
    settings = resolve(preset, {"inference": {"n_runs": 7}})
    assert settings.inference.n_runs == 7
    assert settings.inference.n_permutations == 1000
    assert settings.decoding.learning_rate == 0.005


def test_published_preset_holds_the_published_values() -> None:
    settings = resolve(load_preset("gotsopoulos2018"))
    assert settings.preprocessing.high_pass_sigma == 55
    assert (settings.decoding.learning_rate, settings.decoding.l2) == (0.005, 0.0)
    assert settings.inference.map_values == "raw"
    assert settings.preprocessing.resolution == 4
    assert (settings.decoding.batch_size, settings.decoding.n_updates) == (20, 10_000)
    assert settings.inference.permute == "all"
    # 7 volumes of 1.7 s centred on the end of the clip.
    start, stop = settings.samples.window or (0, 0)
    assert stop - start == pytest.approx(7 * 1.7)
    assert settings.samples.window_anchor == "offset"


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_resolves(name: str) -> None:
    assert resolve(load_preset(name)) != Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[decoding]\nlearning_rat = 0.1\n", "learning_rate"),
        ("[decodin]\nlearning_rate = 0.1\n", "decoding"),
        ("[decoding]\nn_runs = 3\n", r"move it to \[inference\]"),
        ("[inference]\nn_runs = 'many'\n", "type int"),
        ("[inference]\nn_runs = 0\n", "at least 1"),
        ("[decoding]\nclip = 0.6\n", "at most 0.5"),
        ("[inference]\nalpha = [0.05, 1.5]\n", "between 0 and 1"),
        ("[decoding]\ncv = 'subjects'\n", "did you mean 'subject'"),
        ("[samples]\nwindow = [1.0]\n", "2 values"),
        ("[decoding\n", "not TOML"),
        ("decoding = 3\n", "a table"),
        ("[preprocessing]\nhigh_pass = 0.01\nhigh_pass_sigma = 55.0\n", "one of the two"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(load_file(_write(tmp_path, text)))


def test_an_absent_file_and_an_unknown_preset_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_file(tmp_path / "none.toml")
    with pytest.raises(InputError, match="did you mean 'gotsopoulos2018'"):
        load_preset("gotsopoulos")


def test_settings_import_no_heavy_library() -> None:
    code = (
        "import sys, bids_xai.cli.parser as p; p.build_parser();"
        "print([m for m in ('torch', 'nipype', 'pandas', 'numpy', 'nibabel') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
