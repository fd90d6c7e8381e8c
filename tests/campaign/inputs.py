"""Bad inputs: what is done to a good dataset, the words of the call, and what must come of it.

Every entry is one way in which real files were found broken, or one that an attacker would try. The code is
that of the call; words are what the message must hold, such as the name of the file.
"""

from __future__ import annotations

import gzip
import json
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nb
import numpy as np

from tests.datasets import make_fmriprep

Damage = Callable[[Path], list[str]]
WRONG, FINE = 2, 0


@dataclass(frozen=True)
class Case:
    """One bad input.

    Parameters
    ----------
    name
        What it is.
    damage
        Changes the folder that holds ``bids``, ``out`` and ``files``, and returns further words of the call.
    words
        Text that the message must hold.
    code
        Exit code of the call.
    base
        ``"bold"``, ``"anat"`` (classes in participants.tsv), ``"group"`` (finished participant level),
        ``"network"`` (bold, with a network) or ``"reports"`` (a finished run, --reports-only).
    """

    name: str
    damage: Damage
    words: str = ""
    code: int = WRONG
    base: str = "bold"


EVENTS = "sub-01/func/sub-01_task-look_run-1_events.tsv"
BOLD = "sub-01/func/sub-01_task-look_run-1_bold.nii.gz"
T1W = "sub-01/anat/sub-01_T1w.nii.gz"
DEEP = "[" * 200_000


def _bids(name: str, change: Callable[[Path], None], *words: str) -> Damage:
    def damage(folder: Path) -> list[str]:
        path = folder / "bids" / name
        # The dataset shares its files with others.
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        change(path)
        return list(words)

    return damage


def _file(name: str, make: Callable[[Path], None], *words: str) -> Damage:
    """Make a file besides, whose path takes the place of ``FILE`` in the words."""

    def damage(folder: Path) -> list[str]:
        path = folder / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
        return [str(path) if word == "FILE" else word for word in words]

    return damage


def _words(*words: str) -> Damage:
    return lambda _: list(words)


def _content(content: bytes | str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode()) and None


def _replace(old: str, new: str, count: int = 1) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        assert old in text, (path, old)
        path.write_text(text.replace(old, new, count), encoding="utf-8")

    return change


def _folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _dangling(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("nowhere")


def _circle(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


def _gone(path: Path) -> None:
    path.unlink()


# Of any text file: what stands in it, and words of the message besides the name of the file.
UNREADABLE: dict[str, Callable[[Path], None]] = {
    "a folder": _folder,
    "a pipe": _fifo,
    "a dangling link": _dangling,
    "a link to itself": _circle,
    "no text": _content(bytes(range(256)) * 4),
    "zero bytes": _content(b"\0" * 1000),
}
NO_JSON: dict[str, Callable[[Path], None]] = {
    **UNREADABLE,
    "empty": _content(""),
    "no JSON": _content("{'Name': 1}"),
    "a list": _content("[]"),
    "a number": _content("3"),
    "null": _content("null"),
    "deep nesting": _content(DEEP),
    "deep nesting of tables": _content('{"a":' * 100_000),
    "cut off": _content('{"Name": "ti'),
}
NO_TABLE: dict[str, Callable[[Path], None]] = {
    **UNREADABLE,
    "empty": _content(""),
    "a header alone": _content("onset\tduration\ttrial_type\n"),
    "commas": lambda path: path.write_text(path.read_text().replace("\t", ",")) and None,
    "blanks": lambda path: path.write_text(path.read_text().replace("\t", "  ")) and None,
    "a column twice": _replace("duration", "onset"),
    "a row too long": lambda path: (
        path.write_text(path.read_text() + "80\t4\tface\tmore\tand more\n") and None
    ),
    "a row too short": lambda path: path.write_text(path.read_text() + "80\n") and None,
    "many columns": lambda path: (
        path.write_text("\t".join(f"c{n}" for n in range(300_000)) + "\n" + "\t".join(["1"] * 300_000) + "\n")
        and None
    ),
}


def _texts() -> Iterator[Case]:
    for kind, change in NO_JSON.items():
        yield Case(
            f"description: {kind}", _bids("dataset_description.json", change), "dataset_description.json"
        )
        # pybids takes no folder for a sidecar.
        named = "RepetitionTime" if kind == "a folder" else "task-look_bold.json"
        yield Case(f"sidecar: {kind}", _bids("task-look_bold.json", change), named)
        yield Case(
            f"filter file: {kind}",
            _file(
                "filter.json",
                change if kind not in ("null",) else _content("null"),
                "--bids-filter-file",
                "FILE",
            ),
            "filter.json",
        )
        yield Case(f"sidecar of samples: {kind}", _samples(".json", change), "_samples.json", base="group")
        yield Case(f"results: {kind}", _out("group/results.json", change), "results.json", base="reports")
    for kind, change in NO_TABLE.items():
        # A run without events is left out, by name.
        code = FINE if kind == "a header alone" else WRONG
        yield Case(f"events: {kind}", _bids(EVENTS, change), "events.tsv", code)
    for kind, change in UNREADABLE.items():
        yield Case(
            f"participants: {kind}", _bids("participants.tsv", change), "participants.tsv", base="anat"
        )
        yield Case(f"settings: {kind}", _file("c.toml", change, "--config-file", "FILE"), "c.toml")
        yield Case(f"plugin file: {kind}", _file("p.yml", change, "--use-plugin", "FILE"), "p.yml")
        yield Case(f"rows of samples: {kind}", _samples(".tsv", change), "_samples.tsv", base="group")
    for value in ("-2", "0", '"2 s"', "NaN", "Infinity", "1e400", "[2.0]", "null", "true", "1" + "0" * 400):
        text = f'{{"TaskName": "look", "RepetitionTime": {value}}}'
        yield Case(
            f"repetition time {value[:20]}", _bids("task-look_bold.json", _content(text)), "RepetitionTime"
        )
    for value in ("face", "inf", "-inf", "nan", "1e400", "0x10", "1,5", "--", "6.0 s"):
        yield Case(f"onset {value}", _bids(EVENTS, _replace("\n6.0\t", f"\n{value}\t")), "events.tsv")
    for value in ("-4", "inf", "long", "1e400", "nan"):
        yield Case(f"duration {value}", _bids(EVENTS, _replace("\t4.0\t", f"\t{value}\t")), "events.tsv")


def _samples(ending: str, change: Callable[[Path], None]) -> Damage:
    def damage(folder: Path) -> list[str]:
        path = next(path for path in sorted((folder / "out").glob(f"sub-*/**/*_samples{ending}")))
        _own(path)
        change(path)
        return []

    return damage


def _out(name: str, change: Callable[[Path], None]) -> Damage:
    def damage(folder: Path) -> list[str]:
        path = folder / "out" / name
        _own(path)
        change(path)
        return []

    return damage


def _own(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def _raw(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change the bytes inside a gzip file."""

    def damage(path: Path) -> None:
        path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))

    return damage


def _header(offset: int, form: str, *values: float) -> Callable[[Path], None]:
    """Put values into the header of a NIfTI file."""

    def change(content: bytes) -> bytes:
        packed = struct.pack(f"<{form}", *values)
        return content[:offset] + packed + content[offset + len(packed) :]

    return _raw(change)


def _values(
    change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None
) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        image = nb.load(path)
        data = change(np.asarray(image.dataobj))
        new = nb.Nifti1Image(data, image.affine if affine is None else affine, dtype=data.dtype)
        new.header.set_xyzt_units("mm", "sec")
        if new.ndim == 4:
            new.header.set_zooms((*new.header.get_zooms()[:3], 2.0))
        path.unlink()
        nb.save(new, path)

    return damage


def _part(values: float, *place: slice | int) -> Callable[[np.ndarray], np.ndarray]:
    def change(data: np.ndarray) -> np.ndarray:
        out = np.array(data, dtype=np.float32)
        out[place if place else ...] = values
        return out

    return change


# Of any image.
NO_IMAGE: dict[str, Callable[[Path], None]] = {
    **UNREADABLE,
    "empty": _content(b""),
    "text": _content("this is no image"),
    "half of it": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]) and None,
    "less than a header": _raw(lambda content: content[:200]),
    "a header alone": _raw(lambda content: content[:352]),
    "the last bytes missing": _raw(lambda content: content[:-100]),
    "a damaged byte": lambda path: (
        path.write_bytes(
            (b := path.read_bytes())[: len(b) // 2] + bytes([b[len(b) // 2] ^ 255]) + b[len(b) // 2 + 1 :]
        )
        and None
    ),
    "not compressed under a compressed name": lambda path: (
        path.write_bytes(gzip.decompress(path.read_bytes())) and None
    ),
    "no voxels": _header(42, "h", 0),
    "negative size": _header(42, "h", -7),
    "forged size": _header(42, "3h", 32767, 32767, 32767),
    "eight dimensions": _header(40, "h", 8),
    "unknown type": _header(70, "h", 4711),
    "complex numbers": _values(lambda data: data.astype(np.complex64)),
    "slope that overflows": _header(112, "f", 1e38),
    "data beyond the end": _header(108, "f", 1e9),
    "a transform of zeros": _header(252, "2h12f", 1, 1, *[0.0] * 6, *[0.0] * 6),
    "all NaN": _values(_part(np.nan)),
    "all infinite": _values(_part(np.inf)),
    "all zero": _values(_part(0.0)),
    "two dimensions": _values(lambda data: data.reshape(data.shape[0], -1).astype(np.float32)),
    "five dimensions": _values(lambda data: data.astype(np.float32)[..., None, None].repeat(2, -1)),
}


def _images() -> Iterator[Case]:
    for kind, change in NO_IMAGE.items():
        # The plan does not read all of every series; who has a folder in place of a file is named as missing.
        if kind not in ("a damaged byte", "a folder"):
            yield Case(f"BOLD: {kind}", _bids(BOLD, change), "run-1_bold.nii.gz")
        if kind != "a folder":  # no file: that participant is named as missing
            yield Case(f"T1w: {kind}", _bids(T1W, change), "sub-01_T1w.nii.gz", base="anat")
        yield Case(f"samples: {kind}", _samples(".nii.gz", change), "_samples.nii.gz", base="group")
    for kind in (
        "empty",
        "text",
        "half of it",
        "a folder",
        "all NaN",
        "all zero",
        "two dimensions",
        "a damaged byte",
    ):
        change = NO_IMAGE[kind]
        yield Case(f"mask: {kind}", _mask(change), "mask.nii.gz")
        yield Case(f"atlas: {kind}", _atlas(change), "atlas.nii.gz")
        if kind != "a damaged byte":
            yield Case(f"template: {kind}", _template(change), "template.nii.gz", base="anat")
    yield Case("BOLD of one volume", _bids(BOLD, _values(lambda data: data[..., :1])), "run-1_bold.nii.gz")
    yield Case("BOLD of three dimensions", _bids(BOLD, _values(lambda data: data[..., 0])), "4-D")
    yield Case(
        "T1w of four dimensions",
        _bids(T1W, _values(lambda d: d[..., None].repeat(3, -1))),
        "T1w",
        base="anat",
    )
    yield Case("a mask of another grid", _mask(_values(lambda data: data[:-1])), "mask.nii.gz")
    yield Case(
        "a mask of four dimensions", _mask(_values(lambda data: data[..., None].repeat(3, -1))), "mask.nii.gz"
    )


def _mask(change: Callable[[Path], None]) -> Damage:
    def make(path: Path) -> None:
        nb.save(nb.Nifti1Image(np.ones((7, 7, 3), np.uint8), np.diag([4.0, 4.0, 4.0, 1.0])), path)
        change(path)

    return _file("mask.nii.gz", make, "--mask", "FILE")


def _atlas(change: Callable[[Path], None]) -> Damage:
    def make(path: Path) -> None:
        labels = np.arange(7 * 7 * 3).reshape(7, 7, 3) % 4
        nb.save(nb.Nifti1Image(labels.astype(np.int16), np.diag([4.0, 4.0, 4.0, 1.0])), path)
        path.with_name("atlas.tsv").write_text("index\tname\n1\ta\n2\tb\n3\tc\n")
        change(path)

    return _file("atlas.nii.gz", make, "--atlas", "FILE")


def _template(change: Callable[[Path], None]) -> Damage:
    def make(path: Path) -> None:
        data = np.zeros((20, 22, 18), np.float32)
        data[4:16, 4:18, 4:14] = 1
        nb.save(nb.Nifti1Image(data, np.diag([8.0, 8.0, 8.0, 1.0])), path)
        change(path)

    return _file("template.nii.gz", make, "--template", "FILE", "--preproc", "ants")


def _tables_of_classes() -> Iterator[Case]:
    table = "participants.tsv"
    yield Case("target without a column", _words("--target", "participants:grop"), "group", base="anat")
    yield Case("target without a table", _words("--target", "sessions:state"), "sessions", base="anat")
    yield Case("target of nothing", _words("--target", ""), "target", base="anat")
    yield Case("target twice a colon", _words("--target", "participants:group:x"), "group:x", base="anat")
    yield Case(
        "a participant is not in the table",
        _bids(table, _replace("sub-01\t", "sub-91\t")),
        "sub-01",
        base="anat",
    )
    yield Case(
        "a participant twice, once each class",
        _bids(table, _replace("sub-02\t", "sub-01\t")),
        table,
        base="anat",
    )
    yield Case("one class", _bids(table, _replace("control", "patient", 9)), "class", base="anat")
    yield Case("no class for anyone", _bids(table, _replace("patient", "n/a", 9)), "", base="anat")
    yield Case(
        "another name for participant_id",
        _bids(table, _replace("participant_id", "subject")),
        table,
        base="anat",
    )


def _options() -> Iterator[Case]:
    numbers = {
        "--learning-rate": "bold", "--l2": "bold", "--clip": "bold", "--hrf-shift": "bold", "--alpha": "bold",
        "--high-pass": "bold", "--map-scale": "bold", "--merge-events": "bold", "--resolution": "bold",
        "--mem-gb": "bold", "--weight-decay": "network", "--explain-above": "network", "--flip": "network",
        "--validation-size": "network",
    }  # fmt: skip
    for option, base in numbers.items():
        for value in ("nan", "inf", "-1", "1e400", "many", ""):
            yield Case(
                f"{option} {value or 'nothing'}", _words(f"{option}={value}"), option.lstrip("-"), base=base
            )
    for option in (
        "--n-updates",
        "--batch-size",
        "--n-runs",
        "--n-permutations",
        "--nprocs",
        "--random-seed",
    ):
        for value in ("-1", "1.5", "nan", "0x10", "1" + "0" * 400):
            yield Case(f"{option} {value[:9]}", _words(f"{option}={value}"), option.lstrip("-"))
    for option in (
        "--cv",
        "--model",
        "--preproc",
        "--modality",
        "--sample",
        "--permute",
        "--tail",
        "--precision",
    ):
        yield Case(f"{option} of nobody", _words(option, "no-such"), "no-such")
    for option in ("--config-file", "--bids-filter-file", "--derivatives", "--mask", "--atlas"):
        yield Case(f"{option} not there", _words(option, "/no/such/file.nii.gz"), "/no/such/file.nii.gz")
        yield Case(f"{option} of a long name", _words(option, "/" + "x" * 5000 + ".nii.gz"), "xxxx")
    for shape in (("0", "7", "3"), ("-7", "7", "3"), ("30000", "30000", "30000"), ("7", "7")):
        yield Case(f"--shape {' '.join(shape)}", _words("--shape", *shape), "shape")
    yield Case("a resolution of nothing", _words("--resolution", "0.000001"), "resolution")
    yield Case("a resolution of everything", _words("--resolution", "1e9"), "")
    yield Case("classes twice", _words("--classes", "face", "face"), "face")
    yield Case("classes of nothing", _words("--classes", "face", ""), "")
    yield Case("a class of nothing", _words("--classes", "face", "house="), "house=")
    yield Case("a preset of nobody", _words("--preset", "boehle"), "boehle2019")
    yield Case("a plugin of nobody", _words("--use-plugin", "SLURN"), "SLURM")
    yield Case("a window the wrong way round", _words("--window", "5", "1"), "window")
    yield Case("a window of nothing", _words("--window", "1", "1"), "window")
    yield Case("a window of ever", _words("--window", "0", "inf"), "window")


def _derivatives(change: Callable[[Path], None], *words: str) -> Damage:
    """Make outputs as fMRIPrep's besides, and change them."""

    def damage(folder: Path) -> list[str]:
        root = make_fmriprep(folder / "bids", folder / "fmriprep")
        change(root)
        return ["--derivatives", str(root), *words]

    return damage


def _renamed(old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        for path in list(root.rglob(f"*{old}*")):
            path.rename(path.with_name(path.name.replace(old, new)))

    return change


def _one(pattern: str, change: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda root: change(sorted(root.rglob(pattern))[0])


def _of_derivatives() -> Iterator[Case]:
    of_images = ("--preproc", "derivatives", "--mask", "auto", "--space", "MNI152NLin2009cAsym")
    confounds = (*of_images, "--confounds", "trans_x")
    longer = _one("*_timeseries.tsv", lambda path: path.write_text(path.read_text() + "0\t0\t0\n") and None)
    small = nb.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4))
    description = "dataset_description.json"
    told: dict[str, tuple[Damage, str]] = {
        "not used": (_derivatives(lambda _: None), "nothing is taken from them"),
        "no description": (_derivatives(lambda root: (root / description).unlink()), '"Name": "fmriprep"'),
        "no images": (_derivatives(_renamed("desc-preproc", "desc-denoised"), *of_images), "denoised"),
        "another space": (
            _derivatives(_renamed("2009cAsym", "6Asym"), *of_images),
            "MNI152NLin6Asym",
        ),
        "no confounds": (_derivatives(_one("*_timeseries.tsv", Path.unlink), *confounds), "_timeseries.tsv"),
        "a confound of nobody": (
            _derivatives(lambda _: None, *of_images, "--confounds", "trans_q"),
            "trans_q",
        ),
        "confounds of another length": (
            _derivatives(longer, *confounds),
            "run-1_desc-confounds_timeseries.tsv",
        ),
        "a mask of another grid": (
            _derivatives(_one("*_mask.nii.gz", lambda path: nb.save(small, path)), *of_images),
            "desc-brain_mask.nii.gz",
        ),
    }
    for kind, (damage, words) in told.items():
        yield Case(f"derivatives: {kind}", damage, words)


def _settings() -> Iterator[Case]:
    texts = {
        "a list of lists": "[inference]\nalpha = [[0.05]]\n",
        "a date": "[inference]\nn_runs = 2026-01-01\n",
        "nan": "[decoding]\nl2 = nan\n",
        "inf": "[decoding]\nl2 = inf\n",
        "a huge number": f"[inference]\nn_runs = {'9' * 400}\n",
        "a table for a value": "[inference]\nn_runs = {a = 1}\n",
        "an array of tables": "[[inference]]\nn_runs = 3\n",
        "a key twice": "[inference]\nn_runs = 3\nn_runs = 4\n",
        "deep nesting": "a = " + "[" * 100_000,
        "a dotted key": "inference.n_runs.x = 3\n",
        "a boolean for a number": "[inference]\nn_runs = true\n",
        "a number for a path": "[selection]\nderivatives = [3]\n",
    }
    for kind, text in texts.items():
        yield Case(f"settings: {kind}", _file("c.toml", _content(text), "--config-file", "FILE"), "c.toml")
    plugins = {
        "no plugin": "a: 1\n",
        "a list": "- plugin\n",
        "deep nesting": "[" * 20_000,
        "billion laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "an object": "plugin: !!python/object/apply:os.system ['touch ran']\n",
        "arguments that are none": "plugin: MultiProc\nplugin_args: 3\n",
        "an unknown argument": "plugin: MultiProc\nplugin_args: {n_proc: 3}\n",
    }
    for kind, text in plugins.items():
        yield Case(f"plugin file: {kind}", _file("p.yml", _content(text), "--use-plugin", "FILE"), "p.yml")
    filters = {
        "an unknown query": '{"bolt": {"task": "look"}}',
        "a list for a query": '{"bold": ["task"]}',
        "an unknown entity": '{"bold": {"tasks": "look"}}',
        "a table for an entity": '{"bold": {"task": {"a": 1}}}',
        "nothing fits": '{"bold": {"task": "other"}}',
    }
    for kind, text in filters.items():
        yield Case(
            f"filter file: {kind}", _file("filter.json", _content(text), "--bids-filter-file", "FILE"), ""
        )


def _networks() -> Iterator[Case]:
    codes = {
        "raises": "raise KeyError('x')",
        "leaves": "import sys; sys.exit(0)",
        "interrupts itself": "raise RuntimeError('mine')",
        "returns nothing": "return None",
        "never fits": "from torch import nn; return nn.Linear(3, 2)",
    }
    for kind, code in codes.items():

        def damage(folder: Path, code: str = code) -> list[str]:
            (folder / "files").mkdir(exist_ok=True)
            name = f"mine_{abs(hash(code))}"
            (folder / "files" / f"{name}.py").write_text(f"def factory(shape, n_classes):\n    {code}\n")
            return ["--model", f"{name}:factory"]

        yield Case(f"a network that {kind}", damage, "factory", base="network")
    yield Case("a module that leaves", _module("import sys\nsys.exit(0)\n"), "leaving_module", base="network")
    yield Case("a network without a name", _words("--model", ":"), "cannot be imported", base="network")
    for text in (
        "saliency:x=1",
        "lrp-epsilon:epsilon=nan",
        "occlusion:box=0x0x0",
        "occlusion:box=2x2",
        "salience",
    ):
        yield Case(f"--explain {text}", _words("--explain", text), text.split(":")[0][:6], base="network")
    yield Case(
        "a class that is explained and is none", _words("--explain-class", "cat"), "cat", base="network"
    )
    yield Case("a filter that is none", _words("--visualise", "no.layer:0"), "no.layer", base="network")
    yield Case(
        "a checkpoint that is none",
        _words("--pretrained", "/no/such.safetensors"),
        "/no/such",
        base="network",
    )
    for kind in ("deep nesting", "a list", "no JSON", "zero bytes", "a folder"):

        def card(folder: Path, kind: str = kind) -> list[str]:
            path = folder / "files" / "net.json"
            path.parent.mkdir(exist_ok=True)
            NO_JSON[kind](path)
            return ["--pretrained", str(path)]

        yield Case(f"a card: {kind}", card, "net.json", base="network")
    fields = {"training": {}, "data": {}, "model_options": {}} | {
        "model": "planted:factory", "shape": [7, 7, 3], "affine": np.diag([4, 4, 4, 1]).tolist(),
        "classes": ["face", "house"], "input_scaling": "none", "sha256": "", "version": "0",
    }  # fmt: skip
    yield Case(
        "a card that names code",
        _file("net.json", _content(json.dumps(fields)), "--pretrained", "FILE"),
        "planted:factory",
        base="network",
    )


def _module(code: str) -> Damage:
    def damage(folder: Path) -> list[str]:
        (folder / "files").mkdir(exist_ok=True)
        (folder / "files" / "leaving_module.py").write_text(code)
        return ["--model", "leaving_module:factory"]

    return damage


def _folders() -> Iterator[Case]:
    def link(folder: Path) -> list[str]:
        (folder / "out").mkdir()
        (folder / "out" / "sub-01").symlink_to(folder / "bids" / "sub-01")
        return []

    def blocked(folder: Path) -> list[str]:
        (folder / "out").mkdir()
        (folder / "out" / "group.html").mkdir()
        return []

    yield Case("a link from the output into the input", link, "is a link to")
    yield Case("a folder in the place of the report", blocked, "group.html")
    yield Case("the output is a file", lambda folder: (folder / "out").touch() or [], "is a file")
    yield Case("the work folder is in the input", _inside("bids/work"), "work")
    yield Case("the work folder is a file", _inside("bids/README"), "README")


def _inside(place: str) -> Damage:
    return lambda folder: ["-w", str(folder / place)]


CASES = [
    *_texts(), *_images(), *_tables_of_classes(), *_options(), *_of_derivatives(), *_settings(), *_networks(),
    *_folders(),
]  # fmt: skip
