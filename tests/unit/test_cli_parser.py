from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bids_xai import __version__
from bids_xai.cli.parser import build_parser, parse
from bids_xai.cli.run import main
from bids_xai.errors import InputError
from bids_xai.execution.progress import Progress
from bids_xai.settings import SECTIONS, departures, options_of, write_file


def test_precedence_is_preset_then_file_then_flags(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[inference]\nn_runs = 50\nn_null = 60\n")
    request = parse(
        ["bids", "out", "group", "--preset", "gotsopoulos2018", "--config-file", str(config), "--n-runs", "3"]
    )
    inference = request.settings.inference
    assert (inference.n_runs, inference.n_null, inference.n_permutations) == (3, 60, 1000)


def test_what_settings_start_from_is_kept_and_comes_back(tmp_path: Path) -> None:
    words = ["bids", "out", "group", "--preset", "boehle2019", "--sloppy", "--patience", "3"]
    words += ["-w", str(tmp_path / "work")]
    settings = parse(words).settings
    assert settings.flat()["preset"] == "boehle2019"
    assert settings.flat()["sloppy"] is True
    # What was asked for, and what --sloppy cuts short of what the preset says.
    assert departures(settings) == ["patience", "max_epochs"]
    write_file(settings, tmp_path / "config.toml")
    again = parse(["bids", "out", "group", "--config-file", str(tmp_path / "config.toml")]).settings
    assert again == settings
    plain = parse(["bids", "out", "group"]).settings
    assert "preset" not in plain.flat()
    assert plain.flat()["sloppy"] is False
    assert departures(plain) == []


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--undersample sex", "a network as --model"),
        ("--explain saliency", "a network as --model"),
        ("--lesion-masks /nonexistent", "a network as --model"),
        ("--no-trust", "a network as --model"),
        ("--model boehle2019 --n-null 3", "--model softmax"),
        ("--model boehle2019 --importance WX", "--model softmax"),
        ("--modality T1w --window 0 3", "--modality bold"),
        ("--modality T1w --no-detrend", "--modality bold"),
        ("--scaling max", "an anatomical --modality"),
        ("--preproc none --dof 7", "--preproc fsl"),
        ("--preproc derivatives --registration affine", "--preproc ants or fsl"),
        ("--cv run --n-folds 3", "--cv kfold or holdout"),
        ("--hrf-shift 3 --window 0 3", "no --window"),
        ("--window-anchor offset", "--window-anchor with --window"),
        ("--model boehle2019 --shift-axes x", "--max-shift"),
        ("--model boehle2019 --cv kfold --test-size 0.3", "--cv holdout"),
    ],
)
def test_options_that_nothing_uses_are_refused(words: str, message: str) -> None:
    with pytest.raises(InputError, match=f"(?s)which does not use it.*{message}"):
        parse(["b", "o", "group", *words.split()])


def test_options_that_the_input_decides_on_are_checked_once_it_is_known() -> None:
    request = parse(["b", "o", "participant", "--dof", "7"])
    known = replace(request.settings.preprocessing, preproc="ants")
    with pytest.raises(InputError, match="--dof with --preproc ants"):
        replace(request, settings=replace(request.settings, preprocessing=known)).check_used()


def test_a_preset_may_hold_what_is_not_used_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    request = parse(["b", "o", "group", "--preset", "boehle2019", "--model", "softmax"])
    request.check_used()
    assert "Preset boehle2019: --test-size" in caplog.text


def test_written_settings_of_any_model_can_be_read_again(tmp_path: Path) -> None:
    for words in ("--preset boehle2019", "--preset emotion-occlusion", "--model softmax", "--sloppy"):
        request = parse(["b", "o", "group", *words.split()])
        write_file(request.settings, tmp_path / "config.toml")
        again = parse(["b", "o", "group", "--config-file", str(tmp_path / "config.toml")])
        again.check_used()
        assert again.settings.decoding == request.settings.decoding


def test_every_rule_names_a_setting_and_a_value_that_exist() -> None:
    options = {
        name: details for section in SECTIONS.values() for name, details in options_of(section).items()
    }
    for name, details in options.items():
        for rule in details.applies:
            decides = options[rule.setting]
            assert rule.setting != name
            if decides.choices is not None:
                assert {*rule.to, *rule.but_not} <= set(decides.choices()), (name, rule)


def test_help_groups_options_by_what_uses_them() -> None:
    text = build_parser().format_help()
    _, _, of_networks = text.partition("Network (with a network as --model, such as boehle2019)")
    assert "--explain-class" in of_networks
    assert "Inference (with --model softmax):" in text
    assert "Preprocessing (with --modality bold):" in text
