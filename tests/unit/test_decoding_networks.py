"""Training of networks against plain torch loops; interruptions, shortages and bad input."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from bids_xai.decoding.augmentation import augment
from bids_xai.decoding.network_parameters import NetworkParameters
from bids_xai.decoding.network_state import STATE_FILE
from bids_xai.decoding.network_steps import balanced_weights, substream, torch_seed
from bids_xai.decoding.networks import TrainedNetwork, predict, train_network
from bids_xai.decoding.volumes import memory_format, scale_volumes
from bids_xai.errors import InputError
from bids_xai.models.build import build_network
from bids_xai.models.checkpoints import Card, save_checkpoint

SHAPE = (7, 6, 5)
HERE = "test_decoding_networks"
TRAIN, VALIDATION = np.arange(14), np.arange(14, 22)


class Penalised(nn.Sequential):
    penalties: dict[str, float]


def small(
    shape: Sequence[int], n_classes: int, *, outputs: int | None = None, penalty: float = 0.0
) -> nn.Sequential:
    """Return a convolution and a dense layer."""
    size = 3 * math.prod(n - 2 for n in shape)
    network = Penalised(nn.Conv3d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(size, outputs or n_classes))
    network.penalties = {"0.weight": penalty} if penalty else {}
    return network


def deep(shape: Sequence[int], n_classes: int) -> nn.Sequential:
    """Return a network with all that has a state: batch normalisation and dropout."""
    return nn.Sequential(
        nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(4 * math.prod((n - 2) // 2 for n in shape), n_classes),
    )  # fmt: skip


class Hungry(nn.Module):
    """Asks for more memory than there is when it gets more volumes than it is to stand."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) > self.most:
            torch.empty(2**60)
        return x


def hungry(shape: Sequence[int], n_classes: int, *, most: int, normed: bool = False) -> nn.Sequential:
    network = small(shape, n_classes, penalty=0.1)
    network.insert(4, Hungry(most))
    if normed:
        network.insert(1, nn.BatchNorm3d(3))
    return network


@pytest.fixture
def volumes(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return volumes whose class shows in a corner."""
    data = rng.standard_normal((22, *SHAPE)).astype(np.float32)
    data[labels() == 1, 1:4, 1:4, 1:4] += 1.0
    return data


def labels(n_classes: int = 2) -> npt.NDArray[np.int64]:
    return np.arange(22) % n_classes


def parameters(**changes: Any) -> NetworkParameters:
    base = {
        "model": f"{HERE}:small", "learning_rate": 1e-2, "weight_decay": 0.0, "max_epochs": 3, "flip": 0.0,
        "shift": 0, "input_scaling": "none",
    }  # fmt: skip
    return NetworkParameters(**{**base, **changes})


def trained(
    data: npt.NDArray, how: NetworkParameters, *, n_classes: int = 2, **options: Any
) -> TrainedNetwork:
    asked: dict[str, Any] = {"seed": 5, "n_classes": n_classes, "parameters": how, **options}
    return train_network(data, labels(n_classes), TRAIN, VALIDATION, **asked)


def weights(network: nn.Module) -> dict[str, Tensor]:
    return network.state_dict()


def assert_same_bits(one: nn.Module, other: nn.Module) -> None:
    assert all(torch.equal(one.state_dict()[name], value) for name, value in other.state_dict().items())


def plain_loop(data: npt.NDArray, how: NetworkParameters, n_classes: int, optimizer: Any) -> nn.Module:
    """Train as a textbook does, with torch's own losses, in the order that the seed gives."""
    seed = np.random.SeedSequence(5)
    first = torch_seed(seed, 3)
    network = build_network(how.model, SHAPE, n_classes, seed=first, **how.model_options)
    descent = optimizer(network.parameters(), lr=how.learning_rate, weight_decay=how.weight_decay)
    y = torch.from_numpy(labels(n_classes))
    weight = torch.ones(n_classes)
    if how.class_weights:
        counts = torch.bincount(y[TRAIN], minlength=n_classes)
        weight = len(TRAIN) / (n_classes * counts)
    for epoch in range(1, how.max_epochs + 1):
        order = np.random.default_rng(substream(seed, 0, epoch)).permutation(TRAIN)
        for start in range(0, len(order), how.batch_size):
            chosen = order[start : start + how.batch_size]
            output = network(torch.from_numpy(data[chosen])[:, None])
            if output.shape[1] == 1:
                loss = nn.BCEWithLogitsLoss()(output[:, 0], y[chosen].float())
            else:
                loss = nn.CrossEntropyLoss(weight=weight)(output, y[chosen])
            for name, l2 in network.penalties.items():
                loss = loss + l2 * (network.get_parameter(name) ** 2).sum()
            descent.zero_grad()
            loss.backward()
            descent.step()
    return network


@pytest.mark.parametrize(
    ("changes", "n_classes", "optimizer"),
    [
        ({"weight_decay": 0.01}, 2, torch.optim.Adam),
        ({"optimizer": "adamw", "weight_decay": 0.1, "class_weights": True}, 3, torch.optim.AdamW),
        ({"optimizer": "sgd", "momentum": 0.0, "model_options": {"outputs": 1}}, 2, torch.optim.SGD),
        ({"model_options": {"outputs": 1, "penalty": 0.1}}, 2, torch.optim.Adam),
    ],
)
def test_training_is_that_of_a_plain_loop(
    volumes: npt.NDArray, changes: dict[str, Any], n_classes: int, optimizer: Any
) -> None:
    # The last epoch must be the best one for the weights to be the last.
    how = parameters(**changes, max_epochs=1)
    ours = trained(volumes, how, n_classes=n_classes)
    theirs = plain_loop(volumes, how, n_classes, optimizer)
    for name, value in weights(theirs).items():
        torch.testing.assert_close(weights(ours.network)[name], value, rtol=1e-5, atol=1e-6)
    assert ours.n_iterations == 4
    longer = train_network(
        volumes, labels(n_classes), TRAIN, VALIDATION, parameters=replace(how, max_epochs=3, monitor="loss"),
        n_classes=n_classes, seed=5,
    )  # fmt: skip
    whole = plain_loop(volumes, replace(how, max_epochs=longer.best_epoch), n_classes, optimizer)
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(longer.network)[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_losses_are_those_of_torch(volumes: npt.NDArray, weighted: bool) -> None:
    y = torch.tensor([0] * 9 + [1] * 5 + [0, 0, 1, 1, 1, 1, 1, 1])
    result = train_network(
        volumes, y.numpy(), TRAIN, VALIDATION, n_classes=2, seed=5,
        parameters=parameters(class_weights=weighted, learning_rate=1e-12, max_epochs=1, batch_size=3),
    )  # fmt: skip
    weight = torch.tensor([14 / 18, 14 / 10]) if weighted else None
    with torch.no_grad():
        logits = result.network(torch.from_numpy(volumes)[:, None])
    for name, index in (("train", TRAIN), ("validation", VALIDATION)):
        expected = nn.CrossEntropyLoss(weight=weight)(logits[index], y[index])
        assert result.history[0][f"{name}_loss"] == pytest.approx(float(expected), rel=1e-5)


def test_augmented_volumes_are_trained_on(volumes: npt.NDArray) -> None:
    how = parameters(flip=0.5, shift=2, shift_axes=(0, 2), max_epochs=1, batch_size=14)
    seed = np.random.SeedSequence(5)
    network = build_network(how.model, SHAPE, 2, seed=torch_seed(seed, 3))
    descent = torch.optim.Adam(network.parameters(), lr=how.learning_rate)
    order = np.random.default_rng(substream(seed, 0, 1)).permutation(TRAIN)
    moves = torch.Generator().manual_seed(torch_seed(seed, 1, 1))
    batch = torch.from_numpy(volumes[order])[:, None]
    batch = augment(batch, moves, flip=0.5, shift=2, shift_axes=(0, 2))
    nn.CrossEntropyLoss()(network(batch), torch.from_numpy(labels()[order])).backward()
    descent.step()
    ours = trained(volumes, how).network
    for name, value in weights(network).items():
        torch.testing.assert_close(weights(ours)[name], value, rtol=1e-5, atol=1e-6)
    still = trained(volumes, replace(how, flip=0.0, shift=0)).network
    assert not torch.allclose(weights(still)["3.weight"], weights(ours)["3.weight"])


@pytest.mark.parametrize("monitor", ["loss", "accuracy", "balanced-accuracy", "auc"])
def test_the_best_epoch_is_kept_and_training_stops_after_patience(volumes: npt.NDArray, monitor: str) -> None:
    how = parameters(monitor=monitor, patience=2, max_epochs=30, learning_rate=3e-3)
    result = trained(volumes, how)
    values = [record[f"validation_{monitor}"] for record in result.history]
    best = min(values) if monitor == "loss" else max(values)
    assert result.best_epoch == values.index(best) + 1
    assert len(values) == min(result.best_epoch + 2, 30)
    assert len(values) < 30
    assert result.n_iterations == 4 * len(values)
    assert result.effort == {
        "iterations": result.n_iterations, "epochs": len(values), "best-epoch": result.best_epoch,
        "seconds": result.seconds,
    }  # fmt: skip
    # The weights are those of the best epoch, not of the last.
    again = predict(result.network, volumes, VALIDATION)
    loss = -np.log(again[np.arange(8), labels()[VALIDATION]]).mean()
    record = result.history[result.best_epoch - 1]
    assert loss == pytest.approx(record["validation_loss"], rel=1e-5)
    right = (again.argmax(axis=1) == labels()[VALIDATION]).mean()
    assert right == pytest.approx(record["validation_accuracy"])


def test_a_network_learns_and_its_probabilities_say_so(volumes: npt.NDArray) -> None:
    result = trained(volumes, parameters(model=f"{HERE}:deep", max_epochs=15, batch_size=7, monitor="loss"))
    probabilities = predict(result.network, volumes, np.arange(22))
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities[TRAIN].argmax(axis=1) == labels()[TRAIN]).mean() > 0.9
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


class Interrupted(Exception):  # noqa: N818  (no error)
    pass


def test_an_interrupted_training_goes_on_to_the_same_bits(volumes: npt.NDArray, tmp_path: Path) -> None:
    how = parameters(
        model=f"{HERE}:deep", flip=0.5, shift=1, max_epochs=6, patience=6, weight_decay=1e-3,
        schedule="cosine", class_weights=True, input_scaling="zscore",
    )  # fmt: skip
    whole = trained(volumes, how)

    def stop_after(epoch: int) -> Any:
        def check(record: dict[str, float]) -> None:
            if record["epoch"] == epoch:
                raise Interrupted

        return check

    for epoch in (2, 3):
        with pytest.raises(Interrupted):
            trained(volumes, how, folder=tmp_path, callback=stop_after(epoch))
    seen: list[float] = []
    resumed = trained(volumes, how, folder=tmp_path, callback=lambda record: seen.append(record["epoch"]))
    assert seen == [4, 5, 6]
    assert_same_bits(resumed.network, whole.network)

    def timeless(result: TrainedNetwork) -> list[dict[str, float]]:
        return [{k: v for k, v in record.items() if k != "seconds"} for record in result.history]

    assert timeless(resumed) == timeless(whole)
    assert (resumed.best_epoch, resumed.n_iterations) == (whole.best_epoch, whole.n_iterations)
    # Asked for again, nothing is left to do.
    finished = trained(volumes, how, folder=tmp_path, callback=lambda record: seen.append(record["epoch"]))
    assert seen == [4, 5, 6]
    assert_same_bits(finished.network, whole.network)
    other = trained(volumes, how, seed=6)
    assert not torch.equal(weights(other.network)["0.weight"], weights(whole.network)["0.weight"])


def test_bits_depend_on_the_seed_alone_and_the_process_is_left_as_it_was(
    volumes: npt.NDArray, tmp_path: Path
) -> None:
    how = parameters(model=f"{HERE}:deep", flip=0.5, max_epochs=2)
    np.save(tmp_path / "volumes.npy", volumes)
    mapped = np.load(tmp_path / "volumes.npy", mmap_mode="r")
    threads, drawn = torch.get_num_threads(), torch.random.get_rng_state()
    used: list[int] = []
    first = trained(volumes, how)
    trained(volumes, how, n_threads=threads + 1, callback=lambda _: used.append(torch.get_num_threads()))
    assert set(used) == {threads + 1}
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert torch.get_num_threads() == threads
    torch.manual_seed(99)
    try:
        second = trained(mapped, how, seed=np.random.SeedSequence(5))
    finally:
        torch.random.set_rng_state(drawn)
    assert_same_bits(first.network, second.network)
    # Mixed precision is for GPUs.
    assert_same_bits(first.network, trained(volumes, replace(how, precision="mixed")).network)
    assert not any(module.training for module in first.network.modules())


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_minibatch_too_large_for_the_memory_is_split(volumes: npt.NDArray, most: int) -> None:
    plain = parameters(model=f"{HERE}:hungry", model_options={"most": 100}, batch_size=6, max_epochs=2)
    whole = trained(volumes, plain)
    parts = trained(volumes, replace(plain, model_options={"most": most}))
    assert whole.held_at_once == 6
    assert parts.held_at_once == {1: 1, 2: 2, 3: 3}[most]
    for name, value in weights(whole.network).items():
        torch.testing.assert_close(weights(parts.network)[name], value, rtol=1e-4, atol=1e-6)
    assert parts.history[1]["train_loss"] == pytest.approx(whole.history[1]["train_loss"], rel=1e-5)


def test_a_pass_that_ran_out_of_memory_leaves_no_trace(volumes: npt.NDArray) -> None:
    how = parameters(
        model=f"{HERE}:hungry", model_options={"most": 2, "normed": True}, max_epochs=1, batch_size=4
    )
    # Minibatches of 4, 4, 4 and 2 volumes, two at once: what failed before the first half is not counted.
    assert trained(volumes, how).network[1].num_batches_tracked == 7


def test_one_volume_too_large_for_the_memory_is_refused(volumes: npt.NDArray) -> None:
    how = parameters(model=f"{HERE}:hungry", model_options={"most": 0})
    with pytest.raises(InputError, match=r"one volume at a time: .*allocate 4611686018427387904 bytes"):
        trained(volumes, how)


def test_training_starts_from_a_checkpoint(volumes: npt.NDArray, tmp_path: Path) -> None:
    source = build_network(f"{HERE}:small", SHAPE, 2, seed=77)
    card = Card(f"{HERE}:small", SHAPE, np.eye(4).tolist(), ("a", "b"))
    save_checkpoint(tmp_path / "source", source, card)
    how = parameters(pretrained=str(tmp_path / "source"), learning_rate=1e-12, max_epochs=1)
    everything = weights(trained(volumes, how).network)
    some = weights(trained(volumes, replace(how, transfer=("0",))).network)
    for name, value in weights(source).items():
        torch.testing.assert_close(everything[name], value)
        assert torch.allclose(some[name], value) == name.startswith("0.")
    three = weights(trained(volumes, how, n_classes=3).network)
    torch.testing.assert_close(three["0.weight"], weights(source)["0.weight"])
    assert three["3.weight"].shape[0] == 3


@pytest.mark.parametrize("scaling", ["none", "minmax", "zscore", "max"])
def test_volumes_are_scaled_one_by_one(volumes: npt.NDArray, scaling: str) -> None:
    volumes[3] = 0.0
    scaled = scale_volumes(torch.from_numpy(volumes)[:, None], scaling)[:, 0].numpy()
    for one, result in zip(volumes.astype(np.float64), scaled, strict=True):
        expected = {
            "none": lambda v: v,
            "minmax": lambda v: (v - v.min()) / (np.ptp(v) or 1),
            "zscore": lambda v: (v - v.mean()) / (v.std() or 1),
            "max": lambda v: v / (v.max() or 1),
        }[scaling](one)
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_predictions_scale_as_asked_and_leave_the_network_alone(volumes: npt.NDArray) -> None:
    network = build_network(f"{HERE}:deep", SHAPE, 2, seed=0)
    network[1].eval()
    modes = [module.training for module in network.modules()]
    index = np.array([5, 2, 9, 11, 0])
    found = predict(network, volumes, index, batch_size=2, input_scaling="minmax")
    assert [module.training for module in network.modules()] == modes
    scaled = scale_volumes(torch.from_numpy(volumes[index])[:, None], "minmax")
    with torch.no_grad():
        expected = torch.softmax(network.eval()(scaled), dim=1)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    one = build_network(f"{HERE}:small", SHAPE, 2, seed=0, outputs=1)
    with torch.no_grad():
        z = one(torch.from_numpy(volumes[index])[:, None])[:, 0]
    np.testing.assert_allclose(predict(one, volumes, index)[:, 1], torch.sigmoid(z).numpy(), atol=1e-6)


def test_depthwise_networks_keep_their_channels_apart() -> None:
    assert memory_format(build_network(f"{HERE}:deep", SHAPE, 2)) is torch.channels_last_3d
    depthwise = nn.Sequential(nn.Conv3d(1, 4, 3), nn.Conv3d(4, 8, 3, groups=4))
    assert memory_format(depthwise) is torch.contiguous_format


def test_class_weights_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    y = np.array([0, 0, 0, 1, 2, 2])
    np.testing.assert_allclose(
        balanced_weights(y, 3), compute_class_weight("balanced", classes=np.arange(3), y=y)
    )


def test_rates_are_those_of_the_published_schedules(volumes: npt.NDArray) -> None:
    cosine = parameters(schedule="cosine", max_epochs=7)
    descent = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cosine.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, 7)
    for epoch in range(7):
        assert cosine.rate(epoch, 100) == pytest.approx(descent.param_groups[0]["lr"])
        descent.step()
        schedule.step()
    inverse = parameters(schedule="inverse-time", learning_rate=0.5, learning_rate_decay=0.1, patience=9)
    rates = [record["learning_rate"] for record in trained(volumes, inverse).history]
    # The last of four updates in each epoch.
    assert rates == pytest.approx([0.5 / 1.3, 0.5 / 1.7, 0.5 / 2.1])


def test_parameters_go_through_json() -> None:
    how = parameters(model_options={"outputs": 1}, transfer="all", shift_axes=(0, 1))
    again = NetworkParameters(**json.loads(json.dumps(asdict(how))))
    assert again == how
    assert again.transfer == ("all",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adamm"}, "did you mean 'adam"),
        ({"monitor": "acc"}, "Unknown monitor 'acc'"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"flip": 1.5}, "flip 1.5"),
        ({"input_scaling": "robust"}, "Unknown input_scaling"),
    ],
)
def test_wrong_parameters_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parameters(**changes)


def test_numbers_that_are_not_finite_are_refused(volumes: npt.NDArray) -> None:
    with pytest.raises(InputError, match="The training loss is nan in epoch 1"):
        trained(volumes * np.float32(1e25), parameters(learning_rate=1e25, optimizer="sgd"))
    volumes[15, 2, 2, 2:4] = (np.nan, np.inf)
    with pytest.raises(InputError, match="Sample 15 has 2 voxels"):
        trained(volumes, parameters())
    with pytest.raises(InputError, match="Sample 15 has 2 voxels"):
        predict(build_network(f"{HERE}:small", SHAPE, 2), volumes, np.array([1, 15]))
    # What is not used may be anything.
    used = np.array([14, *range(16, 22)])
    train_network(volumes, labels(), TRAIN, used, parameters=parameters(), n_classes=2, seed=0)


@pytest.mark.parametrize(
    ("train", "validation", "changes", "message"),
    [
        (TRAIN, TRAIN[-2:], {}, "2 samples are to train on and to stop by \\(sample 12\\)"),
        (TRAIN, TRAIN[:0], {}, "and 0 to stop by"),
        (TRAIN[::2], VALIDATION, {}, "\\[7, 0\\] samples of the classes"),
        (TRAIN, VALIDATION[::2], {"monitor": "auc"}, "The validation set is of one class"),
    ],
)
def test_wrong_sets_are_refused(
    volumes: npt.NDArray, train: Any, validation: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train_network(
            volumes, labels(), train, validation, parameters=parameters(**changes), n_classes=2, seed=0
        )


def test_a_folder_of_another_training_is_refused(volumes: npt.NDArray, tmp_path: Path) -> None:
    how = parameters(max_epochs=1)
    trained(volumes, how, folder=tmp_path)
    for changes in ({"seed": 6}, {"how": replace(how, batch_size=3)}, {"data": volumes + 1}):
        asked = {"data": volumes, "how": how, **changes}
        with pytest.raises(InputError, match=f"{STATE_FILE} is of another training"):
            trained(asked.pop("data"), asked.pop("how"), folder=tmp_path, **asked)
    (tmp_path / STATE_FILE).write_bytes(b"half of it")
    with pytest.raises(InputError, match=f"{STATE_FILE} cannot be read"):
        trained(volumes, how, folder=tmp_path)
