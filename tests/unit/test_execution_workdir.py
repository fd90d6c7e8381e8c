"""The work folder is refused where it would mix with data, and emptied of nothing but its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bids_xai.errors import InputError
from bids_xai.execution.workdir import check_work_dir, empty_work_dir, make_private, refuse_links_into_input


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("bids", "out", "work/bids_xai/nipype", "work/bids_xai/group_wf", "work/other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "bids" / "participants.tsv").touch()
    return tmp_path


def check(place: Path, work: str, *, bids: str = "bids", out: str = "out", clean: bool = True) -> None:
    check_work_dir(place / work, place / bids, place / out, clean=clean)


def test_only_what_the_app_made_is_deleted(place: Path) -> None:
    (place / "work/bids_xai/masks").symlink_to(place / "bids", target_is_directory=True)
    check(place, "work")
    empty_work_dir(place / "work")
    assert [path.name for path in (place / "work").iterdir()] == ["other"]
    assert (place / "bids/participants.tsv").exists()
    check(place, "work")
    empty_work_dir(place / "work")
    check(place, "nowhere")
    empty_work_dir(place / "nowhere")


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("work", ["bids", "bids/work", "link"])
def test_a_work_folder_in_the_dataset_is_refused(place: Path, work: str, clean: bool) -> None:
    (place / "link").symlink_to(place / "bids", target_is_directory=True)
    with pytest.raises(InputError, match="lies in the input dataset"):
        check(place, work, clean=clean)


@pytest.mark.parametrize(
    ("bids", "out"),
    [("work/bids_xai", "out"), ("work/bids_xai/bids", "out"), ("bids", "work/bids_xai"), ("bids", "inner")],
)
def test_data_and_results_in_the_work_folder_are_refused(place: Path, bids: str, out: str) -> None:
    (place / "work/bids_xai/bids").mkdir()
    (place / "inner").symlink_to(place / "work/bids_xai/group_wf", target_is_directory=True)
    with pytest.raises(InputError, match="lies in"):
        check(place, "work", bids=bids, out=out, clean=False)


def test_a_link_and_strange_files_are_not_emptied(place: Path) -> None:
    (place / "elsewhere").mkdir()
    (place / "elsewhere/bids_xai").symlink_to(place / "work/bids_xai", target_is_directory=True)
    with pytest.raises(InputError, match="is a link to"):
        check(place, "elsewhere")
    (place / "work/bids_xai/thesis.tex").touch()
    with pytest.raises(InputError, match=r"thesis\.tex, which this app did not make"):
        check(place, "work")
    check(place, "work", clean=False)


def test_out_may_hold_the_work_folder(place: Path) -> None:
    check(place, "out/work")


def test_the_folder_of_pickles_is_this_users_alone(tmp_path: Path) -> None:
    own = make_private(tmp_path / "work")
    assert own == tmp_path / "work" / "bids_xai"
    assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o755)
    (own / "group_wf").mkdir()
    assert make_private(tmp_path / "work").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o702])
def test_a_folder_of_pickles_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    own = tmp_path / "bids_xai"
    (own / "masks").mkdir(parents=True)
    own.chmod(mode)
    # Masks alone hold no code: reading the input leaves them there.
    make_private(tmp_path)
    (own / "group_wf").mkdir()
    own.chmod(mode)
    with pytest.raises(InputError, match="that others may write to"):
        make_private(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_pickles_of_another_user_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "bids_xai"
    own.mkdir()
    os.chown(own, 12345, 12345)
    with pytest.raises(InputError, match="a folder of user 12345"):
        make_private(tmp_path)


@pytest.mark.parametrize("link", ["sub-01", "sub-01/func/ses", "group/results.json"])
def test_links_from_the_output_into_the_input_are_refused(place: Path, link: str) -> None:
    path = place / "out" / link
    path.parent.mkdir(parents=True, exist_ok=True)
    refuse_links_into_input(place / "out", [place / "bids"])
    target = place / "bids" / ("participants.tsv" if link.endswith("json") else "")
    path.symlink_to(target)
    with pytest.raises(InputError, match=f"{link} is a link to"):
        refuse_links_into_input(place / "out", [place / "work", place / "bids"])
    # Elsewhere, as in a dataset of DataLad, links are nobody's fault.
    refuse_links_into_input(place / "out", [place / "work"])
