"""The command itself: where it listens, how it ends, and that nothing is left of one that was killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from nomoat.cli import main
from nomoat.config import ConfigError
from nomoat.serve import server


def test_a_place_that_is_taken_is_said_before_anything_is_loaded():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        with pytest.raises(ConfigError, match="in use; expected a free"):
            server.listening("127.0.0.1", taken.getsockname()[1])
    for address, port, found in (
        ("127.0.0.1", 70_000, "0 to 65535"),
        ("no such name", 0, "--address no such name"),
    ):
        with pytest.raises(ConfigError, match=found):
            server.listening(address, port)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["runs/none"], "no runs/none; expected a run"),
        (["a", "--address", "0.0.0.0"], "expected a key"),
        (["a", "--host", "box:8000"], "--host box:8000; expected a name"),
        (["a", "--keys", "/none"], "no keys in /none"),
        (["--model", "a"], "--model a; expected NAME=SOURCE"),
        (["README.md", "--port", "0"], "README.md"),
        (["evening", "--plan", "--rows", "0"], "--rows 0; expected 1 or more"),
    ],
)
def test_a_mistake_is_told_before_anything_is_loaded(argv, said, capsys):
    assert main.main(["serve", *argv]) == 2
    out, err = capsys.readouterr()
    assert (out, said in err) == ("", True), err


def test_each_of_several_names_counts(smoke, capsys):
    argv = ["serve", f"--model=a={smoke.root}", f"--model=b={smoke.root}", "--host", "x", "--host", "y"]
    assert main.main([*argv, "--plan", "--json"]) == 0
    models = [model["model"] for model in json.loads(capsys.readouterr().out)["models"]]
    assert {"a", "b"} <= {*models}


@pytest.mark.check
def test_a_killed_server_starts_again_and_a_terminated_one_finishes_what_runs(smoke):
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "nomoat",
        "serve",
        str(smoke.root),
        "--port",
        "0",
        "--json",
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        ) as run:
            told = json.loads(run.stdout.readline())
            asked = {"messages": [{"role": "user", "content": "2+2"}], "ignore_eos": True, "stream": True}
            body = json.dumps({**asked, "model": told["models"][1]}).encode()
            with urllib.request.urlopen(f"{told['url']}/chat/completions", body) as answer:
                first = answer.readline()
                run.send_signal(number)
                rest = answer.read() if number != signal.SIGKILL else b"data: [DONE]\n\n"
            assert first.startswith(b"data: {")
            assert rest.endswith(b"data: [DONE]\n\n")
            said = run.stderr.read()
            assert run.wait(30) == (-9 if number == signal.SIGKILL else 0)
            assert "2+2" not in said
            assert "Traceback" not in said
