"""Show that a change of the code leaves every map and table as it was, to the bit.

``python -m tests.same_outputs record FOLDER`` runs whole analyses (:mod:`tests.analyses`) and notes what they
wrote; after the change, ``python -m tests.same_outputs compare FOLDER`` runs them again and says file by
file what differs, with exit code 1 if anything does. ``--only NAME ...`` takes some of them, ``--no-pages``
leaves out what is written about maps and tables (HTML, citations, figures), ``--with OTHER`` compares with a
second recording instead of running anything. Bits depend on processor and libraries: compare on one machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.analyses import ANALYSES, ROOT, SHARED, AnalysisSkippedError, Bench
from tests.differences import (
    Folders,
    differences,
    digest,
    is_page,
    load_parts,
    read_parts,
    write_parts,
)

LIBRARIES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "torch",
    "numba",
    "antspyx",
    "nibabel",
    "nilearn",
    "matplotlib",
)
Notes = dict[str, Any]
# Settings as they were given, which results.json holds; and who is writing.
NOT_COMPARED = ("logs/config.toml", ".lock")


def main(argv: Sequence[str] | None = None) -> int:
    """Record or compare; return 0 if all is the same, 1 if anything differs or failed, 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.same_outputs", description=__doc__.split("\n\n")[1]
    )
    parser.add_argument("what", choices=("record", "compare"))
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the recording")
    parser.add_argument("--only", nargs="+", choices=ANALYSES, metavar="NAME", help=", ".join(ANALYSES))
    parser.add_argument(
        "--with", dest="other", type=Path, metavar="OTHER", help="compare with this recording"
    )
    parser.add_argument("--no-pages", action="store_true", help="leave out HTML, citations and figures")
    parser.add_argument("--nprocs", type=int, default=1, metavar="N", help="processors of an analysis")
    given = parser.parse_args(argv)
    names = given.only or list(ANALYSES)
    if given.what == "record":
        there = [name for name in names if (given.folder / f"{name}.json").exists()]
        if there:
            parser.error(f"{given.folder} holds a recording of {', '.join(there)}: remove it first")
        return max([_record(name, given.folder, given.nprocs) for name in names])
    if not given.folder.is_dir():
        parser.error(f"{given.folder} holds no recording")
    with tempfile.TemporaryDirectory(prefix="same-outputs-") as temporary:
        after = given.other or Path(temporary)
        found = []
        for name in _names(given.folder, after, given.only):
            if given.other is None and name in ANALYSES:
                _record(name, after, given.nprocs)
            differing = list(compare_recordings(given.folder, after, name, pages=not given.no_pages))
            print("\n".join(differing) or f"{name}: the same", flush=True)
            found += differing
    print(f"{len(found)} differences" if found else "Everything is the same")
    return 1 if found else 0


def _names(before: Path, after: Path, only: Sequence[str] | None) -> list[str]:
    """Return the analyses to compare: all that were recorded on either side, and all that there are."""
    recorded = {path.stem for folder in (before, after) for path in folder.glob("*.json")}
    return list(only or [*ANALYSES, *sorted(recorded - {*ANALYSES})])


def _record(name: str, folder: Path, nprocs: int) -> int:
    """Run an analysis and write down its outputs; return 1 if it failed."""
    place = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    bench, problem = Bench(place, nprocs), None
    started, used = time.monotonic(), _processor_seconds()
    try:
        ANALYSES[name](bench)
    except AnalysisSkippedError as reason:
        problem = f"skipped: {reason}"
    except (RuntimeError, OSError, ValueError) as error:
        problem = f"failed, see {place}: {error}"
    notes = {
        "problem": problem,
        "notes": bench.notes,
        "seconds": round(time.monotonic() - started, 1),
        "processor_seconds": round(_processor_seconds() - used, 1),
        "machine": {"processor": _processor(), "python": platform.python_version()}
        | {library: version(library) for library in LIBRARIES},
    }
    files = {} if problem else store(bench.out, folder / name, _words(place))
    failed = problem is not None and problem.startswith("failed")
    if not failed:
        shutil.rmtree(place)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({**notes, "files": files}, indent=1), encoding="utf-8")
    told = "; ".join(filter(None, [problem or f"{len(files)} files", *bench.notes]))
    print(f"{name}: {told} ({notes['seconds']} s, {notes['processor_seconds']} s of processors)", flush=True)
    return int(failed)


def store(out: Path, folder: Path, words: Folders) -> dict[str, str]:
    """Write down the files of an output folder, and return their digests."""
    digests = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = path.relative_to(out).as_posix()
        if not name.endswith(NOT_COMPARED):
            parts = read_parts(path, words)
            digests[name] = digest(parts)
            write_parts(parts, folder / f"{name}.zip")
    return digests


def compare_recordings(before: Path, after: Path, name: str, *, pages: bool = True) -> Iterator[str]:
    """Say what differs between two recordings of an analysis: file, part, and how much.

    Parameters
    ----------
    before, after
        Folders of the recordings.
    name
        The analysis.
    pages
        Whether pages and figures count.
    """
    paths = {"before": before / f"{name}.json", "after": after / f"{name}.json"}
    absent = [when for when, path in paths.items() if not path.is_file()]
    if absent:
        yield f"{name}: not recorded {' and '.join(absent)}"
        return
    old, new = (json.loads(path.read_text(encoding="utf-8")) for path in paths.values())
    for key in ("machine", "notes"):
        if old[key] != new[key]:
            print(f"{name}: note that {key} was {old[key]} and is {new[key]}")
    if old["problem"] or new["problem"]:
        # What was skipped on both sides is no difference: that it was stands in the lines above.
        if old["problem"] != new["problem"] or old["problem"].startswith("failed"):
            yield f"{name}: before {old['problem'] or 'done'}; after {new['problem'] or 'done'}"
        return
    for file in sorted({*old["files"], *new["files"]}):
        if pages or not is_page(file):
            yield from (
                f"{name}: {text}" for text in _compare_file(file, old, new, before / name, after / name)
            )


def _compare_file(file: str, old: Notes, new: Notes, before: Path, after: Path) -> Iterator[str]:
    if file not in new["files"] or file not in old["files"]:
        yield f"{file}: {'missing' if file not in new['files'] else 'new'}"
    elif old["files"][file] != new["files"][file]:
        stored = [load_parts(folder / f"{file}.zip") for folder in (before, after)]
        told = list(differences(*stored))
        yield from (f"{file}: {text}" for text in told or ["its digest, and none of its parts"])


def _words(place: Path) -> dict[str, str]:
    """Return what takes the place of folders in texts."""
    words = {}
    for folder, word in ((place, "FOLDER"), (SHARED, "SHARED"), (ROOT, "REPOSITORY")):
        words |= {str(folder): word, str(folder.resolve()): word}
    return words


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
