"""A rank that lives, beats, and does nothing: for the tests of who notices it."""

import os
import time

FIRST = "0"


def hang(rank: int, step: int) -> None:
    """From now on this process, if it is that rank in its first attempt, hangs at that step for an hour."""
    from nomoat.stages import fit

    train = fit.train

    def hanging(session, model, optimizer, schedule, n_steps, compute, extra=None):
        def late(at):
            if (session.mesh.rank, at) == (rank, step) and os.environ["TORCHELASTIC_RESTART_COUNT"] == FIRST:
                time.sleep(3600)
            return compute(at)

        train(session, model, optimizer, schedule, n_steps, late, extra)

    fit.train = hanging
