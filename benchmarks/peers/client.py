"""The benchmark's side of a worker: a process that is started once, kept warm and asked for timings."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from peers.environments import PeerFailure

SHARED = Path(__file__).parent
"""Where workers find ``serving``."""
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    "VIPS_CONCURRENCY",
)


class Worker:
    """A peer's worker process, as a context manager.

    Parameters
    ----------
    script : Path
        ``serve_<name>.py`` of the peer; it is run with ``serving`` and its own folder to import from.
    python : Path
        Python of the peer's environment.
    threads : int
        Threads of every library, and cores that the process is bound to where the platform can bind.
    timeout_s : float
        A request that takes longer ends the worker.
    memory_gib : float or None
        Address space the worker may take, so that a peer that asks for too much fails alone.
    arguments : sequence of str
        Further arguments of the script.
    environment : mapping
        Further environment variables.
    """

    def __init__(
        self,
        script: Path,
        python: Path,
        *,
        threads: int,
        timeout_s: float,
        memory_gib: float | None = None,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = script.stem.removeprefix("serve_")
        self._timeout_s = timeout_s
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._process = subprocess.Popen(
            [str(python), str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=os.environ | {"PYTHONPATH": str(SHARED)} | dict.fromkeys(THREAD_VARIABLES, str(threads)) | dict(environment or {}),
            preexec_fn=(lambda: _limit(threads, memory_gib)) if sys.platform == "linux" else None,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def ask(self, **request: object) -> dict[str, object]:
        """Send a request and return its answer.

        Raises
        ------
        PeerFailure
            If the peer raised, ended, or took longer than the time limit.
        """
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=self._timeout_s)
        except queue.Empty:
            self.close(kill=True)
            raise PeerFailure(f"{self.name} must answer within {self._timeout_s:.0f} s; it did not and was ended") from None
        except BrokenPipeError:
            line = None
        if line is None:
            raise PeerFailure(f"{self.name} must stay alive; its process ended with status {self._process.wait()}: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerFailure(f"{self.name} raised {answer['error']}")
        return answer

    def _last_words(self) -> str:
        self._said.seek(0)
        return self._said.read().decode(errors="replace").strip().rpartition("\n")[2]

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def close(self, *, kill: bool = False) -> None:
        """End the process."""
        if kill:
            self._process.kill()
        else:
            self._process.stdin.close()
        self._process.wait()
        self._said.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close(kill=True)


def _limit(threads: int, memory_gib: float | None) -> None:
    import resource

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if memory_gib is not None:
        limit = int(memory_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
