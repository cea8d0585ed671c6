#!/usr/bin/env bash
# torch 2.13.0, CPU: torchelastic's launcher, told to start functions in processes, does not restart a worker
# whose error could not be written down.
#
# A worker that raises writes its traceback into a file, which the launcher reads. Where the disk is full that
# file is empty (here: a limit of 0 bytes on files, in the worker), the launcher itself ends with `EOFError:
# Ran out of input`, and `max_restarts` is not used: seen 1 start of the worker. The same error with room on
# the disk: 3 starts, then ChildFailedError, as documented.
#
# Exit code 0: as described; 1: the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.3.4
cat >"$place/work.py" <<'PYTHON'
import os
import resource
import sys
from uuid import uuid4

import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def worker(starts: str, full: bool) -> None:
    with open(starts, "a") as file:
        file.write("started\n")
    if full:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    raise ValueError("the worker's own error")


def seen(full: bool, place: str) -> tuple[str, int]:
    starts = f"{place}/starts-{full}"
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=1, run_id=str(uuid4()), rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=2, monitor_interval=0.1, start_method="spawn",
    )
    try:
        elastic_launch(config, worker)(starts, full)
        name = "no error"
    except (ChildFailedError, EOFError) as error:
        name = type(error).__name__
    return name, len(open(starts).readlines())


if __name__ == "__main__":
    found = {full: seen(full, sys.argv[1]) for full in (False, True)}
    print("torch", torch.__version__, "room on the disk:", found[False], "none:", found[True])
    os._exit(0 if found == {False: ("ChildFailedError", 3), True: ("EOFError", 1)} else 1)
PYTHON
"$place/env/bin/python" "$place/work.py" "$place" 2>"$place/log" || { tail -5 "$place/log"; exit 1; }
