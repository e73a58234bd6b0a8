from types import SimpleNamespace

import pytest

import idx
from idx import _progress as progress


@pytest.mark.parametrize(("patience_s", "wanted", "shown"), [(0.0, True, True), (60.0, True, False), (0.0, False, False)])
def test_bar_appears_only_for_long_work_and_when_wanted(monkeypatch, capsys, patience_s, wanted, shown):
    monkeypatch.setattr(progress, "PATIENCE_S", patience_s)
    # Only this module's clock: rich keeps the function that it finds in time.
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=iter(range(100)).__next__))
    started = []
    import rich.progress

    real = rich.progress.Progress

    class Spy(real):
        def start(self):
            started.append(True)
            super().start()

    monkeypatch.setattr(rich.progress, "Progress", Spy)
    with idx.use_settings(progress=wanted):
        assert list(progress.track("abcd", total=4, description="Reading")) == list("abcd")
    assert bool(started) is shown


def test_error_passes_through():
    def work():
        yield 1
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(progress.track(work(), total=2, description="Reading"))
