"""The README says what is true."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from bids_xai.cli.fetch import build_parser as build_fetch_parser
from bids_xai.cli.parser import build_parser, parse
from bids_xai.cli.phantom import build_parser as build_phantom_parser
from bids_xai.cli.scenarios import build_parser as build_scenarios_parser
from tests.datasets import make_dataset, write_mask

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")

DOCKER = {"--build-arg", "--gpus", "--network", "--read-only", "--rm", "--tmpfs"}
# Options of other programs in the text; tests marked container and slurm run these lines.
APPTAINER = {"--cleanenv", "--containall", "--env", "--nv", "--workdir"}
SLURM = {"--array", "--cpus-per-task", "--dependency", "--kill-on-invalid-dep", "--mem", "--parsable"}
CLUSTER = {"--constraint", "--partition", "--time", "--resources"}


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def _commands() -> list[str]:
    return [
        line.strip()
        for block in _blocks("bash")
        for line in block.replace("\\\n", " ").replace("&&", "\n").splitlines()
    ]


def test_the_embedding_example_runs_as_printed(tmp_path: Path) -> None:
    bids = make_dataset(tmp_path / "bids", n_subjects=1, n_runs=3)
    names = {
        "bold": [str(path) for path in sorted(bids.glob("sub-*/func/*_bold.nii.gz"))],
        "events": [str(path) for path in sorted(bids.glob("sub-*/func/*_events.tsv"))],
        "mask": str(write_mask(tmp_path / "mask.nii.gz")),
        "work_dir": str(tmp_path / "work"),
    }
    (example,) = _blocks("python")
    assert len(example.strip().splitlines()) <= 20
    exec(compile(example, "README.md", "exec"), names)
    (manifest,) = (tmp_path / "work").glob("mine/group_wf/write/group/results.json")
    results = json.loads(manifest.read_text())
    assert (results["n_permutations"], results["methods"]) == (19, ["WX"])
    assert results["n_folds"] == 3


@pytest.mark.parametrize("line", _commands())
def test_every_command_is_accepted(line: str, tmp_path: Path) -> None:
    words = shlex.split(line, comments=True)
    others = {"bids-xai-phantom": build_phantom_parser, "bids-xai-scenarios": build_scenarios_parser}
    if not words or Path(words[0]).name not in ("bids-xai", *others):
        return
    if Path(words[0]).name in others:
        others[Path(words[0]).name]().parse_args(words[1:])
    elif words[1:] != ["--help"]:
        parse(words[1:])


def test_every_option_that_the_text_names_exists() -> None:
    parsers = (build_parser(), build_phantom_parser(), build_fetch_parser(), build_scenarios_parser())
    known = "".join(parser.format_help() for parser in parsers)
    others = {"--version", "--help", "--dist"} | DOCKER | APPTAINER | SLURM | CLUSTER
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)):
        assert option in known or option in others, option
