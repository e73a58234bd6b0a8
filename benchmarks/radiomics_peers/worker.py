"""The benchmark's side of a worker that measures cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from peers.client import Worker

from radiomics_peers.cases import Case


class RadiomicsWorker(Worker):
    """Worker of a peer of radiomics; parameters as in :class:`peers.client.Worker` but for the peer's name in place of its script."""

    def __init__(self, name: str, python: Path, **options: object) -> None:
        super().__init__(Path(__file__).parent / f"serve_{name}.py", python, **options)

    def load(self, case: Case) -> dict[str, object]:
        """Have the worker read a case."""
        return self.ask(do="load", case=case.name, image=str(case.image), mask=str(case.mask), quantity=case.quantity)

    def run(self, case: Case, kind: str, features: Sequence[str], *, values: bool = False) -> dict[str, object]:
        """Have the worker measure the loaded case; the answer holds its seconds, the number of features and its peak memory."""
        return self.ask(do="run", case=case.name, kind=kind, features=list(features), values=values)
