"""FSDD from any container: verified to the last sample, nothing unsafe read, damage named."""

from __future__ import annotations

import functools
import gzip
import io
import os
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import WRAPPER, data_path, spread, tar_bytes, wav_bytes, zip_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpora import archives, fsdd
from corpora.archives import DataError
from corpora.fsdd import read_verified

PACKERS = {"fsdd.zip": zip_bytes, "fsdd.tar.gz": tar_bytes}
RECORDINGS = WRAPPER + "recordings/"


def packed(members: dict[str, bytes], path: Path) -> Path:
    path.write_bytes(PACKERS[path.name](members))
    return path


def recording(members: dict[str, bytes], name: str) -> np.ndarray:
    return fsdd.decode({f"{name}.wav": members[f"{RECORDINGS}{name}.wav"]})[name]


def test_folder_zip_and_tar_give_the_same_samples(small_release, tmp_path):
    sources = [packed(small_release, tmp_path / name) for name in PACKERS]
    folder = spread(small_release, tmp_path / "unpacked")
    (folder / WRAPPER / "recordings" / ".DS_Store").write_bytes(b"left by a file manager")
    sources += [folder / WRAPPER, folder / WRAPPER / "recordings", folder]
    for source in sources:
        recordings = read_verified(source)
        assert tuple(recordings) == fsdd.NAMES
        assert fsdd.content_digest(recordings) == fsdd.CONTENT_SHA256


def test_recordings_repacked_as_flac_are_the_same_release(small_release, tmp_path):
    flac = {
        name.replace(".wav", ".flac"): wav_bytes(
            recording(small_release, Path(name).stem), kind="FLAC"
        )
        for name in small_release
        if name.endswith(".wav")
    }
    assert len(read_verified(packed(flac, tmp_path / "fsdd.zip"))) == len(flac)


@pytest.mark.parametrize("container", [*PACKERS, "folder"])
def test_missing_stray_and_altered_files_are_named(small_release, tmp_path, container):
    del small_release[RECORDINGS + "0_ada_0.wav"]
    small_release[RECORDINGS + "4_eve_0.wav"] = wav_bytes(np.zeros(100, np.int16))
    small_release[RECORDINGS + "notes.wav"] = b"stray as well"
    altered = recording(small_release, "7_bob_9").copy()
    altered[100] += 1
    small_release[RECORDINGS + "7_bob_9.wav"] = wav_bytes(altered)
    small_release[RECORDINGS + "2_bob_2.wav"] = b"no sound"
    source = (
        spread(small_release, tmp_path / "folder")
        if container == "folder"
        else packed(small_release, tmp_path / container)
    )
    with pytest.raises(DataError) as caught:
        read_verified(source)
    for part in (
        str(source),
        "1 missing (0_ada_0)",
        "2 stray (4_eve_0, notes)",
        "2 altered or unreadable (2_bob_2, 7_bob_9)",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("container", [*PACKERS, "folder"])
def test_files_that_lie_beside_the_recordings_are_ignored(small_release, tmp_path, container):
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._0_ada_0.wav", "0_ada_0.asd", "a.txt"):
        small_release[RECORDINGS + name] = b"left by another program"
    small_release["__MACOSX/" + RECORDINGS + "._0_ada_0.wav"] = b"left by a Mac"
    source = (
        spread(small_release, tmp_path / "folder") / WRAPPER
        if container == "folder"
        else packed(small_release, tmp_path / container)
    )
    assert tuple(read_verified(source)) == fsdd.NAMES


def test_a_windows_zip_with_backslashes_is_read(small_release, tmp_path):
    members = {name.replace("/", "\\"): content for name, content in small_release.items()}
    members[RECORDINGS.replace("/", "\\")] = b""
    source = packed(members, tmp_path / "fsdd.zip")
    assert b"recordings\\0_ada_0.wav" in source.read_bytes()
    assert tuple(read_verified(source)) == fsdd.NAMES
    fsdd.unpack(source, tmp_path / "unpacked")
    assert len(os.listdir(tmp_path / "unpacked" / "recordings")) == len(fsdd.NAMES)


def test_another_sample_rate_and_swapped_files_are_noticed(small_release, tmp_path):
    one, two = RECORDINGS + "1_ada_1.wav", RECORDINGS + "1_ada_2.wav"
    small_release[one], small_release[two] = small_release[two], small_release[one]
    name = RECORDINGS + "5_ada_5.wav"
    small_release[name] = wav_bytes(recording(small_release, "5_ada_5"), rate=16000)
    with pytest.raises(DataError, match=r"3 altered or unreadable \(1_ada_1, 1_ada_2, 5_ada_5\)"):
        read_verified(packed(small_release, tmp_path / "fsdd.zip"))


def test_a_change_that_the_short_digests_miss_is_noticed(small_release, monkeypatch, tmp_path):
    monkeypatch.setattr(fsdd, "CONTENT_SHA256", "0" * 64)
    with pytest.raises(DataError, match="another digest"):
        read_verified(packed(small_release, tmp_path / "fsdd.zip"))


EVIL = [
    "../evil.wav",
    f"{WRAPPER}../../evil.wav",
    "/etc/evil.wav",
    "C:/evil.wav",
    "..\\evil.wav",
    "\\\\server\\evil.wav",
    "C:\\evil.wav",
    f"{RECORDINGS}..\\..\\evil.wav",
]


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("container", PACKERS)
def test_members_that_point_outside_are_refused(small_release, tmp_path, container, name):
    source = packed({**small_release, name: b"evil"}, tmp_path / container)
    with pytest.raises(DataError, match="points outside the archive"):
        fsdd.unpack(source, tmp_path / "data" / "fsdd")
    assert not (tmp_path / "data").exists()
    assert not list(tmp_path.parent.glob("evil*")) and not list(tmp_path.glob("evil*"))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "fsdd.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo(RECORDINGS + "0_ada_0.wav")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(DataError, match="is a link, a device or encrypted"):
        read_verified(tmp_path / "fsdd.tar.gz")


def test_links_in_a_zip_are_refused(tmp_path):
    member = zipfile.ZipInfo(RECORDINGS + "0_ada_0.wav")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "fsdd.zip", "w") as archive:
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(DataError, match="is a link, a device or encrypted"):
        read_verified(tmp_path / "fsdd.zip")


@pytest.mark.parametrize("container", PACKERS)
def test_archives_that_grow_too_large_are_refused_unread(tmp_path, monkeypatch, container):
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 1_000_000)
    source = packed(
        {f"{RECORDINGS}0_ada_{i}.wav": bytes(300_000) for i in range(4)}, tmp_path / container
    )
    assert source.stat().st_size < 20_000
    with pytest.raises(DataError, match="refused, would unpack to more than .* 1 MB"):
        read_verified(source)


def lying_zip(path: Path, size: int, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip whose headers promise 100 bytes where `size` zeros are packed."""
    with (
        zipfile.ZipFile(path, "w", method) as archive,
        archive.open(RECORDINGS + "0_ada_0.wav", "w") as member,
    ):
        for _ in range(size // 1_000_000):
            member.write(bytes(1_000_000))
    content = bytearray(path.read_bytes())
    for header, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.index(header) + place, 100)
    path.write_bytes(content)
    return path


def sparse_tar(path: Path, size: int) -> Path:
    """A tar.gz with a file of holes only, of which each copy promises `size` bytes."""
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as archive:
        for number in range(50):
            member = tarfile.TarInfo(f"{RECORDINGS}{number}_ada_0.wav")
            header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
            header[156:157] = tarfile.GNUTYPE_SPARSE
            header[386:410] = b"%011o\0%011o\0" % (size, 0)
            header[483:495] = b"%011o\0" % size
            header[148:156] = b"        "
            header[148:156] = b"%06o\0 " % sum(header)
            archive.fileobj.write(header)
    return path


def memory_to_refuse(path: Path) -> float:
    """MB of memory at the most while an archive is read that must be refused."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            read_verified(path)
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_whose_headers_lie_is_refused_before_it_fills_the_memory(tmp_path, method):
    path = lying_zip(tmp_path / "fsdd.zip", 200_000_000, method)
    assert path.stat().st_size < 300_000
    assert memory_to_refuse(path) < 20


def test_a_tar_of_holes_is_refused_before_it_fills_the_memory(tmp_path):
    assert memory_to_refuse(sparse_tar(tmp_path / "fsdd.tar.gz", 30_000_000)) < 150


def test_a_zip_with_a_huge_list_of_files_is_refused_before_it_fills_the_memory(tmp_path):
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"x"
    entries = entry * 300_000
    end = b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 0xFFFF, 0xFFFF, len(entries), 0, 0)
    (tmp_path / "fsdd.zip").write_bytes(entries + end)
    assert memory_to_refuse(tmp_path / "fsdd.zip") < 20


def test_a_tar_that_nests_long_names_is_refused(tmp_path):
    header = tarfile.TarInfo("x")
    header.type = tarfile.GNUTYPE_LONGNAME
    with gzip.open(tmp_path / "fsdd.tar.gz", "wb") as stream:
        stream.write(header.tobuf(tarfile.GNU_FORMAT) * 5000)
    with pytest.raises(DataError, match="truncated or damaged"):
        read_verified(tmp_path / "fsdd.tar.gz")


@pytest.mark.parametrize("container", PACKERS)
def test_archives_with_too_many_files_are_refused(tmp_path, monkeypatch, container):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 10)
    source = packed({f"{RECORDINGS}0_ada_{i}.wav": b"" for i in range(11)}, tmp_path / container)
    with pytest.raises(DataError, match="more than 10 files"):
        read_verified(source)


def test_a_member_twice_is_refused(small_release, tmp_path):
    path = packed(small_release, tmp_path / "fsdd.zip")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(RECORDINGS + "0_ada_0.wav", b"another")
    with pytest.raises(DataError, match="0_ada_0.wav' twice"):
        read_verified(path)


@pytest.mark.parametrize("container", PACKERS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_archives_are_named(small_release, tmp_path, container, share):
    path = packed(small_release, tmp_path / container)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=f"{container}: truncated"):
        read_verified(path)


@pytest.mark.parametrize("container", PACKERS)
def test_an_archive_without_recordings_is_told(tmp_path, container):
    source = packed({"README.md": b"nothing else"}, tmp_path / container)
    with pytest.raises(DataError, match="holds no recordings"):
        read_verified(source)


def test_an_empty_or_missing_source_is_told(tmp_path):
    with pytest.raises(DataError, match="no recordings such as"):
        read_verified(tmp_path)
    with pytest.raises(DataError, match="No such file"):
        read_verified(tmp_path / "nowhere.zip")


@functools.cache
def small_archive(container: str) -> bytes:
    """An archive of six recordings; small, so that most changes hit something that matters."""
    random = np.random.default_rng(0)
    members = {f"{RECORDINGS}{i}_ada_0.wav": wav_bytes(random.normal(0, 0.1, 50)) for i in range(6)}
    return PACKERS[container](members)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.sampled_from(list(PACKERS)), st.data())
def test_damaged_bytes_never_raise_anything_else(tmp_path, container, data):
    content = bytearray(small_archive(container))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / container
    path.write_bytes(content)
    with pytest.raises(DataError):  # six recordings aren't the release, damaged or not
        read_verified(path)


def test_unpacking_is_all_or_nothing(small_release, tmp_path, monkeypatch):
    source = packed(small_release, tmp_path / "fsdd.tar.gz")
    with monkeypatch.context() as context:
        context.setattr(os, "rename", _raise_full_disk)
        with pytest.raises(OSError, match="No space left"):
            fsdd.unpack(source, tmp_path / "data" / "fsdd")
    assert os.listdir(tmp_path / "data") == []
    for _ in range(2):  # a second process may have been quicker
        folder = fsdd.unpack(source, tmp_path / "data" / "fsdd")
        assert len(os.listdir(folder / "recordings")) == 200
    assert os.listdir(tmp_path / "data") == ["fsdd"]


def _raise_full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_the_digest_table_holds_every_recording_once():
    table = fsdd.digest_table(fsdd.DIGEST_TABLE)
    assert tuple(sorted(table)) == fsdd.NAMES and len(table) == 3000
    assert all(len(digest) == 6 and int(digest, 16) >= 0 for digest in table.values())


def test_the_real_archive_is_the_release_that_table_and_digest_describe():
    recordings = read_verified(data_path("FSDD_ARCHIVE"))
    assert fsdd.content_digest(recordings) == fsdd.CONTENT_SHA256
    table = fsdd.format_digest_table(recordings)
    assert table == fsdd.DIGEST_TABLE.read_text(encoding="ascii")


def test_one_sample_of_the_real_archive_altered_is_found(tmp_path):
    files = fsdd.read_files(data_path("FSDD_ARCHIVE"))
    samples = fsdd.decode({"6_theo_31.wav": files["6_theo_31.wav"]})["6_theo_31"].copy()
    samples[1234] ^= 1
    files["6_theo_31.wav"] = wav_bytes(samples)
    with pytest.raises(DataError, match=r"v1.0.10: 1 altered or unreadable \(6_theo_31\)\."):
        fsdd.verify(fsdd.decode(files), tmp_path)


def test_wav_bytes_of_16_bits_survive_decoding_exactly():
    samples = np.array([-32768, -1, 0, 1, 32767], np.int16)
    assert np.array_equal(fsdd.decode({"0_ada_0.wav": wav_bytes(samples)})["0_ada_0"], samples)
    assert io.BytesIO(wav_bytes(samples)).getbuffer().nbytes == 44 + 10
