"""Ranks from a warm process: what they import, what torchelastic is told, what is an end, what a fault."""

import codecs
import importlib.util
import re
import subprocess
import sys
import threading
import types

import pytest

from nomoat.cli import ranks
from nomoat.config import ConfigError
from nomoat.stages.recipe import KINDS

DIES = "import functools, os, sys; from nomoat.cli.ranks import start"
DIES += "; raise SystemExit(start(sys.argv[1:], functools.partial(os._exit, 3)))"


def test_every_stage_is_imported_before_a_rank_is_forked():
    assert {f"nomoat.stages.{module}" for module in KINDS.values()} <= set(ranks.WARM)
    assert all(importlib.util.find_spec(name) for name in ranks.WARM)


def test_options_are_torchruns_and_one_machine_takes_a_free_port(monkeypatch, caplog):
    for name in ("OMP_NUM_THREADS", "TORCH_ELASTIC_WORKER_IDENTICAL"):
        monkeypatch.setenv(name, "1")
    four = "--nproc-per-node 4 --max-restarts 7 run smoke --out x"
    config, words = ranks.asked(four.split())
    assert (config.nproc_per_node, config.max_restarts, config.start_method) == (4, 7, "forkserver")
    assert (config.rdzv_backend, config.rdzv_configs["store_type"]) == ("c10d", "file")
    assert not caplog.records
    assert words == ["run", "smoke", "--out", "x"]
    many = "--nnodes 1:2 --rdzv-backend c10d --rdzv-endpoint here:29400 --rdzv-id x pretrain --out y"
    config, words = ranks.asked(many.split())
    assert (config.min_nodes, config.max_nodes, config.rdzv_endpoint) == (1, 2, "here:29400")
    assert words == ["pretrain", "--out", "y"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("--nnodes 0 run smoke", "min_nodes must be > 0"),
        ("--nproc-per-node many run smoke", "expected torchrun's options"),
        ("--nproc-per-node 0 run smoke", "expected one rank or more"),
        ("--nproc-per-node 2 rum smoke", "no verb `rum` to run on ranks.*`run`"),
    ],
)
def test_what_torchelastic_does_not_take_is_a_clear_error(argv, says):
    with pytest.raises(ConfigError, match=says):
        ranks.asked(argv.split())


def test_ranks_end_together_or_it_is_a_fault(monkeypatch):
    monkeypatch.setattr(ranks, "ENDS_SECONDS", 0.05)
    left = threading.Event()
    monkeypatch.setattr(ranks.os, "kill", lambda pid, number: left.set())
    ranks._leave_together(75, [2, 75])
    left.wait()  # the launcher said nothing
    with pytest.raises(SystemExit):
        ranks._leave_together(2, [2, 0])


def launched(*words, code="from nomoat.__main__ import main; raise SystemExit(main())"):
    argv = ["--nproc-per-node", "2", "--max-restarts", "2", "run", "smoke", *words]
    start = [sys.executable, "-c", code, *(["ranks"] if "__main__" in code else []), *argv]
    return subprocess.run(start, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.check
def test_a_wrong_recipe_is_told_by_each_rank_once(tmp_path):
    done = launched("--out", str(tmp_path / "run"), "--set", "a=1")
    assert done.returncode == 2
    assert 1 <= done.stderr.count("`a`") <= 2
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.check
def test_ranks_that_die_at_their_start_are_given_up_after_so_many_restarts(tmp_path):
    done = launched("--out", str(tmp_path / "run"), code=DIES)
    assert done.returncode == 1
    assert "ended with 3, after 2 restarts" in done.stderr
    assert not (tmp_path / "run").exists()


def test_an_error_of_a_rank_is_told_by_itself_and_is_an_exit_code(monkeypatch, capsys):
    """See findings/torch-elastic-error-files.sh."""

    def full(argv):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ranks, "main", full)
    with pytest.raises(SystemExit) as ended:
        ranks._done(["run"])
    assert ended.value.code == 1
    assert "No space left on device" in capsys.readouterr().err
    with open("/dev/full", "wb", buffering=0) as log, pytest.raises(SystemExit) as ended:
        monkeypatch.setattr(sys, "stderr", codecs.getwriter("utf-8")(log))
        ranks._done(["run"])
    assert ended.value.code == 1


def test_words_that_a_verb_does_not_take_are_a_mistake_of_each_rank_and_no_fault(monkeypatch):
    for code, ended in ((2, 2), (0, 0), ("why", 1)):
        monkeypatch.setattr(ranks, "main", lambda argv, code=code: sys.exit(code))
        assert ranks._done(["run"]) == ended


def test_launchers_that_do_not_meet_say_where_and_what_to_look_at(capsys):
    config = types.SimpleNamespace(rdzv_endpoint="first:29400", min_nodes=2)
    for ends in ([0, ranks.NOT_BEGUN], [ranks.NOT_BEGUN] * 2):
        ranks._tell_wait(config, ends)
    assert capsys.readouterr().err.count("waits at first:29400 for 2 machines") == 1
    used = ranks._unmet(config, RuntimeError("failed to listen. name: EADDRINUSE\nframe #0"))
    assert used == "first:29400 is in use on this machine; expected a free port; name another"
    gone = ranks._unmet(config, OSError("gone\nframe"))
    assert re.search(r"do not meet at first:29400 \(gone\); expected", gone)
