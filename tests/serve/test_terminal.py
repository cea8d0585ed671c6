"""Laws of the terminal chat: one-shot through pipes, and one session on a real one."""

import errno
import json
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
from nomoat.serve.bot import Reply
from nomoat.serve.terminal import chat
from nomoat.tokenizer.layout import Message
from nomoat.tokenizer.pieces import Piece

FAKE = """
import json, sys, threading
from nomoat.config import DataError
from nomoat.serve.bot import Reply
from nomoat.serve.terminal import Manner, Piece, chat

class Fake:
    n, marks_thinking, room = 0, True, 100
    def stream(self, messages, *, think, stop):
        if messages[-1].content == "too long":
            raise DataError("no room")
        self.n += 1
        n = 2 * len(messages)
        self.reply = Reply(self.pieces(messages, think, stop), n, max(n - 100, 0), context=200)
        return self.reply
    def pieces(self, messages, think, stop):
        question = messages[-1].content
        if question == "long":
            self.reply.n_tokens, self.reply.stop = 80, "length"
            yield Piece("so many", "thinking" if think else "answer", 80)
            return
        if think is not False:
            yield Piece("adding ", "thinking", 1)
            yield Piece("up", "thinking", 2)
        yield Piece(f"reply {self.n} to {question!r} after {len(messages)}", "answer", 9)
        if question == "escape":
            yield Piece("\\x1b[2J\\x1b]0;owned\\x07", "answer", 3)
        while question == "endless" and not stop():
            threading.Event().wait(0.01)  # a token takes its time
        if question != "endless":
            self.reply.stop = "end"
            yield Piece(" end", "answer", 1)

options = json.loads(sys.argv[1])
manner = Manner(**options.pop("manner", {}))
sys.exit(chat(Fake(), manner=manner, **options))
"""


def command(prompt: str | None = None, **options: object) -> list[str]:
    return [sys.executable, "-c", FAKE, json.dumps({"prompt": prompt, **options})]


def environment(**extra: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    return {**kept, "PYTHONPATH": str(Path(nomoat.__file__).parents[1]), "TERM": "xterm-256color", **extra}


@pytest.fixture
def asked(forge):
    """The program with these options and this standard input, ended."""
    return lambda stdin="", **options: forge(json.dumps({"prompt": None, **options}), stdin=stdin, code=FAKE)


def test_one_shot_prints_the_answer_alone(asked):
    run = asked(prompt="hi")
    assert (run.code, run.out, run.err) == (0, "reply 1 to 'hi' after 1 end\n", "")
    for prompt, said in (("-", "Grüße\nan alle"), (None, "Grüße")):
        assert asked(f"  {said}\n", prompt=prompt).out == f"reply 1 to {said!r} after 1 end\n"
    assert asked(prompt="escape").out == "reply 1 to 'escape' after 1\\x1b[2J\\x1b]0;owned\\x07 end\n"


def test_a_pipe_is_one_conversation_a_message_a_line(asked):
    """Blank lines are none, and the last one needs no line end."""
    run = asked("\ufeffone\r\n\n  \ntwo /new\n/quit")
    assert run.out.splitlines() == [
        "reply 1 to 'one' after 1 end",
        "reply 2 to 'two /new' after 3 end",
        "reply 3 to '/quit' after 5 end",
    ]
    assert (run.code, run.err) == (0, "")
    run = asked("a\nlong\nb", think=True, manner={"json": True, "thinking": True})
    records = [json.loads(line) for line in run.out.splitlines()]
    assert [[*record] for record in records] == 3 * [["answer", "thinking", "stop", "n_tokens"]]
    assert [record["stop"] for record in records] == ["end", "length", "end"]
    assert records[0]["thinking"] == "adding up"
    assert records[1]["answer"] == ""
    assert run.err.startswith("adding up\nso many\n")


def test_what_is_cut_or_forgotten_is_said_beside_the_answers(asked):
    run = asked("long\n" * 60)
    assert run.out == "so many\n" * 60
    said = run.err.splitlines()
    assert said[0] == "nomoat: cut after 80 tokens; --max-tokens allows more"
    assert said[1].startswith("nomoat: 82 of 100 tokens of the context are used; once it is full, the first")
    assert sum("are forgotten by now" in line for line in said) == 1
    assert said[-1] == "nomoat: cut: the context of 200 tokens is full"
    run = asked(prompt="long", think=True)
    assert run.out == "\n"
    assert run.err == "nomoat: cut within its thinking after 80 tokens; --max-tokens allows more\n"


def test_a_line_that_finds_no_room_is_named(asked):
    """What stands before it was answered."""
    for manner in ({}, {"json": True}):
        run = asked("a\n\ntoo long\nb\n", manner=manner)
        assert "DataError: line 3 of standard input: no room" in run.err
        assert len(run.out.splitlines()) == 1
    assert "DataError: no room" in asked(prompt="too long").err


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
        room = 100

        def stream(self, messages, *, think, stop):
            seen.append((messages, think))
            return Reply((Piece("ok", "answer", 1) for _ in "1"), 1, 0, 100, stop="end")

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
        while select.select([self.fd], [], [], 30)[0]:
            if not self._read():
                break
        else:
            pytest.fail(f"still there, the screen shows:\n{self.screen.display}")
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
        type_ahead(s)
        s.type("\x04")  # Ctrl-D
        assert s.ended() == 0
    assert s.screen.title == ""
    assert b"\x1b[2m" in s.raw


def converse(s: Session) -> None:
    s.wait_for("nomoat\nEnter sends", "\n>")
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
    s.wait_for("unknown command /nwe (// starts a text with /); did you mean `/new`?\n>")


def type_ahead(s: Session) -> None:
    """Lines that are typed while an answer comes stay apart, and what is no line yet waits."""
    s.type("endless\r")
    s.wait_for("to 'endless' after 17")
    s.type("ao\x7fne\rzwölf\rdrei")  # lines that are typed ahead stay apart
    s.type("\x1b")
    s.wait_for("> ane\n", "to 'ane' after 19 end\n> zwölf\n", "to 'zwölf' after 21 end\n> drei")
    s.type("\x03")
    s.wait_for("> drei\n/quit or Ctrl-D leaves\n>")


@pytest.mark.filterwarnings("ignore:.*use of forkpty.*:DeprecationWarning")
def test_no_color_leaves_no_colour():
    with Session(environment(NO_COLOR="1")) as s:
        s.wait_for("\n>")
        s.type("hello\r")
        s.wait_for("reply 1 to 'hello' after 1 end\n>")
        s.type("/quit\r")
        assert s.ended() == 0
    assert not any(b"\x1b[" + code in s.raw for code in (b"2m", b"1m", b"31m", b"38;", b"0;3"))
