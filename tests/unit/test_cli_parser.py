from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from bids_xai import __version__
from bids_xai.cli.parser import build_parser, parse
from bids_xai.cli.progress import Progress
from bids_xai.cli.run import main
from bids_xai.errors import InputError
from bids_xai.settings import SECTIONS, options_of


def test_precedence_is_preset_then_file_then_flags(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[inference]\nn_runs = 50\nn_null = 60\n")
    request = parse(
        ["bids", "out", "group", "--preset", "gotsopoulos2018", "--config-file", str(config), "--n-runs", "3"]
    )
    inference = request.settings.inference
    assert (inference.n_runs, inference.n_null, inference.n_permutations) == (3, 60, 1000)


def test_underscores_are_accepted_in_option_names_but_not_changed_in_values() -> None:
    request = parse(
        ["bids", "out", "participant", "--participant_label", "sub_1", "--task-id=a_b", "--n_runs=5"]
    )
    assert request.settings.selection.participant_label == ("sub_1",)
    assert request.settings.selection.task_id == ("a_b",)
    assert request.settings.inference.n_runs == 5


def test_both_levels_run_in_their_order() -> None:
    assert parse(["bids", "out", "group", "participant"]).levels == ("participant", "group")


def test_a_switch_can_be_turned_off() -> None:
    assert parse(["b", "o", "group"]).settings.preprocessing.detrend
    assert not parse(["b", "o", "group", "--no-detrend"]).settings.preprocessing.detrend


def test_every_setting_has_an_option_in_the_help() -> None:
    text = build_parser().format_help()
    for section in SECTIONS.values():
        for name in options_of(section):
            assert f"--{name.replace('_', '-')}" in text


def test_a_wrong_value_on_the_command_line_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'LRP-z'"):
        parse(["b", "o", "group", "--importance", "LRP-zz"])


@pytest.mark.parametrize("words", [["b"], ["b", "o", "subject"], ["b", "o", "group", "--no-such-option"]])
def test_wrong_words_exit_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "usage" in capsys.readouterr().err


def test_help_and_version_exit_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


def _node(**inputs: object) -> SimpleNamespace:
    return SimpleNamespace(name="chunk", output_dir=lambda: "", inputs=SimpleNamespace(**inputs))


def test_progress_counts_models_and_prints_plain_lines_off_a_terminal() -> None:
    stream = io.StringIO()
    progress = Progress("Group", 120, "models", per_repetition=4, stream=stream, interval=0.0)
    stage = {"stage": "null", "importance": ["W"]}
    chunk, whole = _node(start=10, stop=20, **stage), _node(start=[0, 10], stop=[10, 20], **stage)
    progress(chunk, "start")
    progress(chunk, "exception")
    for node, done in ((_node(), 0), (chunk, 40), (whole, 80), (whole, 80)):
        progress(node, "end")
        assert progress.done == done
    progress.close()
    assert "80/120 models (66 %)" in stream.getvalue()
    assert "models/s" in stream.getvalue()
    assert "left" in stream.getvalue()
    assert "\r" not in stream.getvalue()
