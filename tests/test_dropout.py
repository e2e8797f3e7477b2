"""Dropout with random numbers of its own."""

import pytest
import torch

from models.blocks import Dropout

ONES = torch.ones(64, 50, 40)


def test_the_same_seed_gives_the_same_masks_in_the_same_order():
    dropout = Dropout(0.3)
    first = [dropout(ONES) for _ in range(3)]
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[1], first[2])
    dropout.reseed(0)
    assert all(torch.equal(dropout(ONES), mask) for mask in first)
    dropout.reseed(1)
    assert not any(torch.equal(dropout(ONES), mask) for mask in first)


def test_it_neither_reads_nor_moves_the_random_numbers_of_the_process():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = Dropout(0.5)(ONES)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(Dropout(0.5)(ONES), one)


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_the_share_asked_for_is_dropped_and_the_rest_makes_up_for_it(probability):
    out = Dropout(probability)(ONES)
    assert abs((out == 0).float().mean() - probability) < 0.01
    torch.testing.assert_close(out[out != 0], torch.full_like(out[out != 0], 1 / (1 - probability)))


def test_whole_rows_go_together():
    out = Dropout(0.5, whole_rows=True)(ONES)
    assert torch.equal(out.amin(2), out.amax(2))
    assert 0.4 < (out[:, :, 0] == 0).float().mean() < 0.6


def test_without_training_nothing_is_dropped():
    assert Dropout(0.5).eval()(ONES) is ONES
    assert Dropout(0.0)(ONES) is ONES
