"""What the page and the methods text say of the training of networks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from test_reports_networks_output import make_networks

from bids_xai.reports.networks_summary import conclusions, learnt_nothing
from bids_xai.reports.networks_training import search_sentence, training_blocks
from bids_xai.reports.networks_training_text import training_text
from bids_xai.reports.results import load_results
from bids_xai.settings import Settings
from tests.written import injected


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return make_networks(tmp_path_factory.mktemp("networks"), methods=["Occlusion"], n_permutations=0)


@pytest.fixture
def results(out):
    return load_results(out)


def with_settings(results, **settings):
    injected(settings)
    return replace(results, manifest={**results.manifest, "settings": settings})


def at(results, mean, best_epochs, p=None):
    """Return results of so many trainings, of a balanced accuracy and, if tested, its p."""
    row = {"metric": "balanced_accuracy", "class": "all", "mean": mean, "sd": 0.1, "p": p}
    tables = {"score_tests": pd.DataFrame([row]), "trainings": pd.DataFrame({"best_epoch": best_epochs})}
    copy = load_results(results.out_dir)
    copy.__dict__["_tables"] = {**tables, "predictions": results.table("predictions")}
    return copy


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimizer": "sgd"}, "optimiser stochastic gradient descent"),
        ({"learning_rate": 5e-4}, "learning rate 0.0005"),
        ({"weight_decay": 0.002}, "weight decay 0.002"),
        ({"schedule": "cosine"}, "the learning rate falling as a cosine"),
        ({"schedule": "inverse-time", "learning_rate_decay": 0.002}, "divided by 1 + 0.002 t after t"),
        ({"batch_size": 12}, "batches of 12 samples"),
        ({"class_weights": True}, "classes weighted by the inverse"),
        ({"mixed_precision": True}, "in bfloat16 where a GPU was used"),
        ({"max_epochs": 90}, "stopped after 90 epochs at the latest"),
        ({"patience": 1, "monitor": "loss"}, "after 1 epoch without a lower loss in validation"),
        ({"patience": 8, "monitor": "auc"}, "8 epochs without a larger area under the ROC curve"),
        ({"flip": 0.5}, "volumes were mirrored left to right with probability 0.5."),
        ({"max_shift": 2, "shift_axes": ["x", "z"]}, "moved by up to 2 voxels along x and z."),
        ({"validation_size": 0.15}, "A share of 0.15 of the training people was kept for validation."),
        ({"validation_size": 0.1, "stratify": ["sex", "age:5"]}, "and of sex and age (in steps of 5)."),
        ({"undersample": ["sex", "age:5"]}, "each level of sex within every level of age (in steps of 5)."),
        ({"undersample": ["sex"]}, "until every class had as many of each level of sex."),
        ({"samples_per_class": 40}, "Of every class 40 samples were drawn"),
        ({"input_scaling": "zscore"}, "scaled to zero mean and unit variance before"),
        ({"pretrained": "a.safetensors"}, "began with the parameters of a network that was trained before."),
        ({"pretrained": "a", "transfer": ["features."]}, "(those whose names begin with features.)"),
        ({"pretrained": "a", "transfer": "all"}, "trained before."),
        ({"random_search": 5, "search_batch_size": [4, 6, 12], "monitor": "loss"},
         "5 draws of batch size (4, 6 or 12) were tried, and the one of the lowest loss in validation was"),
    ],
)  # fmt: skip
def test_every_setting_that_is_set_is_named(results, settings, words):
    assert words in training_text(with_settings(results, **settings))
    # What it says comes from this setting.
    assert words not in training_text(with_settings(results))


def test_settings_are_those_of_the_command_line():
    names = {name for section in vars(Settings()).values() for name in vars(section)}
    read = {"optimizer", "learning_rate", "weight_decay", "schedule", "learning_rate_decay", "batch_size",
            "max_epochs", "patience", "monitor", "flip", "max_shift", "shift_axes", "validation_size",
            "test_size", "test_first_session", "stratify", "undersample", "samples_per_class",
            "class_weights", "mixed_precision", "pretrained", "transfer", "random_search",
            "search_batch_size", "search_learning_rate", "search_patience", "input_scaling",
            "explain_samples", "explain_above", "biomarker"}  # fmt: skip
    assert read <= names


def test_what_is_off_is_not_described(results):
    text = training_text(
        with_settings(
            results, schedule="none", flip=0.0, max_shift=0, shift_axes=["x"], class_weights=False,
            mixed_precision=False, pretrained=None, transfer="all", random_search=0, input_scaling="none",
            undersample=[], stratify=[], samples_per_class=None, learning_rate_decay=0.0,
        )
    )  # fmt: skip
    assert text.startswith("The parameters of the epoch with the best validation were kept")


def test_what_was_searched_is_not_given_as_set(results):
    text = training_text(
        with_settings(results, random_search=5, learning_rate=1e-4, batch_size=4, patience=8, max_epochs=200)
    )
    for words in ("learning rate 0.0001", "batches of 4", "8 epochs"):
        assert words not in text
    assert "200 epochs at the latest" in text


def test_chosen_values_are_counted_as_a_loop_counts_them(results):
    table = results.table("search")
    sentence = search_sentence(table)
    for column in ("batch_size", "patience"):
        counts = Counter(row[column] for _, row in table.iterrows() if row["chosen"])
        shown = [f"{value} ({n} ×)" for value, n in sorted(counts.items())]
        words = f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else shown[0]
        assert f"{column.replace('_', ' ')} {words}" in sentence
    assert "3 draws in each of 9 trainings" in sentence


def test_draws_are_listed(results):
    (fold,) = [block for block in training_blocks(results, _NoGallery()) if block.kind == "fold" and
               block.title == "All draws"]  # fmt: skip
    (table,) = fold.blocks
    assert len(table.rows) == 27
    assert table.header[-1] == "Chosen"
    assert Counter(row[-1] for row in table.rows) == {"yes": 9, "no": 18}


class _NoGallery:
    def drawing(self, *_):
        return _Block()


class _Block:
    kind = "figure"


@pytest.mark.parametrize(
    ("mean", "best_epochs", "p", "nothing"),
    [
        (0.5, [1, 3, 2], None, True),
        (0.5, [1, 4, 2], None, False),
        (0.9, [1, 1, 1], None, False),
        (0.9, [1, 1, 1], 0.2, True),
        (0.6, [1, 1, 1], 0.01, False),
    ],
)
def test_nothing_is_learnt_where_training_stops_at_once_at_chance(results, mean, best_epochs, p, nothing):
    found = at(results, mean, best_epochs, p)
    assert learnt_nothing(found) is nothing
    assert any("Nothing was learnt" in note for note in conclusions(found)) is nothing


def test_chance_is_as_far_as_the_binomial_distribution_takes_it(results):
    n = results.table("predictions")["sample"].nunique()
    # The normal approximation is right to one of n = 48 samples.
    highest = binom.ppf(0.95, n, 0.5)
    accuracies = np.arange(n + 1) / n
    at_chance = [learnt_nothing(at(results, mean, [1])) for mean in accuracies]
    assert at_chance == sorted(at_chance, reverse=True)
    assert abs(sum(at_chance) - 1 - highest) <= 1


def test_without_trainings_nothing_is_said(results):
    assert not learnt_nothing(replace(results, manifest={**results.manifest, "tables": {}}))
