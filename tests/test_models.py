"""Shapes, budgets and invariants of the networks."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from untrained import checkpoint

import config
from audio_feature_extraction import FrontEnd
from models import counting, registry
from recognition.checkpoint import load_checkpoint, save_checkpoint
from speech_encoder import SpeechEncoder

FEATURES, FRAMES = 56, 101
NAMES = sorted(registry.REGISTRY)
PARAMETERS = {
    "bcresnet": (10_000, 50_000),
    "cnn": (50_000, 500_000),
    "efficient": (50_000, 500_000),
    "image_cnn": (100_000, 1_000_000),
    "lightweight": (20_000, 100_000),
    "mlp": (100_000, 500_000),
    "resnet": (2_200_000, 2_800_000),
    "rnn": (50_000, 500_000),
    "transformer": (100_000, 600_000),
}
"""Parameters at least and at most with log-mel bands."""
MULTIPLY_ADDS = {
    "bcresnet": 12e6,
    "cnn": 25e6,
    "efficient": 15e6,
    "image_cnn": 40e6,
    "lightweight": 3e6,
    "mlp": 1e6,
    "resnet": 150e6,
    "rnn": 25e6,
    "transformer": 30e6,
}
"""Multiply-adds a clip at most with log-mel bands."""
KINDS = {"log_mel": (56, 101), "mfcc": (60, 101), "spectrogram": (257, 101), "encoder": (384, 25)}
"""Rows and frames of a clip of one second at 16 kHz."""


def make(name: str, kind: str = "log_mel"):
    torch.manual_seed(0)
    arguments = registry.model_arguments(name, config.ModelSettings(), kind)
    return registry.create_model(name, KINDS[kind][0], **arguments).eval()


def takes(name: str, kind: str) -> bool:
    return kind != "encoder" or name in registry.FOR_ENCODER


@pytest.mark.parametrize("name", NAMES)
def test_budget(name):
    network = make(name)
    low, high = PARAMETERS[name]
    assert low <= counting.count_parameters(network) <= high
    assert counting.count_multiply_adds(network, FEATURES, FRAMES) <= MULTIPLY_ADDS[name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_front_end_goes_into_every_network_that_can_take_it(name, kind):
    if not takes(name, kind):
        with pytest.raises(config.UserError, match=f"{name} can't take features.kind encoder"):
            make(name, kind)
        return
    assert make(name, kind)(torch.randn(3, *KINDS[kind])).shape == (3, config.N_CLASSES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [13, 40, 129])
@pytest.mark.parametrize("frames", [26, 150])
def test_features_of_any_size_give_eleven_logits(name, rows, frames):
    network = registry.create_model(name, rows).eval()
    assert network(torch.randn(3, rows, frames)).shape == (3, config.N_ANSWERS)


@pytest.mark.parametrize("name", NAMES)
def test_clips_of_a_batch_do_not_touch_each_other(name):
    network, batch = make(name), torch.randn(4, FEATURES, FRAMES)
    torch.testing.assert_close(network(batch)[2:3], network(batch[2:3]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_silence_gives_finite_logits(name):
    assert torch.isfinite(make(name)(torch.zeros(2, FEATURES, FRAMES))).all()


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, "log_mel") for name in NAMES] + [(name, "encoder") for name in registry.FOR_ENCODER],
)
def test_every_parameter_learns(name, kind):
    network = make(name, kind).train()
    network(torch.randn(8, *KINDS[kind])).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_learn_a_small_batch(name):
    network = make(name)
    features, targets = torch.randn(8, FEATURES, FRAMES), torch.arange(8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(15):
        loss = F.cross_entropy(network.train()(features), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.6 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_comes_back_with_the_same_answers(name, tmp_path):
    kind = {"mlp": "mfcc", "image_cnn": "spectrogram"}.get(name, "log_mel")
    features = config.FeaturesSettings(kind=kind)
    arguments = registry.model_arguments(name, config.ModelSettings(), kind)
    rows = FrontEnd(features, config.AudioSettings().sample_rate).n_features
    network = registry.create_model(name, rows, **arguments).eval()
    made = dataclasses.replace(
        checkpoint("cnn"),
        name=name,
        arguments=arguments,
        weights=network.state_dict(),
        audio=config.AudioSettings(),
        features=features,
    )
    save_checkpoint(tmp_path / "network.pt", made)
    _, again = load_checkpoint(tmp_path / "network.pt").network()
    clips = torch.randn(2, rows, FRAMES)
    torch.testing.assert_close(again(clips), network(clips), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in NAMES if name != "rnn" for kind in KINDS if takes(name, kind)],
)
def test_multiply_adds_are_those_that_pytorch_counts(name, kind):
    network, (rows, frames) = make(name, kind), KINDS[kind]
    fused_attention_is_not_counted = sdpa_kernel(SDPBackend.MATH)
    with torch.no_grad(), fused_attention_is_not_counted, FlopCounterMode(display=False) as flops:
        network(torch.zeros(1, rows, frames))
    assert counting.count_multiply_adds(network, rows, frames) == flops.get_total_flops() / 2


def test_multiply_adds_of_the_lstm():
    network = make("rnn", "encoder")
    width, frames = config.ModelSettings().rnn_width, 25
    gates = 2 * 4 * width * (width + width) + 2 * 4 * width * (2 * width + width)
    others = frames * 384 * width + frames * 2 * width + 4 * width * config.N_CLASSES
    assert counting.count_multiply_adds(network, 384, frames) == frames * gates + others


def test_multiply_adds_of_the_speech_encoder_hold_its_attention():
    encoder = SpeechEncoder(layers=2, width=64)
    fused_attention_is_not_counted = sdpa_kernel(SDPBackend.MATH)
    with torch.no_grad(), fused_attention_is_not_counted, FlopCounterMode(display=False) as flops:
        encoder(torch.zeros(1, 80, 100))
    assert counting.count_multiply_adds(encoder, 80, 100) == flops.get_total_flops() / 2


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
    with pytest.raises(config.UserError, match="there are bcresnet, cnn, digit_ctc, eff"):
        registry.create_model("nosuch", FEATURES)


def test_names_beside_those_of_networks():
    assert registry.network_names(("all",)) == tuple(NAMES)
    assert registry.network_names(("rnn", "ensemble", "cnn", "rnn")) == ("rnn", "cnn")
    with pytest.raises(config.UserError, match="no model named 'resnte'"):
        registry.network_names(("cnn", "resnte"))


def test_the_transformer_tells_times_apart():
    network, clip = make("transformer"), torch.randn(1, FEATURES, FRAMES)
    assert not torch.allclose(network(clip), network(clip.flip(2)), atol=1e-3)


def test_transformer_width_is_checked():
    with pytest.raises(config.UserError, match="multiple of 8"):
        config.ModelSettings(transformer_width=90)


def test_the_picture_has_a_logarithmic_frequency_axis():
    network = make("image_cnn", "spectrogram")
    tone = torch.zeros(2, 257, FRAMES)
    tone[0, 32], tone[1, 64] = 1.0, 1.0
    pictures = network.image(tone)
    rows = pictures[:, 0].mean(dim=2).argmax(dim=1)
    assert pictures.shape == (2, 1, 100, 100)
    assert (pictures.amin(), pictures.amax()) == (0, 1)
    octave = 99 / torch.log2(torch.tensor(256 / 2.0))
    assert abs((rows[1] - rows[0]) - octave) <= 1


def test_frames_of_an_encoder_go_into_the_lstm_as_they_are():
    arguments = registry.model_arguments("rnn", config.ModelSettings(rnn_width=16), "encoder")
    network = registry.create_model("rnn", 384, **arguments)
    assert network.lstm.input_size == 16
    assert tuple(network.project.weight.shape) == (16, 384)
    seen: list[int] = []
    network.lstm.register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].shape[1])
    )
    network(torch.randn(2, 384, 25))
    assert seen == [25]
