"""The terminal chat.  Beside cli/ this file alone prints.

What a model says is data: control characters are spelled out before they reach a terminal.
"""

import contextlib
import os
import sys
from collections.abc import Callable

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth
from rich.console import Console

from nomoat.config import DataError, UserError
from nomoat.files import visible
from nomoat.serve.bot import Bot
from nomoat.serve.keys import Keys
from nomoat.serve.talk import Effect, Exchange, Talk, obey
from nomoat.serve.view import View
from nomoat.tokenizer.layout import Conversation
from nomoat.tokenizer.pieces import Piece


def chat(bot: Bot, *, prompt: str | None = None, system: str | None = None, think: bool | None = None) -> int:
    """Talk until /quit, or answer `prompt` once ("-", or a standard input that is no terminal: read it); exit
    code.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    talk = Talk(system, think)
    if prompt is None and sys.stdin.isatty():
        return _converse(bot, talk)
    if prompt in (None, "-"):
        try:
            prompt = sys.stdin.buffer.read().decode()
        except UnicodeDecodeError as error:
            raise DataError(
                f"standard input is not UTF-8 at byte {error.start}; expected text; convert it"
            ) from None
    if not prompt.strip():
        raise DataError("the prompt is empty; expected a question; write it after -p or pipe it in")
    return _answer_once(bot, talk.messages(prompt.strip()), think)


def _reply(
    bot: Bot, messages: Conversation, think: bool | None, keys: Keys, show: Callable[[Piece], None]
) -> None:
    """Hand each piece of the reply to `show` until it ends or the keyboard stops it."""
    with keys.watching(), contextlib.suppress(KeyboardInterrupt):
        for piece in bot.stream(messages, think=think, stop=keys.stop):
            show(piece)


def _console(file: object) -> Console:
    """A console that shows a text as it is, without markup of its own."""
    color = None if os.environ.get("NO_COLOR") else "auto"  # rich by itself would still dim
    return Console(file=file, color_system=color, markup=False, highlight=False, soft_wrap=True)


def _answer_once(bot: Bot, messages: Conversation, think: bool | None) -> int:
    """The answer to stdout; the thinking to stderr if a person looks at it."""
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
        _reply(bot, messages, think, keys, show)
        print(flush=True)
    except (
        BrokenPipeError
    ):  # the reader has what it wanted; keep the interpreter from flushing into the pipe again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 130 if keys.stopped else 0


def _converse(bot: Bot, talk: Talk) -> int:
    """Question and answer until the person leaves."""
    talk.marks = bot.marks_thinking
    console = _console(sys.stdout)

    def say(text: str, style: str = "dim") -> None:
        console.print(visible(text), style=style)

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
                _reply(bot, talk.messages(effect.ask), talk.think, keys, view.piece)
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
