"""The environment's builder: built once, rebuilt when its packages change, never half, never on a full disk. pip is stood in for."""

import shutil
import subprocess
from collections import namedtuple

import pytest
from peer_tiatoolbox import environment


@pytest.fixture
def builds(monkeypatch):
    """Arguments of every call of pip, none of which is made; the disk is empty."""
    calls = []
    monkeypatch.setattr(environment, "_pip", lambda place, *arguments: calls.append(arguments))
    monkeypatch.setattr(environment.venv, "create", lambda place, with_pip: (place.mkdir(parents=True), (place / "pyvenv.cfg").touch()))
    _free(monkeypatch, 100e9)
    return calls


def _free(monkeypatch, size):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, size))


def test_builds_once(builds, tmp_path):
    environment.ready(tmp_path / "env")
    assert ("--no-deps", environment.TIATOOLBOX) in builds
    assert builds[-1][-1].endswith("[test]")
    first = list(builds)
    environment.ready(tmp_path / "env")
    assert builds == first


def test_other_packages_build_anew(builds, tmp_path, monkeypatch):
    environment.ready(tmp_path / "env")
    (tmp_path / "env" / "old").touch()
    monkeypatch.setattr(environment, "TIATOOLBOX", "tiatoolbox==9.9")
    environment.ready(tmp_path / "env")
    assert ("--no-deps", "tiatoolbox==9.9") in builds
    assert not (tmp_path / "env" / "old").exists()


def test_another_checkout_only_installs_idx_again(builds, tmp_path, monkeypatch):
    environment.ready(tmp_path / "env")
    before = len(builds)
    monkeypatch.setattr(environment, "checkout_key", lambda: "elsewhere")
    environment.ready(tmp_path / "env")
    assert [arguments[-2] for arguments in builds[before:]] == ["-e"]


@pytest.mark.parametrize("stop", [subprocess.CalledProcessError(1, "pip"), KeyboardInterrupt()])
def test_nothing_half_built_stays(builds, tmp_path, monkeypatch, stop):
    def fail(place, *arguments):
        (place / "half").touch()
        raise stop

    monkeypatch.setattr(environment, "_pip", fail)
    with pytest.raises(type(stop)):
        environment.ready(tmp_path / "env")
    assert not (tmp_path / "env").exists()


def test_half_built_without_a_stamp_is_removed(builds, tmp_path):
    (tmp_path / "env").mkdir()
    for name in ("pyvenv.cfg", "half"):
        (tmp_path / "env" / name).touch()
    environment.ready(tmp_path / "env")
    assert not (tmp_path / "env" / "half").exists()


def test_a_full_disk_is_refused(builds, tmp_path, monkeypatch):
    _free(monkeypatch, 8.9e9)
    with pytest.raises(SystemExit, match=r"9 GB free.*got 8\.9 GB.*IDX_TIATOOLBOX_VENV"):
        environment.ready(tmp_path / "deep" / "env")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_other_things_is_left_alone(builds, tmp_path):
    (tmp_path / "precious").touch()
    with pytest.raises(SystemExit, match="holds other things"):
        environment.ready(tmp_path)
    assert (tmp_path / "precious").exists()
    assert not builds
