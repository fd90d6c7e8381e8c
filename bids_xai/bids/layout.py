"""Access to datasets through pybids, and the rule that says which file belongs to which image."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from bids.layout import BIDSLayout, BIDSLayoutIndexer, Query
from bids.layout.models import BIDSFile as LayoutFile
from bids.layout.models import Tag

from bids_xai.atomic import staging_folder, sweep
from bids_xai.bids.descriptions import read_description
from bids_xai.bids.names import ENTITY_KEYS, same_value
from bids_xai.bids.records import BidsFile
from bids_xai.errors import InputError
from bids_xai.registry import nearest_name

LOGGER = logging.getLogger("bids_xai.bids")
# Never searched: dot files, what BIDS leaves to the user, templates, large folders without images of
# functions, and names that are not UTF-8 (Python's surrogates), which the database cannot hold.
_IGNORED = (
    re.compile(r"^/tpl-[^/]*(/|$)"),
    re.compile("[\udc80-\udcff]"),
    re.compile(r"^/(code|models|sourcedata|stimuli|logs)(/|$)"),
    re.compile(r"/\."),
    re.compile(r"^/sub-[^/]+(/ses-[^/]+)?/(figures|log|dwi|fmap|eeg|meg|ieeg)(/|$)"),
)
# Entities that say what kind of file it is, not which run it belongs to.
KIND = frozenset({"suffix", "extension", "datatype", "desc", "label", "fmap", "scans", "mode", "from", "to"})
_IMAGES = (".nii", ".nii.gz")
# The file that pybids keeps in the folder of a database.
_DATABASE = "layout_index.sqlite"
_OF_DERIVATIVES = frozenset({"desc", "label", "res", "den", "atlas", "segmentation", "hemi"})
_NAME_OF_KEY = {key: name for name, key in ENTITY_KEYS.items() if name != key}


class Dataset:
    """A BIDS dataset, raw or derivative, indexed by pybids.

    Parameters
    ----------
    root
        The dataset's folder.
    subjects
        Participants to index (labels without ``sub-``); all when empty. Others are not looked at, which
        is what makes large datasets open fast.
    database_dir
        Folder for pybids' database: made when absent, read when there. It holds all participants.
    is_derivative
        Read names as those of derivatives (space, desc, label, ...); old ones do not say what they are.
    exclude
        Folder that is never looked into: that of the results, which may lie among the derivatives.
    skip_unreadable
        Pass over folders of participants that cannot be read, instead of refusing them.

    Raises
    ------
    InputError
        If the folder is not a BIDS dataset or the database is of another dataset.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        subjects: Sequence[str] = (),
        database_dir: str | os.PathLike[str] | None = None,
        is_derivative: bool = False,
        exclude: Path | None = None,
        skip_unreadable: bool = False,
    ) -> None:
        self.root = Path(root).absolute()
        self._is_restricted = bool(subjects) and database_dir is None
        self._is_derivative, self._exclude = is_derivative, exclude
        self.description = read_description(self.root)
        if self.description.get("DatasetType") == "derivative" and not is_derivative:
            raise InputError(
                f"{self.root} is a dataset of derivatives (its DatasetType says so).",
                "the raw dataset, which has the events and the tables",
                "give the raw dataset as BIDS, and this one with --derivatives",
            )
        ignored = list(_IGNORED)
        if exclude is not None and exclude.resolve().is_relative_to(self.root.resolve()):
            inside = exclude.resolve().relative_to(self.root.resolve()).as_posix()
            ignored.append(re.compile(rf"^/{re.escape(inside)}(/|$)"))
        if self._is_restricted:
            chosen = "|".join(re.escape(subject) for subject in subjects)
            ignored.append(re.compile(rf"^/sub-(?!({chosen})(/|_|$))"))
        if not skip_unreadable:
            self._check_readable(subjects)
        if database_dir is None:
            self._layout = self._open(ignored, is_derivative, None)
            return
        database = Path(database_dir) / _DATABASE
        if not database.exists():
            self._make(database, ignored, is_derivative)
        self._layout = self._open(ignored, is_derivative, database_dir)
        indexed = Path(str(self._layout.root)).absolute()
        if indexed.resolve() != self.root.resolve():
            raise InputError(
                f"The database in {database_dir} is of the dataset {indexed}.",
                f"a database of {self.root}",
                "choose another --bids-database-dir, or empty it",
            )
        changed = self._known(subjects) ^ self._present(ignored, subjects)
        if changed:
            LOGGER.warning(
                "The database in %s is made anew: %s and %d other files have come or gone since it was made.",
                database_dir,
                min(changed),
                len(changed) - 1,
            )
            self._layout.session.close()
            self._make(database, ignored, is_derivative)
            self._layout = self._open(ignored, is_derivative, database_dir)

    def _make(self, database: Path, ignored: list[re.Pattern[str]], is_derivative: bool) -> None:
        # Whole: pybids fills its file bit by bit, and other jobs may make or read it at the same time.
        sweep(database.parent, deep=False)
        with staging_folder(database) as folder:
            self._open(ignored, is_derivative, folder).session.close()
            os.replace(folder / _DATABASE, database)

    def _check_readable(self, subjects: Sequence[str]) -> None:
        """Raise InputError if pybids would pass over what it cannot list, or a folder in an image's place."""
        for label in subjects or self.subjects():
            folder = _unreadable(self.root / f"sub-{label}")
            if folder is not None and folder.name.endswith(_IMAGES):
                raise InputError(
                    f"{folder} is a folder, and has the name of an image.",
                    "an image",
                    "put the image in its place, or choose others with --participant-label",
                )
            if folder is not None:
                raise InputError(
                    f"The folder {folder} cannot be read by this user.",
                    "folders that can be read, of all participants that are chosen",
                    "change its permissions, or choose others with --participant-label",
                )

    def _known(self, subjects: Sequence[str]) -> set[str]:
        """Return the participants' files that the database holds, relative to the dataset."""
        root = self._layout.root
        paths = [os.path.relpath(path, root) for (path,) in self._layout.session.query(LayoutFile.path)]
        return {path for path in paths if _counts(path, subjects)}

    def _present(self, ignored: list[re.Pattern[str]], subjects: Sequence[str]) -> set[str]:
        """Return the participants' files that there are."""
        found = set()
        for label in subjects or self.subjects():
            for folder, folders, files in os.walk(self.root / f"sub-{label}", followlinks=True):
                relative = os.path.relpath(folder, self.root)
                folders[:] = [name for name in folders if not _is_ignored(f"/{relative}/{name}", ignored)]
                found |= {
                    f"{relative}/{name}" for name in files if not _is_ignored(f"/{relative}/{name}", ignored)
                }
        return {path for path in found if _counts(path, subjects)}

    def _open(
        self, ignored: list[re.Pattern[str]], is_derivative: bool, database_dir: str | os.PathLike[str] | None
    ) -> BIDSLayout:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return BIDSLayout(
                str(self.root),
                validate=False,
                is_derivative=is_derivative,
                database_path=None if database_dir is None else str(Path(database_dir).absolute()),
                indexer=BIDSLayoutIndexer(validate=False, ignore=ignored, index_metadata=False),
            )

    def of_everybody(self) -> Dataset:
        """Return the same dataset with all its participants indexed that can be read."""
        if not self._is_restricted:
            return self
        return Dataset(
            self.root, is_derivative=self._is_derivative, exclude=self._exclude, skip_unreadable=True
        )

    def subjects(self) -> list[str]:
        """Return the labels of all participants with a folder, whether indexed or not."""
        return sorted(path.name[4:] for path in self.root.glob("sub-*") if path.is_dir())

    def files(self, entities: Mapping[str, Any]) -> list[BidsFile]:
        """Return the files that have these entities, ordered by path.

        Raises
        ------
        InputError
            If an entity is unknown to pybids.
        """
        known = self._layout.get_entities()
        for name, value in entities.items():
            if name in known:
                continue
            if name not in _OF_DERIVATIVES:
                raise InputError(
                    f"Unknown entity {name!r} in the BIDS filters.",
                    f"one of {', '.join(sorted(known))}",
                    f"did you mean {_NAME_OF_KEY[name]!r}?"
                    if name in _NAME_OF_KEY
                    else nearest_name(name, list(known)),
                )
            # No file of a raw dataset has an entity of derivatives.
            if value not in (Query.NONE, Query.OPTIONAL):
                return []
        found = self._layout.get(**{name: value for name, value in entities.items() if name in known})
        files = [BidsFile(Path(str(item.path)), dict(self._entities[str(item.path)])) for item in found]
        return sorted(files, key=lambda file: str(file.path))

    @cached_property
    def _entities(self) -> dict[str, dict[str, Any]]:
        """Entities of the names of all files: pybids asks its database for each file anew."""
        entities: dict[str, dict[str, Any]] = defaultdict(dict)
        for tag in self._layout.session.query(Tag).filter_by(is_metadata=False):
            entities[tag.file_path][tag.entity_name] = tag.value
        return entities


def _unreadable(folder: Path, depth: int = 2) -> Path | None:
    """Return the first folder that cannot be listed, or has an image's name: this one or one in it."""
    try:
        with os.scandir(folder) as entries:
            inside = [
                Path(entry.path)
                for entry in entries
                if (depth or entry.name.endswith(_IMAGES)) and _is_folder(entry)
            ]
    except FileNotFoundError:
        return None
    except OSError:
        return folder
    named = [path for path in inside if path.name.endswith(_IMAGES)]
    if named:
        return min(named)
    return next((found for path in inside if (found := _unreadable(path, depth - 1)) is not None), None)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself; whoever reads it says so


def _is_ignored(path: str, ignored: Iterable[re.Pattern[str]]) -> bool:
    return any(pattern.search(path) for pattern in ignored)


def _counts(path: str, subjects: Sequence[str]) -> bool:
    """Tell whether a file is one of those that make a database old: of a participant who is chosen."""
    first = path.partition("/")[0]
    return first.startswith("sub-") and (not subjects or first[4:] in subjects)


class Candidates:
    """Files that may belong to images, looked up by participant.

    Parameters
    ----------
    files
        Files of the right kind.
    """

    def __init__(self, files: Iterable[BidsFile]) -> None:
        self._of: dict[str, list[BidsFile]] = defaultdict(list)
        for file in files:
            self._of[str(file.entities.get("subject", ""))].append(file)

    def near(self, entities: Mapping[str, Any]) -> list[BidsFile]:
        """Return the files of an image's participant and those of none."""
        return self._of.get("", []) + self._of.get(str(entities.get("subject", "")), [])


def open_derivatives(
    folders: Iterable[str | os.PathLike[str]],
    *,
    subjects: Sequence[str] = (),
    database_dir: str | os.PathLike[str] | None = None,
    exclude: Path | None = None,
) -> list[Dataset]:
    """Open derivative datasets but ``exclude``: each folder is one, or holds several.

    Raises
    ------
    InputError
        If a folder is missing, or neither it nor a folder in it is a BIDS dataset.
    """
    roots = [
        root
        for root in derivative_roots(folders)
        if exclude is None or not root.resolve().is_relative_to(exclude.resolve())
    ]
    databases = None if database_dir is None else Path(database_dir) / "derivatives"
    return [
        Dataset(
            root,
            subjects=subjects,
            database_dir=None if databases is None else databases / f"{number:02d}-{root.name}",
            is_derivative=True,
            exclude=exclude,
        )
        for number, root in enumerate(roots)
    ]


def derivative_roots(folders: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the root folders of derivative datasets: each folder is one, or holds several."""
    roots: list[Path] = []
    for folder in map(Path, folders):
        inside = sorted(path.parent for path in folder.glob("*/dataset_description.json"))
        if (folder / "dataset_description.json").is_file() or not inside:
            inside = [folder]
        else:
            inside = [path for path in inside if read_description(path).get("DatasetType") != "raw"]
        roots += [path for path in inside if path not in roots]
    return roots


def belongs(candidate: Mapping[str, Any], entities: Mapping[str, Any]) -> bool:
    """Tell whether a file applies to an image: its entities are a subset of the image's.

    This is BIDS' inheritance principle; entities that say what kind of file it is do not count.
    """
    return all(
        name in entities and same_value(name, value, entities[name])
        for name, value in candidate.items()
        if name not in KIND
    )


def best_match(candidates: Candidates, entities: Mapping[str, Any], what: str, image: Path) -> Path | None:
    """Return the file that belongs to an image and shares most entities with it.

    Parameters
    ----------
    candidates
        Files of the right kind.
    entities
        Those of the image.
    what, image
        For the message: kind of file and the image it is for.

    Raises
    ------
    InputError
        If two files fit equally well.
    """
    fitting = [file for file in candidates.near(entities) if belongs(file.entities, entities)]
    if not fitting:
        return None
    specific = max(_n_shared(file) for file in fitting)
    best = [file for file in fitting if _n_shared(file) == specific]
    if len(best) > 1:
        raise InputError(
            f"{len(best)} files fit as the {what} of {image}: {', '.join(str(file.path) for file in best)}.",
            "one",
            choice(best, what) or "leave all but one of their folders out of --derivatives",
        )
    return best[0].path


def _n_shared(file: BidsFile) -> int:
    return sum(name not in KIND for name in file.entities)


def differing_entity(files: Sequence[BidsFile]) -> str | None:
    """Return the first entity (by name) in which files differ; None if that is only their extension."""
    names = sorted(set().union(*(file.entities for file in files)) - {"extension"})
    return next((name for name in names if len({str(file.entities.get(name)) for file in files}) > 1), None)


def choice(files: Sequence[BidsFile], query: str) -> str:
    """Return the advice to choose among files with a filter; empty if their entities are the same."""
    name = differing_entity(files)
    if name is None:
        return ""
    value = max(str(file.entities[name]) for file in files if name in file.entities)
    return f'choose with --bids-filter-file, for example {{"{query}": {{"{name}": "{value}"}}}}'
