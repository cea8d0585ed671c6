"""The frozen policy that the KL divergence is measured to."""

from collections.abc import Callable
from pathlib import Path

import torch

from nomoat.files import writing
from nomoat.model.transformer import Transformer
from nomoat.parallel.fsdp import fill
from nomoat.train import checkpoint

KEPT = 3  # references on disk: a resumed run may go back a few steps


class Reference:
    """The model that `load` gives, or the policy of the last `refresh`-th step.

    A refreshed one is kept in `directory`, by the rank that `writes`, so that a resumed run measures to the
    same one.  Where it is not `kept`, it takes memory only while it is asked, and is loaded again each time.
    """

    def __init__(
        self,
        load: Callable[[], Transformer],
        refresh: int | None,
        directory: Path,
        *,
        writes: bool,
        kept: bool = True,
    ):
        self.load = load
        self.model = load().requires_grad_(False) if kept else None
        self.refresh, self.since = refresh, 0
        self.directory, self.writes = directory, writes

    @torch.no_grad()
    def at(self, step: int, policy: Transformer) -> Transformer:
        """As of this step."""
        if self.model is None:
            return self.load().requires_grad_(False)
        due = step // self.refresh * self.refresh if self.refresh else 0
        if due != self.since:
            path = self.directory / f"step_{due:06d}"
            is_new = due == step or not path.exists()  # a rollback may have passed over the step itself
            source = dict(policy.named_parameters()) if is_new else checkpoint.load(path)[0]["model"]
            for name, parameter in self.model.named_parameters():
                fill(parameter, source[name])
            if is_new and self.writes:
                with writing(path):
                    checkpoint.save(self.directory, due, {"model": source}, {}, keep=KEPT)
            self.since = due
        return self.model
