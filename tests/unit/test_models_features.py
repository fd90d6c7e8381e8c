from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from bids_xai.errors import InputError
from bids_xai.models.features import penultimate_features
from bids_xai.models.threads import torch_threads


def test_features_are_the_input_of_the_last_dense_layer(rng: np.random.Generator) -> None:
    network = nn.Sequential(
        nn.Conv3d(1, 2, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 5),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(5, 3),
    )
    volumes = rng.normal(size=(7, 4, 4, 4)).astype(np.float32)
    found = penultimate_features(network, volumes, batch_size=3)
    with torch.no_grad():
        expected = network[:5](torch.from_numpy(volumes)[:, None]).numpy()
    assert found == pytest.approx(expected, abs=1e-6)
    assert network.training, "the mode is as it was"
    assert not network[6]._forward_pre_hooks


def test_without_a_dense_layer_it_is_the_last_convolution() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Conv3d(2, 4, 1), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    assert penultimate_features(network, np.ones((2, 4, 4, 4), np.float32)).shape == (2, 16)
    with pytest.raises(InputError, match="no Linear and no Conv3d"):
        penultimate_features(nn.Sequential(nn.Flatten()), np.ones((2, 4, 4, 4), np.float32))


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


# In a process of its own: what a busy one has kept already is used first.
_KEPT = """
import numpy as np, psutil
from bids_xai.models.memory import memory_kept

def resident():
    return psutil.Process().memory_info().rss >> 20

before = resident()
with memory_kept():
    with memory_kept():
        own = np.ones(64 << 20, np.uint8)
        del own
    kept = resident() - before
    again = np.ones(64 << 20, np.uint8)
    used = resident() - before
    del again
print(kept, used, resident() - before)
"""


def test_memory_is_kept_within_blocks_and_given_back_after() -> None:
    done = subprocess.run([sys.executable, "-c", _KEPT], capture_output=True, text=True, check=True)
    kept, used, after = map(int, done.stdout.split())
    assert kept > 56, "freed, but kept"
    assert used < kept + 8, "the same memory is used again"
    assert after < 16
