"""A Slurm of two nodes on this machine, in a directory of its own, for the tests that start jobs on it."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "squeue", "sinfo")
PATIENCE = 180.0
CONF = """\
ClusterName=two
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
SlurmdParameters=config_overrides
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1
PartitionName=all Nodes=n1,n2 Default=YES PriorityTier=1 GraceTime=120
PartitionName=urgent Nodes=n1,n2 PriorityTier=2 PreemptMode=OFF
"""


def missing() -> str:
    """Which programs of Slurm are not here; empty where all are."""
    return ", ".join(name for name in PROGRAMS if shutil.which(name, path=_path()) is None)


def _path() -> str:
    return os.environ["PATH"] + ":/usr/sbin:/sbin"


def until(holds: Callable[[], object], what: str) -> object:
    """What `holds` gives, once it gives something."""
    end = time.monotonic() + PATIENCE
    while not (found := holds()):
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.1)
    return found


@dataclass(frozen=True)
class Slurm:
    """The cluster; its commands find it by `env`."""

    root: Path
    env: dict[str, str]

    def ask(self, *argv: object) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run([*map(str, argv)], env=self.env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def submit(self, *argv: object, **env: str) -> str:
        """The number of a job that was handed to sbatch."""
        self_with = Slurm(self.root, {**self.env, **env})
        return self_with.ask("sbatch", "--parsable", *argv)

    def facts(self, job: str) -> dict[str, str]:
        """What Slurm knows of a job."""
        words = self.ask("scontrol", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def ends(self, job: str, *states: str) -> dict[str, str]:
        """The job's facts once it is in one of these states; one that was queued again starts in seconds, not
        in two minutes: at once would be too soon, as the nodes take its new credential for the old one."""
        early = []

        def there() -> dict[str, str] | None:
            facts = self.facts(job)
            waits = facts["JobState"] == "PENDING" and facts["Reason"] == "BeginTime"
            if waits and facts["Restarts"] not in early and "PENDING" not in states:
                self.ask("scontrol", "update", f"jobid={job}", "StartTime=now+3")
                early.append(facts["Restarts"])
            return facts if facts["JobState"] in states else None

        return until(there, lambda: f"job {job} is not {states}: {self.facts(job)}")


@contextlib.contextmanager
def started() -> Iterator[Slurm]:
    """A cluster whose nodes are idle; its daemons and jobs end with it.  OSError or AssertionError where it
    does not come up."""
    root = Path(tempfile.mkdtemp(prefix="slurm"))
    env = {**os.environ, "PATH": _path(), "SLURM_CONF": str(root / "slurm.conf")}
    slurm, daemons = Slurm(root, env), []
    try:
        for name in ("munge", "state", "spool-n1", "spool-n2"):
            (root / name).mkdir(mode=0o700)
        (root / "munge" / "key").write_bytes(os.urandom(128))
        (root / "munge" / "key").chmod(0o400)
        conf = CONF.format(host=socket.gethostname(), user=getuser(), root=root, ports=_ports(3))
        (root / "slurm.conf").write_text(conf)
        munge = [f"--{name}={root}/munge/{name}" for name in ("socket", "log-file", "pid-file", "seed-file")]
        munge += [f"--key-file={root}/munge/key", "--foreground", "--force"]
        daemons.append(_daemon(root, env, "munged", *munge))
        until((root / "munge" / "socket").exists, "munged opened no socket")
        daemons.append(_daemon(root, env, "slurmctld", "-D"))
        for node in ("n1", "n2"):
            daemons.append(_daemon(root, env, "slurmd", "-D", "-N", node))
        idle = ["sinfo", "--noheader", "--partition=all", "--format=%D %t"]
        until(lambda: _answer(slurm, idle) == "2 idle", "the nodes did not get idle")
        yield slurm
        subprocess.run(["scancel", "--full", "--signal=KILL", f"--user={getuser()}"], env=env, timeout=60)
        until(lambda: not _answer(slurm, ["squeue", "--noheader"]), "jobs did not end")
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            daemon.wait(30)
        shutil.rmtree(root, ignore_errors=True)


def _ports(n: int) -> list[int]:
    """Free ones."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(n)]
        return [each.getsockname()[1] for each in sockets]


def _daemon(root: Path, env: dict[str, str], *argv: str) -> subprocess.Popen:
    with open(root / f"{argv[0]}-{argv[-1]}.out".replace("/", "_"), "wb") as out:
        return subprocess.Popen(argv, env=env, stdout=out, stderr=out)


def _answer(slurm: Slurm, argv: list[str]) -> str | None:
    done = subprocess.run(argv, env=slurm.env, capture_output=True, text=True, timeout=60)
    return done.stdout.strip() if done.returncode == 0 else None
