"""The settings of networks: their training, and how they are explained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bids_xai.attribution import EXPLANATIONS, MAP_VALUES
from bids_xai.settings.applies import NETWORKS, Applies
from bids_xai.settings.options import option

_HOLDOUT = Applies("cv", to=("holdout",))
_SEARCH = Applies("random_search")


@dataclass(frozen=True)
class Network:
    """Networks on whole volumes (--model other than softmax)."""

    APPLIES: ClassVar[tuple[Applies, ...]] = (NETWORKS,)

    model_options: tuple[str, ...] = option(
        (), "options of the network's factory, such as dropout=0.3", str, nargs="+", metavar="NAME=VALUE"
    )
    input_scaling: str = option(
        "none",
        "how every volume is scaled before the network sees it (anatomical images: besides --scaling)",
        str,
        choices=lambda: ("none", "minmax", "zscore", "max"),
    )
    test_size: float = option(
        0.2,
        "share of the people that --cv holdout leaves out",
        float,
        minimum=0.01,
        maximum=0.9,
        applies=(_HOLDOUT,),
    )
    test_first_session: bool = option(
        False, "--cv holdout tests on the first session of every person only", bool, applies=(_HOLDOUT,)
    )
    validation_size: float = option(
        0.15,
        "share of the training people whose loss stops the training and chooses its best epoch",
        float,
        minimum=0.01,
        maximum=0.5,
    )
    stratify: tuple[str, ...] = option(
        (),
        "columns of participants.tsv whose levels holdout and validation people have in equal shares, beside "
        "the classes; COLUMN:WIDTH cuts a number into bins",
        str,
        nargs="+",
        metavar="COLUMN",
    )
    undersample: tuple[str, ...] = option(
        (),
        "people are left out at random until every class has as many of each level of the first column in "
        "every level of the others (Klingenberg et al.: sex age:5)",
        str,
        nargs="+",
        metavar="COLUMN",
    )
    samples_per_class: int | None = option(
        None, "samples drawn of every class, as many each (default: all)", int, minimum=2
    )
    optimizer: str = option(
        "adam", "optimiser of the training", str, choices=lambda: ("adam", "adamw", "sgd")
    )
    weight_decay: float = option(1e-4, "weight decay of the optimiser", float, minimum=0)
    schedule: str = option(
        "none",
        "how the learning rate falls: as a cosine over the epochs, or by --learning-rate-decay over updates",
        str,
        choices=lambda: ("none", "cosine", "inverse-time"),
    )
    learning_rate_decay: float = option(
        0.0,
        "learning rate / (1 + DECAY x updates) with --schedule inverse-time",
        float,
        minimum=0,
        applies=(Applies("schedule", to=("inverse-time",)),),
    )
    max_epochs: int = option(100, "epochs at most", int, minimum=1)
    patience: int = option(8, "epochs without a better validation that end the training", int, minimum=1)
    monitor: str = option(
        "loss",
        "what of the validation people is to be better",
        str,
        choices=lambda: ("loss", "accuracy", "balanced-accuracy", "auc"),
    )
    flip: float = option(
        0.0, "probability that a training volume is mirrored left to right", float, minimum=0, maximum=1
    )
    max_shift: int = option(
        0, "voxels that a training volume is moved by at most, along each axis", int, minimum=0
    )
    shift_axes: tuple[str, ...] = option(
        ("x", "y", "z"),
        "axes of --max-shift; x is left to right",
        str,
        nargs="+",
        choices=lambda: ("x", "y", "z"),
        applies=(Applies("max_shift"),),
    )
    class_weights: bool = option(
        False, "weigh classes by the inverse of their number of training samples", bool
    )
    mixed_precision: bool = option(True, "train in bfloat16 where a GPU does it", bool)
    pretrained: Path | None = option(
        None, "checkpoint (.safetensors with its .json) whose weights training starts from", Path
    )
    transfer: tuple[str, ...] = option(
        (),
        "beginnings of the parameter names that --pretrained fills (default: all that fit)",
        str,
        nargs="+",
        metavar="NAME",
        applies=(Applies("pretrained"),),
    )
    random_search: int = option(
        0,
        "settings drawn at random and tried in every fold; the best validation loss chooses (0: none)",
        int,
        minimum=0,
    )
    search_batch_size: tuple[int, ...] = option(
        (4, 6, 12), "minibatches of --random-search", int, nargs="+", minimum=1, applies=(_SEARCH,)
    )
    search_learning_rate: tuple[float, ...] = option(
        (1e-4, 5e-5), "learning rates of --random-search", float, nargs="+", minimum=0, applies=(_SEARCH,)
    )
    search_patience: tuple[int, ...] = option(
        (12, 16), "patiences of --random-search", int, nargs="+", minimum=1, applies=(_SEARCH,)
    )
    baseline: tuple[str, ...] = option(
        (),
        "other classifiers on the same folds, for comparison",
        str,
        nargs="+",
        choices=lambda: ("logistic-regression", "svm-linear", "svm-rbf"),
    )
    explain: tuple[str, ...] = option(
        ("lrp-alpha-beta", "gradient-x-input", "grad-cam"),
        "explanations of the networks, each with options if wanted: lrp-alpha-beta:beta=0.5,bias=ignore",
        str,
        nargs="+",
        choices=lambda: EXPLANATIONS,
        also=":",
        metavar="METHOD[:OPTION=VALUE,...]",
    )
    explain_class: str | None = option(
        None,
        "class whose output is explained: its name, or each sample's 'true' or 'predicted' one (default: of "
        "two classes the second, for everyone; else the true one)",
        str,
        metavar="CLASS",
    )
    explain_start: str = option(
        "logit", "output that explanations start from", str, choices=lambda: ("logit", "probability")
    )
    explain_layer: str | None = option(
        None,
        "explain a filter of this inner layer (such as features.block2.0) instead of a class",
        str,
        metavar="LAYER",
    )
    explain_filter: int = option(
        0,
        "number of the filter of --explain-layer, from 0",
        int,
        minimum=0,
        applies=(Applies("explain_layer"),),
    )
    visualise: tuple[str, ...] = option(
        (),
        "filters of inner layers whose preferred image is searched for (activation maximisation)",
        str,
        nargs="+",
        metavar="LAYER:FILTER",
    )
    shown_values: str | None = option(
        None,
        "what heatmaps are shown and summed by region as, whatever --map-values tests: 'share' or 'raw' "
        "(default: as --map-values; raw with presets, as published)",
        str,
        choices=lambda: MAP_VALUES,
    )
    explain_samples: int | None = option(
        None,
        "held-out samples of every class and fold that are explained, best classified first (default: all)",
        int,
        minimum=1,
    )
    explain_above: float = option(
        0.0,
        "only samples whose true class has at least this probability are explained",
        float,
        minimum=0,
        maximum=1,
    )
    lesion_masks: Path | None = option(
        None,
        "derivatives with sub-*/**/*label-lesion_mask.nii.gz in the space of the analysis: heatmaps are "
        "scored against them",
        Path,
    )
    lesion_label: str = option(
        "lesion", "label of the masks in --lesion-masks", str, applies=(Applies("lesion_masks"),)
    )
    biomarker: str | None = option(
        None,
        "column of participants.tsv that every region's relevance is correlated with",
        str,
        metavar="COLUMN",
        applies=(Applies("atlas"),),
    )
    merge_sides: bool = option(
        False,
        "the region tables take the same region of the left and the right side as one",
        bool,
        applies=(Applies("atlas"),),
    )
    trust: bool = option(
        True, "randomise the network's parameters layer by layer and delete voxels by relevance", bool
    )
    strongest_positions: int = option(
        0,
        "positions of every class with the strongest occlusion that are listed, also in two dimensions",
        int,
        minimum=0,
    )
    similarity: bool = option(
        False, "compare the classes' dissimilarities in the brain and in the network (Mantel test)", bool
    )
