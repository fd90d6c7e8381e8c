"""Names of the files that are written: BIDS entities in their order, labels made of letters and digits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

from bids_xai.errors import InputError

# pybids' name of an entity -> its key in file names, in the order of the BIDS specification. Where both
# ``res`` of a source and ``resolution`` of the analysis grid are given, the latter is later and wins.
ENTITY_KEYS: dict[str, str] = {
    "subject": "sub",
    "session": "ses",
    "task": "task",
    "acquisition": "acq",
    "ceagent": "ce",
    "reconstruction": "rec",
    "direction": "dir",
    "run": "run",
    "echo": "echo",
    "part": "part",
    "from": "from",
    "to": "to",
    "mode": "mode",
    "space": "space",
    "res": "res",
    "resolution": "res",
    "class": "class",
    "method": "method",
    "atlas": "atlas",
    "stat": "stat",
    "group": "group",
    "alpha": "alpha",
    "label": "label",
    "desc": "desc",
}
# Two classes may stand in the name of a map, which file systems limit to 255 bytes.
MAX_CLASS_LETTERS = 60
# Entities whose values are numbers, however many digits they are written with.
INDICES = frozenset({"run", "echo", "flip", "inv", "split", "chunk"})


def check_file_names(classes: Iterable[str]) -> None:
    """Raise InputError unless every class can be part of the name of a file: letters and digits, not many."""
    for name in classes:
        if len(sanitize(name)) > MAX_CLASS_LETTERS:
            raise InputError(
                f"The name of the class {name[:30]!r}... has {len(sanitize(name))} letters and digits.",
                f"at most {MAX_CLASS_LETTERS}: it is part of the names of files",
                "rename the class: --classes NAME=LEVEL",
            )


def sanitize(label: str) -> str:
    """Return a label with letters and digits only, as BIDS wants it ("low-level" -> "lowlevel").

    Raises
    ------
    InputError
        If nothing is left.
    """
    clean = re.sub(r"[^0-9A-Za-z]", "", label)
    if not clean:
        raise InputError(
            f"The label {label!r} has neither letters nor digits.",
            "a label that can be part of a file name",
            "rename the class: --classes name=LEVEL",
        )
    return clean


def sanitize_all(labels: Iterable[str]) -> dict[str, str]:
    """Return a file-name label for each label; those that would collide get a number.

    File systems may ignore case, so ``Face`` and ``face`` collide, too.
    """
    labels = list(labels)
    names: dict[str, str] = {}
    # Labels that are clean already keep their name, whatever comes before them.
    for label in sorted(labels, key=lambda label: sanitize(label) != label):
        base = name = sanitize(label)
        taken = {other.lower() for other in names.values()}
        number = 2
        while name.lower() in taken:
            name, number = f"{base}{number}", number + 1
        names[label] = name
    return {label: names[label] for label in labels}


def alpha_label(alpha: float) -> str:
    """Return the digits of a significance level after the point: .001 -> "001", .05 -> "05"."""
    digits = format(Decimal(repr(float(alpha))).normalize(), "f")
    return digits.partition(".")[2] or digits


def bids_name(entities: Mapping[str, Any], suffix: str, extension: str) -> str:
    """Join entities (pybids' names or keys of file names), suffix and extension to a file name.

    Entities without a value are left out; values are sanitised.
    """
    by_key = {
        ENTITY_KEYS.get(name, name): value for name, value in entities.items() if value not in (None, "")
    }
    unknown = set(by_key) - set(ENTITY_KEYS.values())
    if unknown:
        raise ValueError(f"no place in a file name is known for {sorted(unknown)}")
    order = dict.fromkeys(ENTITY_KEYS.values())
    parts = [f"{key}-{sanitize(str(by_key[key]))}" for key in order if key in by_key]
    return "_".join([*parts, suffix]) + extension


def common_entities(entities: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the entities that have the same value in all mappings, those of file names only."""
    first = entities[0]
    return {
        key: first[key]
        for key in ENTITY_KEYS
        if key in first and all(str(other.get(key, "")) == str(first[key]) for other in entities)
    }


def participant_path(
    entities: Mapping[str, Any], *, suffix: str, extension: str, desc: str | None = None
) -> PurePosixPath:
    """Return where a participant's file lies in the output folder.

    ``sub-<label>/[ses-<label>/]func/sub-<label>[_ses-..][_task-..][_acq-..][_space-..][_res-..]
    [_desc-..]_<suffix><extension>``, in ``anat`` if the entities have no task (files of several tasks).

    Parameters
    ----------
    entities
        Those that all of the participant's runs share (:func:`common_entities`); pybids' names. A
        transform has ``from``, ``to`` and ``mode`` among them.
    suffix, extension
        For example ``samples`` and ``.nii.gz``.
    desc
        ``events``, ``volumes`` or a modality for samples, ``brain`` for a mask, ``preproc`` for an image.
    """
    kept = {key: value for key, value in entities.items() if key in ENTITY_KEYS}
    kept["desc"] = desc
    name = bids_name(kept, suffix, extension)
    folder = PurePosixPath(f"sub-{sanitize(str(kept['subject']))}")
    if kept.get("session") not in (None, ""):
        folder /= f"ses-{sanitize(str(kept['session']))}"
    # BIDS wants a task in every name under func; a file of several tasks describes the brain.
    return folder / ("func" if kept.get("task") not in (None, "") else "anat") / name


def samples_path(entities: Mapping[str, Any], sample: str, extension: str = ".nii.gz") -> PurePosixPath:
    """Return the path of a participant's samples.

    ``sample`` is ``events`` or ``volumes``, or the modality of anatomical images (``T1w``, ``FLAIR``).
    """
    return participant_path(entities, suffix="samples", extension=extension, desc=sample)


def heatmap_path(
    entities: Mapping[str, Any], *, label: str, method: str, extension: str = ".nii.gz"
) -> PurePosixPath:
    """Return the path of a participant's heatmap.

    Parameters
    ----------
    entities
        Subject, session, task and space.
    label
        Class whose output is explained, already sanitised.
    method
        Label of the explanation.
    extension
        Of the file.
    """
    return participant_path(
        {**entities, "class": label, "method": method}, suffix="heatmap", extension=extension
    )


def mask_path(entities: Mapping[str, Any], extension: str = ".nii.gz") -> PurePosixPath:
    """Return the path of a participant's brain mask on the analysis grid."""
    return participant_path(entities, suffix="mask", extension=extension, desc="brain")


def group_map_path(
    stat: str,
    *,
    label: str | None = None,
    method: str | None = None,
    group: str | None = None,
    alpha: float | None = None,
    entities: Mapping[str, Any] | None = None,
    extension: str = ".nii.gz",
) -> PurePosixPath:
    """Return the path of a group map, relative to the output folder.

    ``group/maps/[task-..][_space-..][_res-..][_class-..][_method-..]_stat-..[_group-..][_alpha-..]
    _map.nii.gz``

    Parameters
    ----------
    stat
        What the values are: mean, p, reproducibility, thresholded, fwer, t, F, overlap, ...
    label
        Class, already sanitised among the others (:func:`sanitize_all`).
    method
        Importance measure.
    group
        Samples that a heatmap is the mean of: a class, already sanitised, or TP, FP, TN, FN, correct,
        incorrect.
    alpha
        Significance level.
    entities
        Entities all samples share, for example task and space.
    """
    shared = {k: v for k, v in (entities or {}).items() if k in ("task", "space", "res", "resolution")}
    named = {"class": label, "method": method, "stat": stat, "group": group}
    named["alpha"] = None if alpha is None else alpha_label(alpha)
    return PurePosixPath("group") / "maps" / bids_name({**shared, **named}, "map", extension)


def group_table_path(
    desc: str, *, entities: Mapping[str, Any] | None = None, extension: str = ".tsv"
) -> PurePosixPath:
    """Return the path of a group table: ``group/[task-..]_desc-<name>_table.tsv``."""
    shared = {key: value for key, value in (entities or {}).items() if key == "task"}
    return PurePosixPath("group") / bids_name({**shared, "desc": desc}, "table", extension)


def same_value(entity: str, a: Any, b: Any) -> bool:
    """Tell whether two values of an entity are the same.

    Labels are compared as labels: ``sub-1`` is not ``sub-01``, but ``run-1`` is ``run-01``, as runs and
    echoes are numbered (BIDS: ``<index>``).
    """
    return plain_value(entity, a) == plain_value(entity, b)


def plain_value(entity: str, value: Any) -> str:
    """Return the value of an entity as text; an index without leading zeros."""
    text = str(value)
    return str(int(text)) if entity in INDICES and text.isascii() and text.isdigit() else text


def is_asked(entity: str, value: Any, asked: Sequence[str]) -> bool:
    """Tell whether a value of an entity is among those asked for, with or without their key, or none is."""
    prefix = f"{ENTITY_KEYS[entity]}-"
    return not asked or any(same_value(entity, value, label.removeprefix(prefix)) for label in asked)
