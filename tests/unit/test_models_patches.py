"""Patch-individual filters against a loop over patches, each with a convolution of its own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from bids_xai.errors import InputError
from bids_xai.models import patch_kernels
from bids_xai.models.patches import PatchConvolution, PatchIndividualFilters, Split

SIZES = st.tuples(*[st.integers(1, 9)] * 3)
PATCHES = st.tuples(*[st.integers(1, 5)] * 3)


def corners(
    shape: tuple[int, ...], patch: tuple[int, ...], overlap: str | None
) -> list[list[tuple[int, ...]]]:
    """First voxels of the patches of both sets, in C order (equation 3 of Eitel et al. 2021)."""
    grid = [math.ceil(n / p) for n, p in zip(shape, patch, strict=True)]
    sets = [
        [tuple(i * p for i, p in zip(at, patch, strict=True)) for at in itertools.product(*map(range, grid))]
    ]
    if overlap and max(grid) > 1:
        step = [0 if g == 1 else p if overlap == "full" else p // 2 for g, p in zip(grid, patch, strict=True)]
        fewer = itertools.product(*[range(max(g - 1, 1)) for g in grid])
        sets.append([tuple(s + i * p for s, i, p in zip(step, at, patch, strict=True)) for at in fewer])
    return sets


def loop(
    layer: PatchIndividualFilters, x: Tensor, patch: tuple[int, ...], overlap: str | None
) -> list[list[Tensor]]:
    """Return what every patch gives, by a convolution of its own on the voxels that it holds."""
    padded = functional.pad(x, (0, patch[2], 0, patch[1], 0, patch[0]))
    weight, bias = layer.conv.weight, layer.conv.bias
    n_out = weight.shape[0] // layer.n_patches
    found, number = [], 0
    for group in corners(tuple(x.shape[2:]), patch, overlap):
        outputs = []
        for a, b, c in group:
            own = padded[:, :, a : a + patch[0], b : b + patch[1], c : c + patch[2]]
            rows = slice(number * n_out, (number + 1) * n_out)
            outputs.append(functional.conv3d(own, weight[rows], bias[rows], padding=layer.conv.padding))
            number += 1
        found.append(outputs)
    assert number == layer.n_patches
    return found


def placed(outputs: list[Tensor], firsts: list[tuple[int, ...]], size: list[int]) -> Tensor:
    whole = outputs[0].new_zeros((*outputs[0].shape[:2], *size))
    for output, first in zip(outputs, firsts, strict=True):
        there = [slice(a, a + n) for a, n in zip(first, output.shape[2:], strict=True)]
        whole[(slice(None), slice(None), *there)] += output
    return whole


def textbook(
    layer: PatchIndividualFilters, x: Tensor, patch: tuple[int, ...], overlap: str | None, output: str
) -> Tensor:
    sets = loop(layer, x, patch, overlap)
    if output == "flat":
        return torch.cat([one.flatten(1) for outputs in sets for one in outputs], dim=1)
    left = tuple(sets[0][0].shape[2:])
    grid = [math.ceil(n / p) for n, p in zip(x.shape[2:], patch, strict=True)]
    size = [g * n for g, n in zip(grid, left, strict=True)]
    # The positions on the map are those of a volume that is cut into patches of the size of their outputs.
    firsts = corners(tuple(size), left, overlap)
    return torch.cat([placed(*pair, size) for pair in zip(sets, firsts, strict=True)], dim=1)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    shape=SIZES,
    patch=PATCHES,
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=st.integers(1, 3),
    padding=st.integers(0, 1),
    overlap=st.sampled_from([None, "half", "full"]),
    output=st.sampled_from(["flat", "map"]),
    volumes=st.integers(1, 3),
    training=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_as_a_loop_over_patches(
    shape: tuple[int, ...],
    patch: tuple[int, ...],
    channels: tuple[int, int],
    kernel: int,
    padding: int,
    overlap: str | None,
    output: str,
    volumes: int,
    training: bool,
    seed: int,
) -> None:
    kernels = tuple(min(kernel, p + 2 * padding) for p in patch)
    layer = PatchIndividualFilters(
        shape, *channels, patch=patch, kernel=kernels, padding=padding, overlap=overlap, output=output
    ).double()
    layer.train(training)
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=drawn, dtype=torch.float64))
    x = torch.randn((volumes, channels[0], *shape), generator=drawn, dtype=torch.float64, requires_grad=True)
    found, wanted = layer(x), textbook(layer, x, patch, overlap, output)
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    if output == "flat":
        assert found.shape[1] == layer.n_out
    towards = torch.randn(found.shape, generator=drawn, dtype=torch.float64)
    inputs = [x, *layer.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, towards), torch.autograd.grad(wanted, inputs, towards), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def drawn_layer(**options: object) -> tuple[PatchIndividualFilters, Tensor]:
    """Return a layer of 12 + 2 patches in float32 and three volumes for it, of known values."""
    drawn = torch.Generator().manual_seed(3)
    layer = PatchIndividualFilters((9, 13, 10), 16, 6, overlap="half", output="flat", **options)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=drawn))
    return layer, torch.randn((3, 16, 9, 13, 10), generator=drawn)


@pytest.mark.slow
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_single_precision_in_training_is_as_exact_as_the_loop(
    padding: int, layout: torch.memory_format
) -> None:
    """Errors against float64 stay within a few times those of the loop over patches in float32."""
    layer, x = drawn_layer(padding=padding)
    x = x.to(memory_format=layout).requires_grad_()
    exact = PatchIndividualFilters(
        (9, 13, 10), 16, 6, overlap="half", output="flat", padding=padding
    ).double()
    exact.load_state_dict(layer.state_dict())
    x64 = x.detach().double().requires_grad_()
    wanted = textbook(exact, x64, (5, 5, 5), "half", "flat")
    towards = torch.ones_like(wanted)
    truth = [wanted, *torch.autograd.grad(wanted, [x64, *exact.parameters()], towards)]
    errors = []
    for found in (layer(x), textbook(layer, x, (5, 5, 5), "half", "flat")):
        own = [found, *torch.autograd.grad(found, [x, *layer.parameters()], towards.float())]
        errors.append([float((a - b).detach().abs().max()) for a, b in zip(own, truth, strict=True)])
    for ours, loops, value in zip(*errors, truth, strict=True):
        assert ours <= 4 * loops + 1e-6 * float(value.detach().abs().max())


def test_patches_of_volumes_in_training_lie_side_by_side_along_z() -> None:
    layer, x = drawn_layer()
    trained = layer.split(x)
    assert trained.permute(2, 3, 4, 0, 1).is_contiguous()
    others = Split((9, 13, 10), (5, 5, 5), (2, 2, 2))(x)
    assert others.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(trained, others)
    layer.eval()
    judged = layer.split(x)
    assert judged.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(trained, judged)
    torch.testing.assert_close(layer.conv(trained), layer.conv(judged), rtol=1e-5, atol=1e-4)


@pytest.fixture(autouse=True)
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_bits_do_not_depend_on_the_number_of_threads(threads: Callable[[int], None]) -> None:
    layer, x = drawn_layer(padding=1)
    patches = layer.split(x).requires_grad_()
    found = []
    for number in (1, 2, 5):
        threads(number)
        y = layer.conv(patches)
        found.append([y, *torch.autograd.grad(y, [patches, layer.conv.weight], y.detach().sin())])
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


def test_values_that_are_not_finite_stay_in_their_patch() -> None:
    layer, x = drawn_layer()
    patches = layer.split(x)
    clean = layer.conv(patches).detach()
    patches[1, 16 * 5 + 3, 2, 2, 2] = float("nan")
    found = layer.conv(patches).detach()
    assert found[1, 6 * 5 : 6 * 6].isnan().all()
    found[1, 6 * 5 : 6 * 6] = clean[1, 6 * 5 : 6 * 6]
    assert torch.equal(found, clean)


def test_parameters_that_are_not_trained_get_no_gradient() -> None:
    layer, x = drawn_layer()
    layer.conv.requires_grad_(False)
    layer(x.requires_grad_()).sum().backward()
    assert x.grad is not None
    assert layer.conv.weight.grad is None
    layer.conv.weight.requires_grad_()
    layer(x.detach()).sum().backward()
    towards = torch.autograd.grad(textbook(layer, x, (5, 5, 5), "half", "flat").sum(), layer.conv.weight)
    torch.testing.assert_close(layer.conv.weight.grad, towards[0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2},
        {"dilation": 2},
        {"padding": 1, "padding_mode": "replicate"},
        {"padding": "same"},
        {"padding": (0, 1, 2)},
        {"padding": (2, 0, 1), "kernel_size": (2, 3, 1)},
        {"bias": False},
    ],
)
def test_convolution_is_that_of_torch_whatever_its_options(options: dict[str, object]) -> None:
    given = {"kernel_size": 3, **options}
    ours = PatchConvolution(8, 6, groups=2, **given).double()  # type: ignore[arg-type]
    theirs = nn.Conv3d(8, 6, groups=2, **given).double()  # type: ignore[arg-type]
    theirs.load_state_dict(ours.state_dict())
    drawn = torch.Generator().manual_seed(1)
    x = (
        torch.randn((5, 6, 7, 3, 8), generator=drawn, dtype=torch.float64)
        .permute(3, 4, 0, 1, 2)
        .requires_grad_()
    )
    found, wanted = ours(x), theirs(x.contiguous())
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    towards = torch.randn(found.shape, generator=drawn, dtype=torch.float64)
    gradients = [
        torch.autograd.grad(y, [x, *conv.parameters()], towards)
        for y, conv in ((found, ours), (wanted, theirs))
    ]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_are_those_of_small_steps(training: bool) -> None:
    layer = PatchIndividualFilters((4, 5, 3), 2, 1, patch=3, kernel=2, overlap="half").double()
    layer.train(training)
    drawn = torch.Generator().manual_seed(2)
    x = torch.randn((2, 2, 4, 5, 3), generator=drawn, dtype=torch.float64, requires_grad=True)
    weight, bias = (parameter.detach().requires_grad_() for parameter in layer.parameters())

    def outputs(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        given = {"conv.weight": weight, "conv.bias": bias}
        found: Tensor = torch.func.functional_call(layer, given, (x,))
        return found

    assert torch.autograd.gradcheck(outputs, (x, weight, bias))


def test_gradients_of_gradients_are_refused() -> None:
    layer, x = drawn_layer()
    x.requires_grad_()
    (first,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_a_second_pass_adds_the_same_gradients_again() -> None:
    """Same bits in both passes, none lost where the graph is used twice."""
    layer, x = drawn_layer()
    x.requires_grad_()
    output = layer(x)
    inputs = [x, *layer.parameters()]
    towards = torch.ones_like(output)
    first = torch.autograd.grad(output, inputs, towards, retain_graph=True)
    second = torch.autograd.grad(output, inputs, towards)
    again = torch.autograd.grad(layer(x), inputs, towards)
    assert torch.equal(output, layer(x))
    for a, b, c in zip(first, second, again, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    layer(x).sum().backward()
    layer(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 2 * first[0])


def test_parameters_have_the_names_of_one_grouped_convolution() -> None:
    layer, _ = drawn_layer()
    assert isinstance(layer.conv, nn.Conv3d)
    assert {name: tuple(value.shape) for name, value in layer.state_dict().items()} == {
        "conv.weight": (layer.n_patches * 6, 16, 3, 3, 3),
        "conv.bias": (layer.n_patches * 6,),
    }
    assert [name for name, _ in layer.named_children()] == ["split", "conv", "merge"]


@pytest.mark.parametrize(
    ("shape", "overlap", "patches"),
    [
        ((15, 19, 15), None, 36),
        ((15, 19, 15), "half", 48),
        ((10, 13, 10), "half", 14),
        ((8, 10, 8), "half", 9),
        ((10, 12, 10), "full", 14),
        ((5, 5, 5), "half", 1),
        ((5, 11, 4), "half", 5),
    ],
)
def test_number_of_patches_is_published(shape: tuple[int, ...], overlap: str | None, patches: int) -> None:
    assert PatchIndividualFilters(shape, 1, 1, overlap=overlap).n_patches == patches


def test_second_set_is_shifted_by_half_a_patch_or_a_whole_one() -> None:
    x = torch.arange(10.0).reshape(1, 1, 10, 1, 1)
    half = PatchIndividualFilters((10, 1, 1), 1, 1, patch=(5, 1, 1), kernel=1, overlap="half").split(x)
    full = PatchIndividualFilters((10, 1, 1), 1, 1, patch=(5, 1, 1), kernel=1, overlap="full").split(x)
    assert half[0, 2].flatten().tolist() == [2, 3, 4, 5, 6]
    assert full[0, 2].flatten().tolist() == [5, 6, 7, 8, 9]


def test_padding_is_zeros_on_the_right() -> None:
    x = torch.arange(1.0, 8).reshape(1, 1, 7, 1, 1)
    patches = PatchIndividualFilters((7, 1, 1), 1, 1, patch=(5, 1, 1), kernel=1).split(x)
    assert patches[0, :, :, 0, 0].tolist() == [[1, 2, 3, 4, 5], [6, 7, 0, 0, 0]]


def test_first_weights_have_the_bounds_of_single_convolutions() -> None:
    layer = PatchIndividualFilters((20, 20, 20), 4, 8)
    bound = 1 / math.sqrt(4 * 27)
    assert 0.98 * bound < layer.conv.weight.abs().max() <= bound
    assert layer.conv.bias is not None
    assert layer.conv.bias.abs().max() <= bound


@pytest.mark.parametrize("output", ["flat", "map"])
@pytest.mark.parametrize("overlap", [None, "half", "full"])
def test_relevance_goes_through_its_three_modules(output: str, overlap: str | None) -> None:
    """LRP-0 of the layer: relevance is that of the loop over patches, and its sum is kept."""
    patch = (5, 4, 3)
    layer = PatchIndividualFilters((7, 10, 5), 2, 3, patch=patch, overlap=overlap, output=output).double()
    nn.init.zeros_(layer.conv.bias)
    drawn = torch.Generator().manual_seed(5)
    x = torch.rand((2, 2, 7, 10, 5), generator=drawn, dtype=torch.float64, requires_grad=True)
    relevance = torch.rand(layer(x).shape, generator=drawn, dtype=torch.float64)
    relevance = relevance * (layer(x).detach() != 0)

    patches = layer.split(x)
    inner = patches.detach().requires_grad_()
    z = layer.conv(inner)
    from_merge = torch.autograd.grad(layer.merge(z), z, relevance, retain_graph=True)[0]
    at_patches = inner * torch.autograd.grad(z, inner, from_merge / z)[0]
    found = torch.autograd.grad(patches, x, at_patches)[0]

    z = textbook(layer, x, patch, overlap, output)
    share = torch.where(z == 0, 0.0, relevance / torch.where(z == 0, 1.0, z)).detach()
    wanted = x * torch.autograd.grad(z, x, share)[0]
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.sum(), relevance.sum(), rtol=1e-9, atol=1e-9)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="overlap"):
        PatchIndividualFilters((5, 5, 5), 1, 1, overlap="quarter")
    with pytest.raises(InputError, match="output"):
        PatchIndividualFilters((5, 5, 5), 1, 1, output="rows")
    with pytest.raises(InputError, match="does not fit"):
        PatchIndividualFilters((5, 5, 5), 1, 1, patch=2)


def is_fused(output: Tensor) -> bool:
    """Whether no patches were cut on the way from maps to this output."""
    nodes, seen = [output.grad_fn], []
    while nodes:
        node = nodes.pop()
        if node is not None:
            seen.append(node.name())
            nodes += [before for before, _ in node.next_functions]
    return any("_Filtered" in name for name in seen)


def results(layer: PatchIndividualFilters, x: Tensor) -> list[Tensor]:
    """Return the output and the gradients of maps, filters and biases."""
    x = x.detach().requires_grad_()
    y = layer(x)
    return [y, *torch.autograd.grad(y, [x, *layer.parameters()], y.detach().sin())]


@settings(max_examples=30, deadline=None)
@given(
    shape=SIZES,
    patch=PATCHES,
    channels=st.integers(1, 20),
    filters=st.integers(1, 19),
    kernel=st.tuples(*[st.integers(1, 3)] * 3),
    padding=st.integers(0, 2),
    overlap=st.sampled_from([None, "half", "full"]),
    volumes=st.integers(1, 8),
    layout=st.sampled_from(["first", "last", "turned", "expanded"]),
)
def test_without_patches_as_with_them(
    shape: tuple[int, ...],
    patch: tuple[int, ...],
    channels: int,
    filters: int,
    kernel: tuple[int, ...],
    padding: int,
    overlap: str | None,
    volumes: int,
    layout: str,
) -> None:
    kernels = tuple(min(k, p + 2 * padding) for k, p in zip(kernel, patch, strict=True))
    layer = PatchIndividualFilters(
        shape, channels, filters, patch=patch, kernel=kernels, padding=padding, overlap=overlap
    ).double()
    x = torch.randn((volumes, channels, *shape), dtype=torch.float64)
    if layout == "last":
        x = x.contiguous(memory_format=torch.channels_last_3d)
    elif layout == "turned":
        x = x.transpose(2, 4).contiguous().transpose(2, 4)
    elif layout == "expanded":
        x = x[:1].expand(x.shape)
    found = results(layer, x)
    assert is_fused(found[0])
    with_hook = layer.conv.register_forward_hook(lambda *_: None)
    wanted = results(layer, x)
    assert not is_fused(wanted[0])
    with_hook.remove()
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_patches_are_cut_for_who_looks_at_them() -> None:
    layer, x = drawn_layer()
    x.requires_grad_()
    assert is_fused(layer(x))
    seen: list[tuple[int, ...]] = []
    for module in (layer.split, layer.conv):
        for register in (
            lambda hook, to=module: to.register_forward_hook(lambda *call: hook(call[2])),
            lambda hook, to=module: to.register_forward_pre_hook(lambda *call: hook(call[1][0])),
            lambda hook, to=module: to.register_full_backward_hook(lambda *call: hook(call[2][0])),
            lambda hook, to=module: to.register_full_backward_pre_hook(lambda *call: hook(call[1][0])),
        ):
            handle = register(lambda value: seen.append(tuple(value.shape)))
            output = layer(x)
            assert not is_fused(output)
            output.sum().backward()
            handle.remove()
            assert seen.pop()[0] == 3
            assert is_fused(layer(x))
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert not is_fused(layer(x))
    handle.remove()
    layer.conv.forward = lambda patches: 2 * PatchConvolution.forward(layer.conv, patches)
    doubled = layer(x)
    del layer.conv.forward
    torch.testing.assert_close(doubled, 2 * layer(x), rtol=1e-4, atol=1e-4)
    layer.split = nn.Sequential(layer.split)
    assert not is_fused(layer(x))


def test_patches_are_cut_outside_training_and_under_autocast() -> None:
    layer, x = drawn_layer()
    with torch.no_grad():
        assert layer(x).grad_fn is None
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    layer.eval()
    assert not is_fused(layer(x.requires_grad_()))


def test_several_threads_share_a_convolution_of_patches(threads: Callable[[int], None]) -> None:
    layer, x = drawn_layer(padding=1)
    layer, x = layer.double(), x.double()
    alone = results(layer, x)
    threads(2)
    shared = results(layer, x)
    assert (is_fused(alone[0]), is_fused(shared[0])) == (True, False)
    for ours, theirs in zip(shared, alone, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_not_finite_maps_stay_in_their_patch_without_patches_too() -> None:
    layer, x = drawn_layer()
    clean = results(layer, x)
    x[1, 3, 0, 0, 0] = float("nan")
    found = results(layer, x)
    rows = [one[0].reshape(3, layer.n_patches, -1) for one in (found, clean)]
    assert rows[0][1, 0].isnan().any()
    rows[0].data[1, 0] = rows[1].data[1, 0]
    assert torch.equal(*rows)
    assert found[2][:6].isnan().any()
    assert torch.equal(found[2][6:], clean[2][6:])


def test_loops_are_compiled_without_a_folder_to_keep_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.core.caching.CompileResultCacheImpl._locator_classes", [])

    def twice(x: float) -> float:
        return 2 * x

    with pytest.raises(RuntimeError, match="cache"):
        numba.njit(cache=True)(twice)
    assert patch_kernels._compiled(twice)(3.0) == 6
