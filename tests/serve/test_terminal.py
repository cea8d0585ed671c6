"""Laws of the terminal chat: one-shot through pipes, and one session on a real one."""

import errno
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nomoat
from nomoat.config import DataError
from nomoat.serve.terminal import chat
from nomoat.tokenizer.layout import Message
from nomoat.tokenizer.pieces import Piece

FAKE = """
import sys, threading
from nomoat.serve.terminal import Piece, chat

class Fake:
    n, marks_thinking = 0, True
    def stream(self, messages, *, think, stop):
        self.n += 1
        question = messages[-1].content
        if think is not False:
            yield Piece("adding ", "thinking", 1)
            yield Piece("up", "thinking", 2)
        yield Piece(f"reply {self.n} to {question!r} after {len(messages)}", "answer", 9)
        if question == "escape":
            yield Piece("\\x1b[2J\\x1b]0;owned\\x07", "answer", 3)
        while question == "endless" and not stop():
            threading.Event().wait(0.01)  # a token takes its time
        if question != "endless":
            yield Piece(" end", "answer", 1)

sys.exit(chat(Fake(), prompt=sys.argv[1] if sys.argv[1:] else None))
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", FAKE, *arguments]


def environment(**extra: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    return {**kept, "PYTHONPATH": str(Path(nomoat.__file__).parents[1]), "TERM": "xterm-256color", **extra}


def test_one_shot_prints_the_answer_alone():
    run = subprocess.run(command("hi"), env=environment(), capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "reply 1 to 'hi' after 1 end\n", "")
    for arguments in (["-"], []):
        run = subprocess.run(
            command(*arguments), env=environment(), capture_output=True, input="  Grüße\n".encode()
        )
        assert run.stdout.decode() == "reply 1 to 'Grüße' after 1 end\n"
    run = subprocess.run(command("escape"), env=environment(), capture_output=True, text=True)
    assert run.stdout == "reply 1 to 'escape' after 1\\x1b[2J\\x1b]0;owned\\x07 end\n"


def test_one_shot_survives_a_reader_that_leaves_and_stops_on_interrupt():
    with subprocess.Popen(
        command("hi"), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        run.stdout.close()
        assert (run.wait(30), run.stderr.read()) == (0, b"")
    with subprocess.Popen(command("endless"), env=environment(), stdout=subprocess.PIPE) as run:
        said = run.stdout.read(5)
        run.send_signal(signal.SIGINT)
        assert (said + run.stdout.read()).startswith(b"reply 1 to 'endless' after 1")
        assert run.wait(30) == 130


def test_an_empty_prompt_or_one_that_is_not_text_says_what_to_do(capsys):
    with pytest.raises(DataError, match="prompt is empty"):
        chat(None, prompt=" ")
    run = subprocess.run(command("-"), env=environment(), capture_output=True, input=b"\xff\xfe")
    assert b"DataError: standard input is not UTF-8 at byte 0" in run.stderr


def test_system_and_think_reach_the_model_in_one_shot(capsys):
    seen = []

    class Bot:
        def stream(self, messages, *, think, stop):
            seen.append((messages, think))
            yield Piece("ok", "answer", 1)

    assert chat(Bot(), prompt=" x ", system="S", think=False) == 0
    assert seen == [([Message("system", "S"), Message("user", "x")], False)]
    assert capsys.readouterr() == ("ok\n", "")


class Session:
    """A program on a pseudo-terminal whose screen a terminal emulator keeps."""

    def __init__(self, env: dict[str, str]) -> None:
        pyte = pytest.importorskip("pyte")
        self.raw = b""
        self._status: int | None = None
        self.screen = pyte.HistoryScreen(90, 60)
        self.screen.write_process_input = lambda text: os.write(self.fd, text.encode())
        self._stream = pyte.ByteStream(self.screen)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, command(), env)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *error: object) -> None:
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.ended()

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait_for(self, *texts: str) -> str:
        """The screen once it shows all of `texts`."""
        deadline = time.monotonic() + 30
        while True:
            shown = "\n".join(line.rstrip() for line in self.screen.display).strip()
            if all(t in shown for t in texts):
                return shown
            assert time.monotonic() < deadline, f"waited for {texts}, the screen shows:\n{shown}"
            if select.select([self.fd], [], [], 1)[0]:
                self._read()

    def ended(self) -> int:
        while self._read():
            pass
        os.close(self.fd)
        self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status

    def _read(self) -> bool:
        try:
            data = os.read(self.fd, 65536)
        except OSError as error:  # Linux's way of saying that the other side is closed
            if error.errno != errno.EIO:
                raise
            data = b""
        self.raw += data
        self._stream.feed(data)
        return bool(data)


@pytest.mark.filterwarnings("ignore:.*use of forkpty.*:DeprecationWarning")
def test_a_session_on_a_real_terminal():
    with Session(environment()) as s:
        converse(s)
    assert s.screen.title == ""
    assert b"\x1b[2m" in s.raw


def converse(s: Session) -> None:
    s.wait_for("nomoat · Enter sends", "\n>")
    s.type("hello\r")
    s.wait_for("thought 3 tokens · ", " s  (Ctrl-T or /show to expand)\nreply 1 to 'hello' after 1 end\n>")
    s.type("/show\r")
    s.wait_for("> /show\nadding up\n>")
    s.type("\x14")  # Ctrl-T at the prompt
    s.wait_for("adding up\nadding up\n>")
    s.type("more\r")
    s.wait_for("reply 2 to 'more' after 3 end\n>")
    s.type("/undo\r")
    s.wait_for("took back: more\n>")
    s.type("again\r")
    s.wait_for("reply 3 to 'again' after 3 end\n>")
    s.type("/retry\r")
    s.wait_for("reply 4 to 'again' after 3 end\n>")

    s.type("/think off\r")
    s.wait_for("thinking: off\n>")
    s.type("endless\r")
    s.wait_for("reply 5 to 'endless' after 5")
    s.type("\x03")  # Ctrl-C during an answer
    s.wait_for("reply 5 to 'endless' after 5 [stopped]\n>")
    s.type("endless\r")
    s.wait_for("reply 6 to 'endless' after 7")  # what was said is kept
    s.type("typed \x14ahead")  # waits for the next prompt
    s.type("\x1b")  # Esc
    s.wait_for("after 7 [stopped]\n> typed ahead")
    s.type("\x03")  # Ctrl-C clears the line
    s.wait_for("> typed ahead\n/quit or Ctrl-D leaves\n>")
    s.type("\x1b[A")  # the up arrow brings the last question
    s.wait_for("leaves\n> endless")
    s.type("\x03")
    s.wait_for("> endless\n/quit or Ctrl-D leaves\n>")
    s.type("first\\\rsecond\x1b\rthird\r")  # a trailing backslash and Alt+Enter start new lines
    s.wait_for("> first\n. second\n. third\nreply 7 to 'first\\nsecond\\nthird' after 9 end\n>")
    s.type("\x1b[200~pasted\nlines\x1b[201~\r")  # bracketed paste does not send by itself
    s.wait_for("reply 8 to 'pasted\\nlines' after 11 end\n>")
    s.type("a\x1b[Db\r")  # the cursor keys edit
    s.wait_for("reply 9 to 'ba' after 13 end\n>")
    s.type("escape\r")
    s.wait_for("after 15\\x1b[2J\\x1b]0;owned\\x07 end\n>")
    s.type("/nwe\r")
    s.wait_for("unknown command /nwe; did you mean `/new`?\n>")
    s.type("\x04")  # Ctrl-D
    assert s.ended() == 0


@pytest.mark.filterwarnings("ignore:.*use of forkpty.*:DeprecationWarning")
def test_no_color_leaves_no_colour():
    with Session(environment(NO_COLOR="1")) as s:
        s.wait_for("\n>")
        s.type("hello\r")
        s.wait_for("reply 1 to 'hello' after 1 end\n>")
        s.type("/quit\r")
        assert s.ended() == 0
    assert not any(b"\x1b[" + code in s.raw for code in (b"2m", b"1m", b"31m", b"38;", b"0;3"))
