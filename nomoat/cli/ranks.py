"""`nomoat ranks`: a verb on several ranks, as torchrun starts and restarts them, but from a warm process.

torchrun starts every rank as a program, which imports torch for seconds.  Here torchelastic's own forkserver
has imported all once, and each rank is forked from it: a restart takes tenths of a second.
"""

import multiprocessing
import os
import signal
import threading
import uuid
from argparse import Namespace
from collections.abc import Sequence
from multiprocessing.connection import wait

from nomoat.cli import say
from nomoat.run.stop import end
from nomoat.stages.recipe import KINDS

WARM = (
    "torch.distributed.fsdp",
    "nomoat.cli.main",
    "nomoat.cli.work",
    "nomoat.plan.budget",
    "nomoat.plan.choice",
    "nomoat.plan.probe",
    "nomoat.report.progress",
    "nomoat.stages.pipeline",
)
STAGES = [f"nomoat.stages.{name}" for name in KINDS.values()]
FAILED, AGAIN = 1, 75


def start(argv: Sequence[str]) -> int:
    """Runs `[torchrun's options] VERB …` on its ranks; the exit code of what they did.

    A rank that dies is started again with the others, `--max-restarts` times; one that ends with a code of
    its own, as all others do, is not: a recipe that is wrong once is wrong again.
    """
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    args = torchrun.parse_args(["--start-method", "forkserver", *argv])
    config, _, _ = torchrun.config_from_args(_standalone(args))
    multiprocessing.set_forkserver_preload([*WARM, *STAGES])
    try:
        codes = elastic_launch(config, rank)(args.training_script, *args.training_script_args)
    except SignalException:
        return AGAIN
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        say.aside(f"nomoat: rank {number} ended with {failure.exitcode} after {config.max_restarts} restarts")
        return FAILED
    return max(code or 0 for code in codes.values())


def _standalone(args: Namespace) -> Namespace:
    """With torchrun's defaults for one machine."""
    alone = args.nnodes in ("1", "1:1") and args.rdzv_backend == "static" and not args.rdzv_endpoint
    if args.standalone or (alone and args.master_port is None):
        args.rdzv_backend, args.rdzv_endpoint, args.rdzv_id = "c10d", "localhost:0", str(uuid.uuid4())
    args.master_port = args.master_port or 29500
    return args


def rank(*argv: str) -> int:
    """What a rank does; its exit code."""
    from nomoat.cli.main import main

    os.setsid()
    signal.signal(signal.SIGTERM, end)
    over = threading.Event()
    threading.Thread(target=_end_with_launcher, args=(over,), daemon=True).start()
    try:
        return main(argv)
    finally:
        over.set()


def _end_with_launcher(over: threading.Event) -> None:
    wait([multiprocessing.parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    over.wait()
    os._exit(AGAIN)
