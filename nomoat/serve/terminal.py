"""The terminal chat.  Beside cli/ this file alone prints.

What a model says is data: control characters are spelled out before they reach a terminal.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.input.typeahead import store_typeahead
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth
from rich.console import Console

from nomoat.config import DataError, UserError
from nomoat.files import visible
from nomoat.serve import lines
from nomoat.serve.bot import Bot, Reply
from nomoat.serve.keys import Keys
from nomoat.serve.talk import Effect, Exchange, Talk, obey
from nomoat.serve.view import View
from nomoat.tokenizer.pieces import Piece

HELP = "Enter sends, Alt+Enter new line, Esc stops an answer, /help"


@dataclass(frozen=True, slots=True)
class Manner:
    """How a conversation shows itself."""

    json: bool = False  # an object a line
    thinking: bool = False  # the thinking, too
    banner: str = "nomoat"


def chat(
    bot: Bot,
    *,
    prompt: str | None = None,
    system: str | None = None,
    think: bool | None = None,
    manner: Manner = Manner(),
) -> int:
    """Talk until /quit; or answer `prompt` once ("-": all that stands in standard input); or, where standard
    input is no terminal or JSON is wanted, answer its lines one by one.  The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    talk = Talk(system, think)
    if prompt is None and sys.stdin.isatty() and not manner.json:
        return _converse(bot, talk, manner)
    try:
        if prompt is None:
            return _answer(bot, talk, lines.messages(sys.stdin.buffer), manner, once=False)
        asked = lines.whole(sys.stdin.buffer.read() if prompt == "-" else os.fsencode(prompt))
        return _answer(bot, talk, [("", asked)], manner, once=True)
    except (
        BrokenPipeError
    ):  # the reader has what it wanted; keep the interpreter from flushing into the pipe again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _reply(bot: Bot, talk: Talk, question: str, keys: Keys, show: Callable[[Piece], None]) -> Reply:
    """Hand each piece of the reply to `show` until it ends or the keyboard stops it."""
    with keys.watching():
        reply = bot.stream(talk.messages(question), think=talk.think, stop=keys.stop)
        with contextlib.suppress(KeyboardInterrupt), contextlib.closing(reply.source):
            for piece in reply:
                show(piece)
    return reply


def _console(file: object) -> Console:
    """A console that shows a text as it is, without markup of its own."""
    color = None if os.environ.get("NO_COLOR") else "auto"  # rich by itself would still dim
    return Console(file=file, color_system=color, markup=False, highlight=False, soft_wrap=True)


def _answer(
    bot: Bot, talk: Talk, questions: Iterable[tuple[str, str]], manner: Manner, *, once: bool
) -> int:
    """Answers on stdout, and nothing else there; what else is to be said on stderr."""
    console = _console(sys.stderr)
    one_line = manner.json or not once

    def dim(text: str) -> None:
        console.print(text, style="dim", end="")

    def out(text: str) -> None:
        print(text, end="", flush=True)

    for called, question in questions:
        keys = Keys(None)
        printer = lines.Printer(None if one_line else out, dim if manner.thinking else None)
        try:
            reply = _reply(bot, talk, question, keys, printer.piece)
        except DataError as error:
            raise error if once else DataError(f"{called}: {error}") from None
        if not printer.answer:
            printer.end_thinking()
        if manner.json:
            out(f"{printer.answered(reply).to_json()}\n")
        else:
            out(f"{printer.line() if one_line else ''}\n")
            if mark := reply.mark(printer.answer):
                dim(f"nomoat: {mark}\n")
        if keys.stopped:
            return 130
        talk.exchanges.append(Exchange(question, printer.answer, printer.thinking))
        notice = talk.fills(reply.n_kept, bot.room, reply.n_forgotten)
        if notice and not once:
            dim(f"nomoat: {notice}\n")
    return 0


def _converse(bot: Bot, talk: Talk, manner: Manner) -> int:
    """Question and answer until the person leaves."""
    talk.marks = bot.marks_thinking
    console = _console(sys.stdout)

    def say(text: str, style: str = "dim") -> None:
        console.print(visible(text), style=style, soft_wrap=False)  # by words

    session: PromptSession[str] = PromptSession(
        multiline=True,
        prompt_continuation=". ",
        key_bindings=_bindings(lambda: say(obey(talk, "/show").say)),
        color_depth=ColorDepth.DEPTH_1_BIT if console.no_color else None,
    )
    say(f"{manner.banner}\n{HELP}")
    while True:
        try:
            line = session.prompt("> ").strip()
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
            if manner.thinking:
                view.expand()
            keys = Keys(sys.stdin.fileno(), view.expand)
            try:
                reply = _reply(bot, talk, effect.ask, keys, view.piece)
            except UserError as error:
                say(str(error), "red")
            else:
                view.close(reply.mark(view.answer))
                talk.exchanges.append(Exchange(effect.ask, view.answer, view.thinking))
                if notice := talk.fills(reply.n_kept, bot.room, reply.n_forgotten):
                    say(f"{notice}; /new begins again")
            _type_ahead(session, keys.typed)


def _type_ahead(session: PromptSession[str], typed: str) -> None:
    """What was typed while an answer came is typed at the next prompts, each line at its own."""
    pressed = []
    Vt100Parser(pressed.append).feed(typed)
    store_typeahead(session.app.input, pressed)


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
