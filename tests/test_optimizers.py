"""Muon's step is orthogonal and as large as AdamW's; each weight has one optimizer."""

import pytest
import torch
from torch import nn

import config
from models import registry
from training import optimizers


@pytest.mark.parametrize("shape", [(16, 48), (64, 320), (256, 64)])
def test_orthogonal_evens_out_the_singular_values(shape):
    matrix = torch.randn(shape, generator=torch.manual_seed(0))
    matrix[:, 0] *= 20
    values = torch.linalg.svdvals(optimizers.orthogonal(matrix))
    assert values.min() > 0.5 and values.max() < 1.3


def test_orthogonal_keeps_the_directions():
    matrix = torch.randn(32, 48, generator=torch.manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    nearest = left @ right
    cosine = (optimizers.orthogonal(matrix) * nearest).sum() / 32
    assert 0.8 < cosine < 1.2


def test_the_size_of_a_step_does_not_depend_on_the_gradient():
    steps = []
    for scale in (1e-3, 1e3):
        weight = nn.Parameter(torch.zeros(64, 32, 3, 3))
        weight.grad = torch.randn(64, 32, 3, 3, generator=torch.manual_seed(0)) * scale
        optimizers.Muon([weight], lr=0.01, weight_decay=0.0).step()
        steps.append(weight.detach())
    assert torch.allclose(steps[0], steps[1], rtol=1e-3, atol=1e-7)
    assert 0.5 < steps[0].square().mean().sqrt() / (0.01 * optimizers.ADAMW_STEP) < 1.5


def test_weight_decay_shrinks_what_has_no_gradient_to_follow():
    weight = nn.Parameter(torch.ones(16, 16))
    weight.grad = torch.zeros(16, 16)
    optimizers.Muon([weight], lr=0.1, weight_decay=0.5).step()
    assert torch.allclose(weight, torch.full((16, 16), 0.95))


@pytest.mark.parametrize("name", ["cnn", "rnn"])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_every_weight_belongs_to_one_optimizer(name, optimizer):
    settings = config.TrainingSettings(optimizer=optimizer)
    network = registry.create_model(name, 40)
    made = optimizers.make_optimizers(network, settings)
    owned = [
        id(weight) for item in made for group in item.param_groups for weight in group["params"]
    ]
    assert sorted(owned) == sorted(id(weight) for weight in network.parameters())
    assert [type(item).__name__ for item in made] == ["AdamW", "Muon"][: len(made)]
    assert len(made) == (2 if optimizer == "muon" else 1)
