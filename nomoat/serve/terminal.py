"""The terminal chat.  This file and `cli.py` are the only ones that print.

What a model says is data: control characters are spelled out before they reach a terminal.
"""

import contextlib
import json
import os
import re
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth
from rich.console import Console
from rich.control import Control
from rich.segment import ControlType

from nomoat.config import DataError, UserError, nearest
from nomoat.files import shipped, visible
from nomoat.tokenizer.layout import Message
from nomoat.tokenizer.pieces import Piece

THINK = {"on": True, "off": False, "auto": None}
_SEQUENCE = re.compile(r"\x1b(\[[0-9;]*.|O.)")  # arrow and function keys, which begin with Esc and aren't Esc


class Bot(Protocol):
    def stream(self, messages: list[Message], *, think: bool | None, stop: Callable[[], bool]) -> Iterator[Piece]:
        """Pieces of the reply to `messages`; asks `stop` about once a token and ends soon after it says True."""


@dataclass(frozen=True, slots=True)
class Exchange:
    question: str
    answer: str
    thinking: str


@dataclass(slots=True)
class Talk:
    """A conversation and its settings."""

    system: str | None = None
    think: bool | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    saved: set[Path] = field(default_factory=set)  # files that this talk may overwrite

    def messages(self, question: str | None = None) -> list[Message]:
        """What the model sees; an exchange that was stopped before its answer began is left out."""
        out = [Message("system", self.system)] if self.system else []
        for e in self.exchanges:
            if e.answer:
                out += [Message("user", e.question), Message("assistant", e.answer, e.thinking or None)]
        return out + ([Message("user", question)] if question is not None else [])


@dataclass(frozen=True, slots=True)
class Effect:
    say: str = ""
    ask: str | None = None  # a question for the model
    quit: bool = False


def obey(talk: Talk, line: str) -> Effect:
    """What a line typed at the prompt does to `talk`, and what is to be said or asked; no terminal involved."""
    if not line.startswith("/") or line.startswith("//"):
        return Effect(ask=line.removeprefix("/") if line.startswith("//") else line)
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    match word:
        case "/new":
            talk.exchanges.clear()
            return Effect("a new conversation")
        case "/undo" | "/retry" if not talk.exchanges:
            return Effect(f"nothing to {word[1:]} yet")
        case "/undo":
            return Effect(f"took back: {talk.exchanges.pop().question}")
        case "/retry":
            return Effect(ask=talk.exchanges.pop().question)
        case "/system":
            talk.system = rest or None
            return Effect("system prompt set" if rest else "no system prompt")
        case "/think":
            if rest and rest not in THINK:
                return Effect(f"/think {rest}: expected on, off or auto")
            talk.think = THINK[rest] if rest else talk.think
            return Effect(f"thinking: {next(k for k, v in THINK.items() if v is talk.think)}")
        case "/save":
            return Effect(_save(talk, rest))
        case "/show":
            thinking = talk.exchanges[-1].thinking if talk.exchanges else ""
            return Effect(thinking or "no thinking behind the last answer")
        case "/help":
            return Effect(shipped(__file__)["help"])
        case "/quit":
            return Effect(quit=True)
    return Effect(f"unknown command {word}; {nearest(word, shipped(__file__)['commands'])}")


def _save(talk: Talk, name: str) -> str:
    if not name:
        return "/save needs a file name, such as /save talk.md"
    path = Path(name).expanduser().resolve()
    rows = [{"role": m.role, "content": m.content, "thinking": m.thinking} for m in talk.messages()]
    if path.suffix == ".json":
        text = json.dumps(rows, ensure_ascii=False, indent=2) + "\n"
    else:
        quoted = lambda row: "> " + row["thinking"].replace("\n", "\n> ") + "\n\n" if row["thinking"] else ""
        text = "\n".join(f"## {row['role']}\n\n{quoted(row)}{row['content']}\n" for row in rows)
    try:
        with path.open("w" if path in talk.saved else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return f"{path} exists already and is not from this conversation; choose another name"
    except OSError as error:
        return f"could not write {path}: {error.strerror}"
    talk.saved.add(path)
    return f"saved {len(rows)} messages to {path}"


class View:
    """Shows one reply as it comes: its thinking folded into one line, or spread out, and then its answer."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal and not console.is_dumb_terminal
        self._began = time.monotonic()
        self._expanded = self._thought = False
        self._n_tokens = self._n_shown = 0  # thinking: its tokens, and its characters on the screen
        self.thinking = self.answer = ""

    def piece(self, piece: Piece) -> None:
        if piece.kind == "answer":
            self._end_thinking()
            self._write(piece.text if self.answer.strip() else piece.text.lstrip())
            self.answer += piece.text
            return
        self.thinking += piece.text
        self._n_tokens += piece.n_tokens
        if self._expanded:
            self._spread()
        elif self._live:
            self._erase()
            self._write(f"thinking {self._cost()}"[: self._console.width - 1], "dim")

    def expand(self) -> None:
        """Ctrl-T: spread the thinking out from now on, or once the answer has come."""
        self._expanded = True
        if not self._thought:
            self._erase()
            self._spread()

    def close(self, stopped: bool) -> None:
        self._end_thinking()
        if stopped or not self.answer:
            self._write(" [stopped]" if stopped else "[no answer]", "dim")
        self._write("\n")
        if self._expanded and self._n_shown < len(self.thinking):
            self._spread()
            self._write("\n")

    def _end_thinking(self) -> None:
        if self.thinking and not self._thought:
            self._write("\n") if self._expanded else self._erase()
            self._write(f"thought {self._cost()}\n", "dim")
        self._thought = True

    def _cost(self) -> str:
        hint = "" if self._expanded else "  (Ctrl-T or /show to expand)"
        return f"{self._n_tokens} tokens · {time.monotonic() - self._began:.1f} s{hint}"

    def _spread(self) -> None:
        self._write(self.thinking[self._n_shown :], "dim")
        self._n_shown = len(self.thinking)

    def _erase(self) -> None:
        if self._live:
            self._console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))

    def _write(self, text: str, style: str | None = None) -> None:
        self._console.print(visible(text), style=style, end="")
        self._console.file.flush()


class Keys:
    """The keyboard while an answer streams: Esc and Ctrl-C stop it, Ctrl-T calls `expand`, the rest waits in `typed`.

    A second Ctrl-C raises KeyboardInterrupt, for a model that doesn't ask.
    """

    def __init__(self, fd: int | None, expand: Callable[[], None] = lambda: None) -> None:
        self._fd = fd
        self._expand = expand
        self.stopped = False
        self.typed = ""

    def stop(self) -> bool:
        """Read what was typed; True once the answer is to stop."""
        while self._fd is not None and not self.stopped and select.select([self._fd], [], [], 0)[0]:
            data = os.read(self._fd, 1024)
            text = _SEQUENCE.sub("", data.decode(errors="ignore"))
            self.typed += "".join(c for c in text.replace("\r", "\n") if visible(c) == c)
            self.stopped = not data or "\x1b" in text
            if "\x14" in text:
                self._expand()
        return self.stopped

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self.stopped:
            raise KeyboardInterrupt
        self.stopped = True

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        before = signal.signal(signal.SIGINT, self._interrupt)
        cooked = termios.tcgetattr(self._fd) if self._fd is not None else None
        try:
            if cooked is not None:
                tty.setcbreak(self._fd, termios.TCSANOW)
            yield
        finally:
            if cooked is not None:
                termios.tcsetattr(self._fd, termios.TCSANOW, cooked)
            signal.signal(signal.SIGINT, before)


def answer(bot: Bot, messages: list[Message], think: bool | None, keys: Keys, show: Callable[[Piece], None]) -> None:
    """Hand each piece of the reply to `show` until it ends or the keyboard stops it."""
    with keys.watching(), contextlib.suppress(KeyboardInterrupt):
        for piece in bot.stream(messages, think=think, stop=keys.stop):
            show(piece)


def chat(bot: Bot, *, prompt: str | None = None, system: str | None = None, think: bool | None = None) -> int:
    """Talk until /quit, or answer `prompt` once ("-", or a standard input that is no terminal: read it); exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    talk = Talk(system, think)
    if prompt is None and sys.stdin.isatty():
        return _converse(bot, talk)
    if prompt in (None, "-"):
        try:
            prompt = sys.stdin.buffer.read().decode()
        except UnicodeDecodeError as error:
            raise DataError(f"standard input is not UTF-8 at byte {error.start}; expected text; convert it") from None
    if not prompt.strip():
        raise DataError("the prompt is empty; expected a question; write it after -p or pipe it in")
    return _answer_once(bot, talk.messages(prompt.strip()), think)


def _console(file: object) -> Console:
    """A console that shows a text as it is, without markup of its own."""
    color = None if os.environ.get("NO_COLOR") else "auto"  # rich by itself would still dim
    return Console(file=file, color_system=color, markup=False, highlight=False, soft_wrap=True)


def _answer_once(bot: Bot, messages: list[Message], think: bool | None) -> int:
    aside = _console(sys.stderr) if sys.stderr.isatty() else None
    shown = {"thinking": "", "answer": ""}

    def show(piece: Piece) -> None:
        if piece.kind == "answer":
            if aside and shown["thinking"] and not shown["answer"]:
                aside.print()
            print(visible(piece.text if shown["answer"].strip() else piece.text.lstrip()), end="", flush=True)
        elif aside:
            aside.print(visible(piece.text), style="dim", end="")
        shown[piece.kind] += piece.text

    keys = Keys(None)
    try:
        answer(bot, messages, think, keys, show)
        print(flush=True)
    except BrokenPipeError:  # the reader has what it wanted; keep the interpreter from flushing into the pipe again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 130 if keys.stopped else 0


def _converse(bot: Bot, talk: Talk) -> int:
    console = _console(sys.stdout)
    say = lambda text, style="dim": console.print(visible(text), style=style)
    session: PromptSession[str] = PromptSession(
        multiline=True,
        prompt_continuation=". ",
        key_bindings=_bindings(lambda: say(obey(talk, "/show").say)),
        color_depth=ColorDepth.DEPTH_1_BIT if console.no_color else None,
    )
    say("nomoat · Enter sends, Alt+Enter new line, Esc stops an answer, /help")
    typed = ""
    while True:
        waiting, typed = typed, ""
        try:
            line = session.prompt("> ", default=waiting).strip()
        except KeyboardInterrupt:
            say("/quit or Ctrl-D leaves")
            continue
        except EOFError:
            return 0
        effect = obey(talk, line) if line else Effect()
        if effect.say:
            say(effect.say)
        if effect.quit:
            return 0
        if effect.ask is not None:
            view = View(console)
            keys = Keys(sys.stdin.fileno(), view.expand)
            try:
                answer(bot, talk.messages(effect.ask), talk.think, keys, view.piece)
            except UserError as error:
                say(str(error), "red")
            else:
                view.close(keys.stopped)
                talk.exchanges.append(Exchange(effect.ask, view.answer, view.thinking))
            typed = keys.typed.rstrip("\n")


def _bindings(show: Callable[[], None]) -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\") and buffer.document.is_cursor_at_the_end:
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    bindings.add("escape", "enter")(lambda event: event.current_buffer.insert_text("\n"))
    bindings.add("c-t")(lambda event: run_in_terminal(show))
    return bindings
