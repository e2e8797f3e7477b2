"""Shapes, budgets and invariants of the networks."""

import pytest
import torch

import config
from models import counting, registry

FEATURES, FRAMES = 40, 101


def make(name: str):
    torch.manual_seed(0)
    arguments = registry.model_arguments(name, config.ModelSettings())
    return registry.create_model(name, FEATURES, **arguments).eval()


@pytest.mark.parametrize("name", sorted(registry.REGISTRY))
def test_budget(name):
    network = make(name)
    assert counting.count_parameters(network) <= 500_000
    assert counting.count_multiply_adds(network, FEATURES, FRAMES) <= 25_000_000


@pytest.mark.parametrize("name", sorted(registry.REGISTRY))
@pytest.mark.parametrize("rows", [13, 40, 60, 129])
@pytest.mark.parametrize("frames", [26, 101, 150])
def test_features_of_any_size_give_eleven_logits(name, rows, frames):
    network = registry.create_model(name, rows).eval()
    assert network(torch.randn(3, rows, frames)).shape == (3, config.N_CLASSES)


@pytest.mark.parametrize("name", sorted(registry.REGISTRY))
def test_clips_of_a_batch_do_not_touch_each_other(name):
    network, batch = make(name), torch.randn(4, FEATURES, FRAMES)
    torch.testing.assert_close(network(batch)[2:3], network(batch[2:3]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(registry.REGISTRY))
def test_every_parameter_learns(name):
    network = make(name).train()
    network(torch.randn(8, FEATURES, FRAMES)).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_multiply_adds_of_a_known_network():
    class Known(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Conv1d(4, 5, 3), torch.nn.Linear(6, 7))

        def forward(self, x):
            return self.layers(x)

    # convolution: 6 places x 5 outputs x 4 inputs x 3 taps; linear: 5 rows x 6 x 7
    assert counting.count_multiply_adds(Known(), 4, 8) == 6 * 5 * 4 * 3 + 5 * 6 * 7


def test_unknown_name_lists_the_known():
    with pytest.raises(config.UserError, match="there are cnn, rnn"):
        registry.create_model("nosuch", FEATURES)


def test_frames_of_an_encoder_go_into_the_lstm_as_they_are():
    arguments = registry.model_arguments("rnn", config.ModelSettings(rnn_width=16), "encoder")
    network = registry.create_model("rnn", 384, **arguments)
    assert network.lstm.input_size == 16
    assert tuple(network.project.weight.shape) == (16, 384)
    assert network.eval()(torch.randn(2, 384, 25)).shape == (2, config.N_CLASSES)
    seen: list[int] = []
    network.lstm.register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].shape[1])
    )
    network(torch.randn(2, 384, 25))
    assert seen == [25]
