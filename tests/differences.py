"""What two files of an analysis differ in: files are read as named parts, which are compared to the bit.

A part is a field of the header or the voxels of an image, a column of a table, a key of a JSON file, a tensor
of a network, the text of a page. With what and where an analysis ran is no part: keys of LEFT_OUT are left
out, and folders are replaced by a word.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import html
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import nibabel as nb
import numpy as np
from safetensors import safe_open

Parts = dict[str, np.ndarray]
Folders = Mapping[str, str]

# Keys that say with what, where and with how many processors an analysis ran, wherever they stand.
LEFT_OUT = {"version", "versions", "Version", "work_dir", "use_plugin", "plugin_args", "nprocs", "mem_gb"}
# What ITK writes into every transform about the machine that it ran on.
_OF_MACHINE = {"ITKVersion", "HDFVersion", "OSName", "OSVersion"}
# Pages and figures: what is written about maps and tables, and drawn of them.
PAGES = (".html", ".md", ".bib", ".svg", ".png")
_TEXT = "text"
_INLINE = re.compile(r"</?(?:a|abbr|b|code|em|i|small|span|strong|sub|sup)\b[^>]*>")
_UNREAD = re.compile(r"<(script|style|svg)\b.*?</\1>", re.DOTALL)
_SHOWN, _LONGEST = 3, 90


def is_page(path: str) -> bool:
    """Tell whether a file is a page or a figure, and neither a map nor a table nor what describes one."""
    return path.endswith(PAGES)


def digest(parts: Parts) -> str:
    """Return the SHA-256 of names, types, shapes and bytes of parts."""
    whole = hashlib.sha256()
    for name, value in sorted(parts.items()):
        words = value.dtype.kind == "U"  # whose longest says how wide the array is
        kind = value.dtype.kind if words else value.dtype.str
        whole.update(f"{name}|{kind}|{value.shape}|".encode())
        whole.update(json.dumps(value.tolist()).encode() if words else np.ascontiguousarray(value).tobytes())
    return whole.hexdigest()


def write_parts(parts: Parts, path: Path) -> None:
    """Write parts, so that what differs from them later can be told."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("names.json", json.dumps(list(parts)))
        for number, value in enumerate(parts.values()):
            with archive.open(f"{number}.npy", "w", force_zip64=True) as stream:
                np.save(stream, value, allow_pickle=False)


def load_parts(path: Path) -> Parts:
    """Return what :func:`write_parts` wrote."""
    with zipfile.ZipFile(path) as archive:
        names = json.loads(archive.read("names.json"))
        return {name: np.load(archive.open(f"{number}.npy")) for number, name in enumerate(names)}


def differences(before: Parts, after: Parts) -> Iterator[str]:
    """Say part by part what is missing, new or different, and how large the largest difference is."""
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after:
            yield f"{name}: missing, was {_short(before[name])}"
        elif name not in before:
            yield f"{name}: new, {_short(after[name])}"
        elif digest({"": before[name]}) != digest({"": after[name]}):
            compare = _text_difference if name == _TEXT else _difference
            yield f"{name}: {compare(before[name], after[name])}"


def _difference(before: np.ndarray, after: np.ndarray) -> str:
    words = before.dtype.kind == after.dtype.kind == "U"  # of any length
    told = "" if words or before.dtype == after.dtype else f"type {before.dtype} became {after.dtype}; "
    if before.shape != after.shape:
        return f"{told}shape {before.shape} became {after.shape}"
    unlike = _unlike(before, after)
    if not unlike.any():
        return f"{told}equal values in other bits"
    old, new = before[unlike], after[unlike]
    steps = _steps(old, new)
    if steps is not None:
        told += f"largest difference {steps.max():.6g}; "
    if unlike.size > 1:
        first = ", ".join(str(index) for index in np.argwhere(unlike)[0])
        told += f"{unlike.sum()} of {unlike.size} differ, first ({first}): "
    return f"{told}{_short(old[0])} became {_short(new[0])}"


def _unlike(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    unlike = np.asarray(before != after)
    if before.dtype.kind == after.dtype.kind == "f":
        unlike &= ~(np.isnan(before) & np.isnan(after))
    return unlike


def _steps(before: np.ndarray, after: np.ndarray) -> np.ndarray | None:
    """Return the sizes of differences; None of what are not finite numbers on both sides."""
    try:
        steps = np.abs(after.astype(float) - before.astype(float))
    except ValueError:
        return None
    steps = steps[np.isfinite(steps)]
    return steps if len(steps) else None


def _text_difference(before: np.ndarray, after: np.ndarray) -> str:
    lines = difflib.unified_diff(before.tolist(), after.tolist(), n=0, lineterm="")
    changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    shown = "".join(f"\n      {line[:_LONGEST]}" for line in changed[: 2 * _SHOWN])
    return f"{len(changed)} sentences missing (-) or new (+){shown}"


def _short(value: np.ndarray) -> str:
    if value.ndim:
        return f"{value.dtype} of shape {value.shape}"
    text = str(value.item())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def read_parts(path: Path, folders: Folders) -> Parts:
    """Return the parts of a file.

    Parameters
    ----------
    path
        The file.
    folders
        Folder -> the word that replaces it in texts; the first that fits does.
    """
    for ending, read in _READERS.items():
        if path.name.endswith(ending):
            return read(path, folders)
    return {"bytes": np.frombuffer(path.read_bytes(), np.uint8)}


def _plain(path: Path, folders: Folders) -> str:
    text = path.read_text(encoding="utf-8")
    for folder, word in folders.items():
        text = text.replace(folder, word)
    return text


def _image(path: Path, _: Folders) -> Parts:
    content = path.read_bytes()
    img = nb.Nifti1Image.from_bytes(gzip.decompress(content) if path.name.endswith(".gz") else content)
    header = img.header.structarr
    parts = {f"header {name}": np.asarray(header[name]) for name in header.dtype.names}
    parts = {name: _words(value) if value.dtype.kind == "S" else value for name, value in parts.items()}
    for number, extension in enumerate(img.header.extensions):
        parts[f"extension {number}"] = np.frombuffer(extension.get_content(), np.uint8)
    return {**parts, "voxels": np.asanyarray(img.dataobj)}


def _words(value: np.ndarray) -> np.ndarray:
    return np.char.decode(value, "latin-1")


def _table(path: Path, folders: Folders) -> Parts:
    rows = list(csv.reader(_plain(path, folders).splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    if len({len(row) for row in rows}) != 1:
        return _lines(path, folders)
    header, *cells = rows
    columns = np.array(cells, str).reshape(len(cells), len(header)).T
    parts = {f"column {name}": column for name, column in zip(header, columns, strict=True)}
    return {"order of columns": np.array(header), **parts}


def _values(path: Path, folders: Folders) -> Parts:
    return {name: np.array(value) for name, value in _flat("", json.loads(_plain(path, folders)))}


def _flat(name: str, value: Any) -> Iterator[tuple[str, str | list[str]]]:
    """Give the leaves of a JSON value: lists of plain values whole, objects with a path by their path."""
    if isinstance(value, dict) and value:
        for key, own in value.items():
            if key not in LEFT_OUT:
                yield from _flat(f"{name}.{key}" if name else key, own)
    elif isinstance(value, list) and any(isinstance(own, dict | list) for own in value):
        by_path = all(isinstance(own, dict) and "path" in own for own in value)
        for number, own in enumerate(value):
            yield from _flat(f"{name}[{own['path'] if by_path else number}]", own)
        if by_path:
            yield f"order of {name}", [own["path"] for own in value]
    elif isinstance(value, list) and value:
        yield name, [json.dumps(own) for own in value]
    else:
        yield name, json.dumps(value)


def _lines(path: Path, folders: Folders) -> Parts:
    return {_TEXT: np.array(_plain(path, folders).splitlines(), str)}


def _page(path: Path, folders: Folders) -> Parts:
    """Return the sentences of a page, without figures, markup and how its lines are broken."""
    text = _INLINE.sub("", _UNREAD.sub(" ", _plain(path, folders)))
    text = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())
    return {_TEXT: np.array(re.split(r"(?<=[.:;?]) ", text), str)}


def _drawing(path: Path, folders: Folders) -> Parts:
    return {"bytes": np.frombuffer(_plain(path, folders).encode(), np.uint8)}


def _transform(path: Path, _: Folders) -> Parts:
    parts: Parts = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and name.rsplit("/", maxsplit=1)[-1] not in _OF_MACHINE:
            value = np.asarray(item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()])
            parts[name] = value.astype(str) if value.dtype.kind == "O" else value

    with h5py.File(path) as file:
        file.visititems(note)
    return parts


def _tensors(path: Path, _: Folders) -> Parts:
    with safe_open(path, "numpy") as file:
        parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        metadata = file.metadata() or {}
    return {**parts, **{f"metadata {name}": np.array(value) for name, value in metadata.items()}}


def _arrays(path: Path, _: Folders) -> Parts:
    loaded = np.load(path)
    return {"array": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded}


_READERS = {
    ".nii.gz": _image, ".nii": _image, ".tsv": _table, ".json": _values, ".html": _page, ".svg": _drawing,
    ".h5": _transform, ".safetensors": _tensors, ".npy": _arrays, ".npz": _arrays, ".txt": _lines,
    ".md": _lines, ".bib": _lines, ".bidsignore": _lines, "README": _lines,
}  # fmt: skip
