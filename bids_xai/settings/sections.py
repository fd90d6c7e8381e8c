"""The settings, one frozen dataclass per concern. What changes results is apart from how it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_xai.attribution import EXPLANATIONS, IMPORTANCES, MAP_VALUES, SHARE
from bids_xai.decoding import SPLITS
from bids_xai.inference import PERMUTATIONS
from bids_xai.models import MODELS
from bids_xai.settings.applies import ANATOMICAL, BOLD, SOFTMAX, Applies
from bids_xai.settings.options import option
from bids_xai.settings.presets import preset_names
from bids_xai.workflows import ENGINES, IMAGE_PORTS, PROFILES, RAW_ENGINES

_RAW = Applies("preproc", to=tuple(RAW_ENGINES))
_ANTS = Applies("preproc", to=("ants",))
_MOTION = Applies("preproc", but_not=("none",), name="--preproc ants, fsl or derivatives, which tell motion")
_FSL = Applies("preproc", to=("fsl",))
_GROUPED = Applies("cv", to=("kfold", "holdout"))
_DEALT = Applies("cv", to=("kfold",))

_UNSCALED = [name for name, own in {**IMPORTANCES, **EXPLANATIONS}.items() if not own.scale_has_meaning]


@dataclass(frozen=True)
class Origin:
    """What other settings start from: a preset lies below a file of settings, that below options."""

    preset: str | None = option(None, "published settings", str, choices=preset_names, metavar="NAME")
    sloppy: bool = option(
        False, "coarse registration and few, short trainings: for trying out only, never for results", bool
    )


@dataclass(frozen=True)
class Selection:
    """Which files of the dataset are read."""

    participant_label: tuple[str, ...] = option(
        (), "participants to analyse, with or without 'sub-' (default: all)", str, nargs="+", metavar="LABEL"
    )
    session_label: tuple[str, ...] = option((), "sessions to analyse", str, nargs="+", metavar="LABEL")
    task_id: tuple[str, ...] = option((), "tasks to analyse", str, nargs="+", metavar="TASK", applies=(BOLD,))
    run_id: tuple[str, ...] = option((), "runs to analyse", str, nargs="+", metavar="RUN")
    bids_filter_file: Path | None = option(
        None,
        "JSON file with PyBIDS filters per query (bold, events, t1w, t2w, flair, mask, confounds), as "
        "fMRIPrep's",
        Path,
    )
    derivatives: tuple[Path, ...] = option(
        (), "folders of BIDS derivatives: preprocessed runs, masks, confounds", Path, nargs="+", short="-d"
    )
    bids_database_dir: Path | None = option(
        None, "folder of a PyBIDS database: made there when absent, else reused", Path
    )
    skip_bids_validation: bool = option(False, "do not run the BIDS validator even if it is installed", bool)


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a cleaned time series on the analysis grid."""

    preproc: str | None = option(
        None,
        "where aligned images come from: registered here with 'ants' (nothing needs to be installed) or "
        "'fsl', taken from --derivatives, or 'none' (BOLD as it is; anatomical images by their affines with "
        "--space, else centred). Default: 'derivatives' with --derivatives, else 'ants'",
        str,
        choices=lambda: ENGINES,
    )
    modality: str = option("bold", "kind of image that is classified", str, choices=lambda: IMAGE_PORTS)
    space: str | None = option(
        None,
        "template space: that to register to (default with 'ants': MNI152NLin2009cAsym, with 'fsl': "
        "MNI152NLin6Asym), that to choose among --derivatives, or that the images are already in ('none'; "
        "default: native)",
        str,
    )
    template: str | None = option(
        None,
        "template to register to, if not that of --space: a name of TemplateFlow or a NIfTI file, no skull",
        str,
    )
    registration: str | None = option(
        None,
        "how a T1w is brought to the template: 'affine' and 'syn' as antsRegistrationSyN.sh's a and s; "
        "'none' only moves it to the centre (default: syn, with 'fsl' affine)",
        str,
        choices=lambda: ("none", "rigid", "affine", "syn"),
        applies=(_RAW,),
    )
    registration_profile: str = option(
        "quick",
        "metrics, iterations and resolutions of the registration: 'full' as antsRegistrationSyN.sh "
        "(cross-correlation), 'quick' as antsRegistrationSyNQuick.sh (mutual information, down to 2 mm), "
        "'sloppy' for trying out",
        str,
        choices=lambda: PROFILES,
        applies=(_ANTS,),
    )
    coregistration: str = option(
        "rigid",
        "how BOLD, FLAIR and T2w are brought to the T1w",
        str,
        choices=lambda: ("rigid", "affine"),
        applies=(_ANTS,),
    )
    dof: int = option(
        9,
        "degrees of freedom of an affine registration with 'fsl': 6, 7, 9 or 12",
        int,
        minimum=6,
        applies=(_FSL,),
    )
    registration_study: bool = option(
        False,
        "run everything with each of --registration none, affine and syn, into OUT/registration-none, ...",
        bool,
    )
    mask: str = option(
        "auto",
        "brain mask: a NIfTI file, 'derivatives', 'compute', 'template', or 'auto' (from --derivatives, else "
        "computed; with 'ants' and 'fsl': the template's where all runs have data)",
        str,
    )
    resolution: float | None = option(
        None,
        "voxel size of the analysis grid in mm (default: that of the images; with 'ants': that of the BOLD, "
        "or of the template)",
        float,
        minimum=0.1,
        maximum=100,
    )
    shape: tuple[int, ...] | None = option(
        None,
        "voxels of the analysis grid: padded or cropped around its centre (default: the template's)",
        int,
        nargs=3,
        metavar=("X", "Y", "Z"),
        minimum=1,
        maximum=1024,
    )
    scaling: str = option(
        "minmax",
        "how the values of an anatomical image are scaled: to [0, 1], by their maximum, or not",
        str,
        choices=lambda: ("minmax", "max", "none"),
        applies=(ANATOMICAL,),
    )
    detrend: bool = option(True, "remove each run's linear trend", bool, applies=(BOLD,))
    high_pass: float | None = option(
        None,
        "high-pass cut-off in Hz (discrete cosines); 0: none (default: 1/128)",
        float,
        minimum=0,
        applies=(BOLD,),
    )
    high_pass_sigma: float | None = option(
        None,
        "high-pass as in 'fslmaths -bptf SIGMA -1' (Gaussian-weighted line fit, sigma in volumes) instead "
        "of --high-pass",
        float,
        minimum=0.5,
        applies=(BOLD,),
    )
    confounds: tuple[str, ...] = option(
        (),
        "columns of the confounds file to regress out; shell wildcards allowed",
        str,
        nargs="+",
        applies=(BOLD,),
    )
    dummy_scans: int | None = option(
        None,
        "first volumes of every run to leave out of filters, scaling and samples (default: those that "
        "fMRIPrep's non_steady_state_outlier columns mark)",
        int,
        minimum=0,
        applies=(BOLD,),
    )
    fd_threshold: float | None = option(
        None,
        "framewise displacement in mm above which a volume is left out of filters, scaling and samples, as "
        "are samples that lose most of their volumes (default: none is)",
        float,
        minimum=0.01,
        applies=(BOLD, _MOTION),
    )
    standardize: bool = option(
        True, "scale each voxel's run to zero mean and unit variance", bool, applies=(BOLD,)
    )


@dataclass(frozen=True)
class Samples:
    """What one labelled row is."""

    target: str = option(
        "trial_type",
        "column that holds the classes: of the events files or, for anatomical images, participants:COLUMN, "
        "sessions:COLUMN or scans:COLUMN",
        str,
    )
    classes: tuple[str, ...] = option(
        (),
        "levels of --target to classify, in this order; NAME=LEVEL+LEVEL renames or merges (default: all "
        "but rest, baseline, fixation and n/a)",
        str,
        nargs="+",
        metavar="CLASS",
    )
    merge_events: float | None = option(
        None,
        "consecutive events of one class are one event, a block, where each begins at most so many seconds "
        "after the end of the one before (default: every row of the events file is an event)",
        float,
        minimum=0,
        metavar="SECONDS",
        applies=(BOLD,),
    )
    sample: str = option(
        "events",
        "'events': a sample is the mean of the volumes in the window; 'volumes': each of them is a sample",
        str,
        choices=lambda: ("events", "volumes"),
        applies=(BOLD,),
    )
    window: tuple[float, ...] | None = option(
        None,
        "seconds, relative to --window-anchor, of the volumes taken (default: the event's duration moved by "
        "--hrf-shift)",
        float,
        nargs=2,
        metavar=("START", "STOP"),
        applies=(BOLD,),
    )
    window_anchor: str = option(
        "onset",
        "what --window is relative to: the event's onset or its end",
        str,
        choices=lambda: ("onset", "offset"),
        applies=(
            BOLD,
            Applies("window"),
        ),
    )
    hrf_shift: float = option(
        5.0,
        "haemodynamic delay in seconds added to the default window (not to --window)",
        float,
        minimum=0,
        applies=(
            BOLD,
            Applies("window", unset=True),
        ),
    )
    max_events_outside: float = option(
        0.25,
        "largest share of a run's events whose window may leave the run; they are left out and named (0: "
        "every one is refused)",
        float,
        minimum=0,
        maximum=1,
        metavar="SHARE",
        applies=(BOLD,),
    )


@dataclass(frozen=True)
class Decoding:
    """The classifier, its training and its cross-validation."""

    cv: str | None = option(
        None,
        "what is left out: 'subject', 'run' (within each subject), 'kfold' (groups of subjects, of runs when "
        "there is one subject), 'event' (within each subject, the n-th event of every class of every run; "
        "see --merge-events for pictures in blocks). Default: 'subject'; where each participant is of one "
        "class, 'kfold' with folds balanced by class, for leaving out single ones lies below chance",
        str,
        choices=lambda: SPLITS,
    )
    n_folds: int | None = option(
        None,
        "number of folds with --cv kfold, of random splits with --cv holdout (default: 5; of kfold no more "
        "than the participants of the smallest class, where each is of one)",
        int,
        minimum=1,
        applies=(_GROUPED,),
    )
    n_repeats: int | None = option(
        None,
        "how often --cv kfold deals participants to folds, at random (default: 5 where each participant is "
        "of one class, else 1; networks: 1)",
        int,
        minimum=1,
        applies=(_DEALT,),
    )
    model: str = option(
        "softmax",
        "the classifier: the softmax layer, or a network on whole volumes; PACKAGE.MODULE:FACTORY takes one "
        "of your own",
        str,
        choices=lambda: MODELS,
        also=":",
    )
    learning_rate: float | None = option(
        None,
        "step of the gradient descent (default: 4 over the mean squared length of the samples, less with "
        "a large --l2; networks: .0001)",
        float,
        minimum=0,
    )
    batch_size: int = option(20, "samples in a minibatch (default: 20; networks: 4)", int, minimum=1)
    n_updates: int = option(10_000, "minibatches in one training", int, minimum=1, applies=(SOFTMAX,))
    l2: float | None = option(
        None,
        "weight decay; 0: none, as published (default: the variance of the samples, "
        "summed over the voxels, over twice their number: weights then tell noise from signal best)",
        float,
        minimum=0,
        applies=(SOFTMAX,),
    )
    clip: float = option(
        0.0,
        "outputs are clipped to [CLIP, 1 - CLIP] before training takes their errors (Gotsopoulos' code: .01)",
        float,
        minimum=0,
        maximum=0.5,
        applies=(SOFTMAX,),
    )
    bias: bool = option(True, "train a bias", bool, applies=(SOFTMAX,))
    precision: str = option(
        "single",
        "numbers of training and importance: 'double' checks 'single' at twice the time and memory",
        str,
        choices=lambda: ("single", "double"),
        applies=(SOFTMAX,),
    )
    random_seed: int = option(0, "seed of everything random", int, minimum=0)


@dataclass(frozen=True)
class Inference:
    """Importance maps and what they are compared with."""

    importance: tuple[str, ...] = option(
        ("W", "Haufe", "WX", "OD", "LRP-W2", "LRP-z"),
        "measures of importance",
        str,
        nargs="+",
        choices=lambda: IMPORTANCES,
        applies=(SOFTMAX,),
    )
    importance_samples: str = option(
        "class",
        "held-out samples that a class's map averages: those of the 'class', or 'all'",
        str,
        choices=lambda: ("class", "all"),
        applies=(SOFTMAX,),
    )
    map_values: str = option(
        SHARE,
        "what maps are averaged, compared and tested as: each divided by the sum of its absolute values "
        "('share') where its size says how large an output is and not where a classifier looked "
        f"({', '.join(_UNSCALED)}; those of weights by the norm of what the samples add to them), or "
        "all as they are ('raw', which can give false positives everywhere, or hide all that is there)",
        str,
        choices=lambda: MAP_VALUES,
    )
    n_runs: int = option(100, "trainings on the true labels (default: 100; networks: 1)", int, minimum=1)
    n_permutations: int = option(
        1000,
        "trainings on permuted labels, for the thresholds (default: 1000; networks: 0, and no p-values)",
        int,
        minimum=0,
    )
    n_null: int = option(
        100,
        "a second set of permuted trainings, for the reproducibility threshold (0: none; not for networks)",
        int,
        minimum=0,
        applies=(SOFTMAX,),
    )
    alpha: tuple[float, ...] = option(
        (0.001, 0.01, 0.05), "significance levels", float, nargs="+", minimum=1e-9
    )
    permute: str | None = option(
        None,
        "labels are exchanged among the events of a 'subject', of a 'run', or of those that a 'fold' leaves "
        "out of a run, 'between' participants, as 'whole' sequences between participants with as many "
        "sessions, or among 'all' samples, as published (default: what keeps the class counts of every fold: "
        "'between' where each participant is of one class, 'whole' where most are, 'fold' with --cv event, "
        "else 'run', or 'subject' where a run has one class or few events)",
        str,
        choices=lambda: PERMUTATIONS,
    )
    exchange_within: str | None = option(
        None,
        "column whose levels are blocks: of what --permute exchanges, only that of one level is. Of the "
        "events files, participants:COLUMN (such as a site), or subject, session, task or run",
        str,
        metavar="COLUMN",
    )
    tail: str = option(
        "greater",
        "what counts as important: large values, or large absolute values",
        str,
        choices=lambda: ("greater", "two-sided"),
        applies=(SOFTMAX,),
    )
    tail_fit: str = option(
        "none",
        "p-values that fewer than 10 permutations decide: counted as published, or by a generalised Pareto "
        "distribution fitted to the tail of the null ('gpd'), where it fits",
        str,
        choices=lambda: ("none", "gpd"),
        applies=(SOFTMAX,),
    )
    stop_after_exceedances: int | None = option(
        None,
        "permutations run in rounds, and end with the round in which so many have reached the mean accuracy "
        "on the true labels (Besag & Clifford 1991; 10 is usual): saves time where nothing is found "
        "(default: all run)",
        int,
        minimum=1,
        metavar="H",
        applies=(SOFTMAX,),
    )
    atlas: tuple[str, ...] = option(
        (), "atlases of the region tables: names, or NIfTI files with a TSV beside them", str, nargs="+"
    )
    map_scale: float = option(
        1.0, "factor that written importance maps are multiplied by", float, minimum=1e-30, applies=(SOFTMAX,)
    )


@dataclass(frozen=True)
class Execution:
    """How it runs. Nothing here changes a result."""

    nprocs: int | None = option(
        None,
        "threads of all processes together (default: the processors that this process may use, by its "
        "control group and affinity)",
        int,
        minimum=1,
    )
    omp_nthreads: int = option(1, "threads of one process", int, minimum=1)
    mem_gb: float | None = option(
        None,
        "memory in GB of all processes together (default: nine tenths of what this process may use, by its "
        "control group, less 0.4 for itself)",
        float,
        minimum=0.5,
    )
    low_mem: bool = option(False, "use less memory, with more time and disk", bool)
    use_plugin: str | None = option(
        None,
        "where nodes run: a plugin of nipype (SLURM, SGE, PBS, LSF, OAR, Condor, MultiProc, ...) or Dask, or "
        "a YAML or TOML file with 'plugin' and 'plugin_args' (default: MultiProc)",
        str,
        metavar="NAME|FILE",
    )
    plugin_args: dict[str, Any] | None = option(
        None,
        "arguments of --use-plugin, such as sbatch_args='-p long --time=4:00:00' max_jobs=50; over those of "
        "its file",
        dict,
        nargs="+",
        metavar="KEY=VALUE",
        applies=(Applies("use_plugin"),),
    )
    work_dir: Path = option(
        Path("work"), "folder of intermediate results; the same folder resumes a run", Path, short="-w"
    )
    clean_workdir: bool = option(False, "empty the work folder of this app first", bool)
    stop_on_first_crash: bool = option(False, "stop at the first subject that fails", bool)
    resource_monitor: bool = option(False, "record memory and processor use of every node", bool)
    write_graph: bool = option(
        False, "write the graphs of the workflows into the logs folder (as SVG if Graphviz is here)", bool
    )
    device: str = option("auto", "where networks are trained", str, choices=lambda: ("auto", "cpu", "cuda"))
    chunk_size: int = option(
        10,
        "repetitions per node (more where there would be over 200 nodes): lost at most when a run is killed",
        int,
        minimum=1,
    )
    wait: bool = option(
        False, "wait for another run on the same output or work folder to end, instead of refusing", bool
    )
    allow_downloads: bool = option(False, "templates may be downloaded when they are not here", bool)

    def __post_init__(self) -> None:
        """Make the path of a plugin file absolute: settings that were written down are read elsewhere."""
        named = self.use_plugin
        if named is not None and (not named.isidentifier() or Path(named).is_file()):
            object.__setattr__(self, "use_plugin", str(Path(named).absolute()))
