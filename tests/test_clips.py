"""Clips: what goes in comes out, also through a file."""

from __future__ import annotations

import contextlib
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_io import to_int16
from corpora import storage
from corpora.clips import Clips, concatenate

LENGTHS = st.lists(st.integers(0, 20), max_size=12)


def made(lengths: list[int], rate: int = 8000) -> Clips:
    random = np.random.default_rng(len(lengths))
    count = len(lengths)
    waveforms = [random.integers(-32768, 32768, n).astype(np.int16) for n in lengths]
    return Clips.from_waveforms(
        waveforms,
        [i % 11 for i in range(count)],
        [f"speaker {i}" for i in range(count)],
        [f"näme{i}" for i in range(count)],
        range(count),
        "test",
        rate,
    )


@contextlib.contextmanager
def every_set_counts_as_large():
    with mock.patch.object(storage, "COPY_BYTES", -1):
        yield


def assert_same(one: Clips, other: Clips) -> None:
    for name in ("samples", "offsets", "labels", "speakers", "names", "takes", "corpus"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert one.sample_rate == other.sample_rate


@given(LENGTHS, st.data())
def test_a_subset_holds_the_chosen_clips(lengths, data):
    clips = made(lengths)
    index = st.integers(0, max(len(lengths) - 1, 0))
    chosen = data.draw(st.lists(index, max_size=20 if lengths else 0))
    subset = clips.subset(chosen)
    assert subset.names.tolist() == [f"näme{i}" for i in chosen]
    for position, i in enumerate(chosen):
        assert np.array_equal(subset.waveform(position), clips.waveform(i))


@given(LENGTHS, LENGTHS)
def test_joined_sets_can_be_taken_apart_again(one, two):
    joined = concatenate([made(one), made(two)])
    assert_same(joined.subset(range(len(one))), made(one))
    assert_same(joined.subset(np.arange(len(joined)) >= len(one)), made(two))


@given(LENGTHS, LENGTHS, st.data())
def test_what_is_not_copied_reads_like_what_is(one, two, data):
    sets = [made(one), made(two)]
    index = st.integers(0, max(len(one) + len(two) - 1, 0))
    chosen = data.draw(st.lists(index, max_size=20 if one or two else 0))
    copied = concatenate(sets).subset(chosen)
    with every_set_counts_as_large():
        joined = concatenate(sets)
        referred = joined.subset(chosen)
        again = concatenate([referred, joined]).subset(range(len(chosen)))
    assert isinstance(referred.samples, storage.Stretches)
    for clips in (referred, again):
        assert_same(clips, copied)
        for position in range(len(chosen)):
            assert np.array_equal(clips.waveform(position), copied.waveform(position))


def test_a_large_set_stays_in_its_file_and_so_do_its_subsets(tmp_path):
    clips = made([3000, 0, 4000], 16000)
    clips.save(tmp_path / "set.npz", "key")
    with every_set_counts_as_large():
        loaded = Clips.load(tmp_path / "set.npz", "key")
        subset = loaded.subset([2, 0])
    assert isinstance(loaded.samples.base, np.memmap)
    assert np.shares_memory(subset.samples.sources[0], loaded.samples)
    assert_same(loaded, clips)
    assert_same(subset, clips.subset([2, 0]))
    storage.release(subset.samples)  # what is read again comes from the file again
    assert_same(subset, clips.subset([2, 0]))


def test_a_large_set_that_is_damaged_is_not_loaded(tmp_path):
    path = tmp_path / "set.npz"
    made([3000, 4000]).save(path, "key")
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    for damaged in (content, content[:-1], content[:9000], b""):
        path.write_bytes(damaged)
        with every_set_counts_as_large():
            assert Clips.load(path, "key") is None


@given(st.lists(st.floats(-1, 1), max_size=20))
def test_floats_come_back_within_one_step(values):
    waveform = np.array(values, np.float32)
    clips = Clips.from_waveforms([waveform], [3], ["a"], ["b"], [0], "c", 8000)
    back = clips.waveform(0)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, waveform, atol=1 / 32768)
    assert np.array_equal(to_int16(back), clips.samples)


def test_saved_and_loaded_is_the_same_and_other_keys_are_refused(tmp_path):
    clips = made([3, 0, 7], 16000)
    clips.save(tmp_path / "set.npz", "made of this")
    assert_same(Clips.load(tmp_path / "set.npz", "made of this"), clips)
    assert Clips.load(tmp_path / "set.npz", "made of that") is None
    assert Clips.load(tmp_path / "missing.npz", "made of this") is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_not_loaded(tmp_path, share):
    path = tmp_path / "set.npz"
    made([3000, 4000]).save(path, "key")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert Clips.load(path, "key") is None


def test_a_changed_byte_is_noticed(tmp_path):
    path = tmp_path / "set.npz"
    made([3000, 4000]).save(path, "key")
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    assert Clips.load(path, "key") is None


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="one sample rate"):
        concatenate([made([1], 8000), made([1], 16000)])
    with pytest.raises(ValueError, match="needs a digit, speaker"):
        Clips.from_waveforms([np.zeros(3)], [1, 2], ["a"], ["b"], [0], "c", 8000)
    with pytest.raises(ValueError, match="don't span"):
        Clips(np.zeros(5), [0, 4], [1], ["a"], ["b"], [0], ["c"], 8000)
    with pytest.raises(IndexError):
        made([1, 2]).waveform(2)
