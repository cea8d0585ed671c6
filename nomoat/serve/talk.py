"""A conversation, and the commands that a person types into it; no terminal involved."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nomoat.config import DataError, nearest
from nomoat.files import write_whole
from nomoat.tokenizer.layout import Conversation, Message

THINK = {"on": True, "off": False, "auto": None}
COMMANDS = ("/new", "/undo", "/retry", "/system", "/think", "/save", "/show", "/help", "/quit")
ALONE = ("/new", "/undo", "/retry", "/show", "/help", "/quit")  # whoever types more means something else
HELP = """\
/new           forget this conversation
/undo          take back the last question and its answer
/retry         answer the last question again
/system TEXT   set the system prompt; without text, remove it
/think on|off|auto   think before answering: always, never, as the model likes
/save FILE     write the conversation (.json, or Markdown); nothing is kept otherwise
/show          the thinking behind the last answer (also Ctrl-T)
/help  /quit   this list; leave (also Ctrl-D)
Enter sends; Alt+Enter or a trailing \\ starts a new line; \
Esc or Ctrl-C stops an answer; // starts a text with /"""


NEARLY_FULL = 0.75  # of the room that a conversation has: then `/new` is hinted at


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
    marks: bool = True  # whether the model marks its thinking
    filled: float = 0.0  # share of its room that the conversation took when it was last answered
    forgets: bool = False  # whether its first messages have found no room

    def fills(self, n_tokens: int, room: int, n_forgotten: int) -> str | None:
        """What is to be said, once each: that the conversation takes most of its room by now, or that it has
        lost its first messages.
        """
        nearly = self.filled < NEARLY_FULL <= n_tokens / room
        lost = n_forgotten > 0 and not self.forgets
        self.filled, self.forgets = n_tokens / room, self.forgets or lost
        if lost:
            return (
                f"the context is full: the first {n_forgotten} messages are forgotten by now, later ones "
                "will follow"
            )
        if nearly and not self.forgets:
            if n_tokens >= room:
                return "the context is full: with the next question, the first messages are forgotten"
            used = f"{n_tokens} of {room} tokens of the context are used"
            return f"{used}; once it is full, the first messages are forgotten"
        return None

    def messages(self, question: str | None = None) -> Conversation:
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
    """What a line typed at the prompt does to `talk`, and what is to be said or asked; no terminal involved.
    """
    if not line.startswith("/") or line.startswith("//"):
        return Effect(ask=line.removeprefix("/"))
    word, *behind = line.split(maxsplit=1)
    rest = "".join(behind).strip()
    if rest and word in ALONE:
        return Effect(f"{word} takes nothing behind it; leave out: {rest}")
    match word:
        case "/new":
            talk.exchanges.clear()
            talk.filled, talk.forgets = 0.0, False
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
            return Effect(_think(talk, rest))
        case "/save":
            return Effect(_save(talk, rest))
        case "/show":
            thinking = talk.exchanges[-1].thinking if talk.exchanges else ""
            return Effect(thinking or "no thinking behind the last answer")
        case "/help":
            return Effect(HELP)
        case "/quit":
            return Effect(quit=True)
    return Effect(f"unknown command {word} (// starts a text with /); {nearest(word, COMMANDS)}")


def _think(talk: Talk, choice: str) -> str:
    if choice and choice not in THINK:
        return f"/think {choice}: expected on, off or auto"
    if choice in ("on", "off") and not talk.marks:
        return f"/think {choice}: this model marks no thinking; expected auto"
    if choice:
        talk.think = THINK[choice]
    return f"thinking: {next(word for word, value in THINK.items() if value is talk.think)}"


SAVED = ("role", "content", "thinking")


def _save(talk: Talk, name: str) -> str:
    if not name:
        return "/save needs a file name, such as /save talk.md"
    path = Path(name).expanduser().resolve()
    messages = talk.messages()
    text = _as_json(messages) if path.suffix == ".json" else _as_markdown(messages)
    if path.exists() and path not in talk.saved:
        return f"{path} exists already and is not from this conversation; choose another name"
    try:
        write_whole(path, text)
    except DataError as error:
        return f"could not write it: {error}"
    talk.saved.add(path)
    return f"saved {len(messages)} messages to {path}"


def _as_json(messages: Conversation) -> str:
    """Each with what it has; a talk here calls no tools."""
    kept = [{k: v for k, v in asdict(message).items() if k in SAVED} for message in messages]
    return json.dumps(kept, ensure_ascii=False, indent=2) + "\n"


def _as_markdown(messages: Conversation) -> str:
    parts = []
    for message in messages:
        parts.append(f"## {message.role}\n")
        if message.thinking:
            parts.append("> " + message.thinking.replace("\n", "\n> ") + "\n")
        parts.append(f"{message.content}\n")
    return "\n".join(parts)
