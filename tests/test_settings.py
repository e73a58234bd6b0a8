"""Settings refuse what would fail far from where it was written."""

import pytest

from idx.errors import IdxError
from idx.settings import Settings, current_settings, resolve_device, use_settings


def test_a_name_that_is_no_device_is_refused_with_the_remedy():
    with pytest.raises(IdxError, match=r"device must be a torch device; got 'gpu'.*'cuda'"):
        resolve_device("gpu")


def test_no_workers_are_refused():
    with pytest.raises(IdxError, match="workers must be at least 1; got 0"):
        Settings(workers=0)


def test_settings_end_with_their_block(tmp_path):
    before = current_settings()
    with use_settings(seed=7, cache_dir=str(tmp_path)) as inside:
        assert current_settings() is inside
        assert (inside.seed, inside.cache_dir) == (7, tmp_path)
    assert current_settings() is before


def test_an_unknown_setting_is_refused():
    with pytest.raises(TypeError, match="sed"), use_settings(sed=7):
        pass
