"""`nomoat ranks`: a verb on several ranks, with torchrun's options and engine, but from a warm process.

torchrun starts each rank as a program, which imports torch anew.  Here the ranks are forked from a process
that has imported all once (torchelastic's start method `forkserver`): a restart takes tenths of a second.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
import uuid
from argparse import Namespace
from collections.abc import Callable, MutableSequence, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from nomoat.cli import say
from nomoat.cli.main import AGAIN, main, verbs
from nomoat.config import ConfigError, UserError, look_up
from nomoat.run.stop import Ended, end

if TYPE_CHECKING:
    from torch.distributed.launcher.api import LaunchConfig

WARM = (  # what a rank imports on its way to the first step
    "torch.distributed.fsdp",
    "nomoat.cli.main",
    "nomoat.cli.work",
    "nomoat.parallel.faults",
    "nomoat.plan.budget",
    "nomoat.plan.choice",
    "nomoat.report.progress",
    "nomoat.stages.pipeline",
    "nomoat.stages.s0_import",
    "nomoat.stages.s1_tokenizer",
    "nomoat.stages.s2_pretrain",
    "nomoat.stages.s3_extend",
    "nomoat.stages.s4_sft",
    "nomoat.stages.s5_rl",
    "nomoat.stages.s5_reject",
    "nomoat.stages.s6_distill",
    "nomoat.stages.s7_eval",
    "nomoat.stages.s8_export",
)
FAILED, WRONG = 1, 2
NOT_BEGUN = -1
IN_USE = "EADDRINUSE"
WAITS_SECONDS = 20.0  # for other launchers, before it is said
ENDS_SECONDS = 2.0  # for all ranks to end, and then for a launcher that still listens


def start(argv: Sequence[str], before: Callable[[], object] | None = None) -> int:
    """Runs `[torchrun's options] VERB …` on its ranks; gives the exit code of what they did.

    A rank that dies is started again with the others, `--max-restarts` times.  Where all end with a code of
    their own, a wrong recipe or a budget that is spent, none is.  `before` is called first in each rank.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # where nodes may come back: a new one each time
    multiprocessing.set_forkserver_preload([*WARM])
    forkserver.ensure_running()  # it imports while this process does
    from torch.distributed import DistNetworkError
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError
    from torch.distributed.launcher.api import elastic_launch

    _speak_plainly()
    try:
        config, words = asked(argv)
        n = config.nproc_per_node
        ends = multiprocessing.get_context("forkserver").RawArray("i", [NOT_BEGUN] * n)
        waits = threading.Timer(WAITS_SECONDS, _tell_wait, (config, ends))
        waits.daemon = True
        waits.start()
        codes = elastic_launch(config, rank)(words, before, ends)
    except UserError as error:
        say.aside(f"nomoat: {error}")
        return WRONG
    except SignalException:
        return AGAIN
    except (DistNetworkError, RendezvousError) as error:
        say.aside(f"nomoat: {_unmet(config, error)}")
        return WRONG if IN_USE in str(error) else FAILED
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        n = config.max_restarts
        say.aside(f"nomoat: rank {number} ended with {failure.exitcode}, after {n} restarts (--max-restarts)")
        return FAILED
    return max(code or 0 for code in codes.values())


def asked(argv: Sequence[str]) -> "tuple[LaunchConfig, list[str]]":
    """What torchelastic is told, and the words of the verb.  UserError for what neither knows."""
    from torch.distributed import run as torchrun

    args = torchrun.parse_args(["--start-method", "forkserver", *argv])
    look_up(args.training_script, verbs(), f"no verb `{args.training_script}` to run on ranks")
    try:
        config, _, _ = torchrun.config_from_args(_alone(args))
    except (AssertionError, ValueError) as error:
        raise ConfigError(f"nomoat ranks: {error}; expected torchrun's options; see --help") from None
    if config.nproc_per_node < 1:
        raise ConfigError(f"--nproc-per-node {args.nproc_per_node}; expected one rank or more; raise it")
    return config, [args.training_script, *args.training_script_args]


def _tell_wait(config: "LaunchConfig", ends: Sequence[int]) -> None:
    """Says whom it waits for, where no rank has begun yet."""
    if all(end == NOT_BEGUN for end in ends):
        say.aside(
            f"nomoat: waits at {config.rdzv_endpoint} for {config.min_nodes} machines; start the same "
            "command on each; the first has to answer at this port, and no other program"
        )


def _unmet(config: "LaunchConfig", error: Exception) -> str:
    """Why launchers don't meet, or no more."""
    said = str(error).partition("\n")[0]
    if IN_USE in said:
        return f"{config.rdzv_endpoint} is in use on this machine; expected a free port; name another"
    return (
        f"launchers do not meet at {config.rdzv_endpoint} ({said}); expected the first machine, a port that "
        "no other program has, and as many launchers as --nnodes says; look there, then run the same command"
    )


def _speak_plainly() -> None:
    """torchelastic's words without torch's prefixes, whose maker imports a compiler at the first failure."""
    for name in ("torch.distributed.elastic", "torch.multiprocessing"):
        log = logging.getLogger(name)
        log.addHandler(logging.StreamHandler())
        log.propagate = False


def _alone(args: Namespace) -> Namespace:
    """With what one machine needs: a free port each time, and a launcher that meets itself in a file, so that
    no cut network can keep it waiting."""
    static = args.rdzv_backend == "static" and not args.rdzv_endpoint and args.master_port is None
    if args.standalone or (static and args.nnodes in ("1", "1:1")):
        os.environ["TORCH_ELASTIC_WORKER_IDENTICAL"] = "1"
        args.rdzv_backend, args.rdzv_endpoint, args.rdzv_id = "c10d", "", str(uuid.uuid4())
        args.rdzv_conf = "store_type=file"
        del args.master_addr  # torchrun warns that it has no use
    args.master_port = args.master_port or 29500
    return args


def rank(argv: Sequence[str], before: Callable[[], object] | None, ends: MutableSequence[int]) -> int:
    """What each rank does; its exit code.  Leaves with it where not all of this machine end so: a fault."""
    from nomoat.parallel import faults, mesh

    os.setsid()  # Ctrl-C reaches it through the launcher alone
    signal.signal(signal.SIGTERM, end)
    over = threading.Event()
    threading.Thread(target=_end_with_launcher, args=(over,), daemon=True).start()
    number, _ = mesh.place()
    ends[number % len(ends)] = 0
    faults.name_rank(number)
    if before:
        before()
    code = _done(argv)
    over.set()
    if code:
        ends[number % len(ends)] = code
        _leave_together(code, ends)
    return code


def _done(argv: Sequence[str]) -> int:
    """What `main` gives, or the parser of words.  Errors are told here: torchelastic writes them into a file,
    and where the disk is full it ends over reading that, instead of starting again.  So may stderr be a file
    on that disk.
    """
    try:
        return main(argv)
    except Ended:
        raise
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else FAILED
    except Exception:
        with contextlib.suppress(OSError):
            traceback.print_exc()
        raise Ended(FAILED) from None


def _leave_together(code: int, ends: Sequence[int]) -> None:
    """Ended where not all ranks end with a code of their own; else a limit to how long a launcher may take
    to hear of it.
    """
    late = time.monotonic() + ENDS_SECONDS
    while min(ends) <= 0:
        if time.monotonic() > late:
            raise Ended(code)
        time.sleep(0.01)
    leave = threading.Timer(ENDS_SECONDS, os.kill, (os.getpid(), signal.SIGTERM))
    leave.daemon = True
    leave.start()


def _end_with_launcher(over: threading.Event) -> None:
    """Asks the rank to save once its launcher is gone, which also would have told it that it may leave."""
    wait([multiprocessing.parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    over.wait()
    os.kill(os.getpid(), signal.SIGTERM)
