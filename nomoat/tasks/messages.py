"""Messages and rows as others keep them: the text of one, and keys that change what is meant.

Nothing is raised here: a complaint is a text, None where there is none; whose file it is says the place.
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

ROLES = ("system", "user", "assistant")
CHAINS = ("reasoning_content", "thinking", "reasoning")  # what an assistant thought before a reply
MEDIA = ("image", "images", "audio", "audios", "video", "videos", "files", "attachments")
MEANING = ("name", "tool_call_id", "tool_calls", "function_call", "refusal", "prefix", "prefill", *MEDIA)
KEYS = ("role", "content", "from", "value", "type", "id", "timestamp", "date", "index", "model")
EMPTY = (None, "", [], {})

MARKING = {
    "loss", "weight", "weights", "train", "trainable", "training", "trained", "learn", "learnt", "learned",
    "learnable", "mask", "masks", "masked", "ignore", "ignored", "skip", "skipped", "supervise", "supervised",
}  # fmt: skip
BESIDE = {
    "is", "to", "do", "no", "not", "on", "in", "use", "for", "the", "of", "this", "turn", "message", "reply",
    "response", "completion", "assistant", "sample", "token", "tokens", "compute", "calculate", "calc", "row",
    "input", "inputs", "prompt", "example", "exclude", "from",
}  # fmt: skip
TURNED = {"no", "not", "ignore", "ignored", "skip", "skipped", "exclude"}  # such a mark says what is left out
MASKS = {"mask", "masks", "masked"}  # means either, without "loss" beside it
YES, NO = (1, "1", "true", "yes"), (0, "0", "false", "no")

BEGUN = re.compile(r"""\s*[\[{]\s*\{?\s*["']\w+["']\s*:""")
SPOKEN = re.compile(r"""["'](?:role|from)["']\s*:\s*["']\w""")
TEMPLATE = re.compile(
    r"<\|(?:im_start|im_end|start_header_id|eot_id|begin_of_text|user|assistant|system|end)\|>|\[/?INST\]"
    r"|<(?:start|end)_of_turn>|<｜(?:User|Assistant)｜>"
)


def text_in(message: Mapping[str, Any]) -> str | None:
    """The text of a message, whose content may be a list of parts; None where there is anything else."""
    content = message.get("content")
    if isinstance(content, list):
        texts = [_text_of(part) for part in content]
        content = "\n".join(texts) if all(isinstance(text, str) for text in texts) else None
    return content if isinstance(content, str) else None


def _text_of(part: Any) -> Any:
    """The text of a part that is one."""
    if not isinstance(part, dict) or part.get("type", "text") not in ("text", "input_text", "output_text"):
        return None
    return None if any(part.get(name) not in EMPTY for name in MEDIA) else part.get("text")


def wrong_with(message: Any) -> str | None:
    """Why a message can't be read as a role and a text."""
    role = message.get("role") if isinstance(message, dict) else message
    if role not in ROLES:
        return f"the role {role!r:.40}; expected one of {', '.join(ROLES)}"
    filled = [name for name, value in message.items() if value not in EMPTY]
    if told := next((name for name in MEANING if name in filled), None):
        return f"`{told}`, which no layout here tells; expected a text alone"
    if text_in(message) is None:
        return "no text as its content; expected one"
    chains = [message[name] for name in CHAINS if name in filled]
    if any(not isinstance(chain, str) for chain in chains):
        return f"`{next(name for name in CHAINS if name in filled)}` that is no text; expected one"
    if chains and role != "assistant":
        return "a chain of thought that is not the assistant's; expected it there"
    if len(set(chains)) > 1 or (chains and "</think>" in text_in(message)):
        return "two chains of thought; expected one"
    return None


def chain_in(message: Mapping[str, Any]) -> str | None:
    """The chain of thought beside a message's text, if it has one."""
    return next((message[name] for name in CHAINS if message.get(name)), None)


def beside(messages: Iterable[Any]) -> list[str]:
    """Keys of messages that hold something, other than a role, a text and what says when it was sent."""
    filled = {name for m in messages if isinstance(m, dict) for name in m if m[name] not in EMPTY}
    return sorted(filled - set(KEYS))


# --- marks of what is not to be learnt ---


@lru_cache(4096)
def is_mark(name: str) -> bool:
    """Whether a key says, by its name, how much something is to be learnt: `loss_weight`, `trainOn`, `mask`.
    """
    words = _words(name)
    return bool(words & MARKING) and words <= MARKING | BESIDE


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


def mark_in(holder: Mapping[str, Any], learnt: bool = True) -> str | None:
    """The first mark that says otherwise than that all of a row or message is learnt, or that nothing is."""
    for name, value in holder.items():
        if value in EMPTY or not is_mark(name):
            continue
        words = _words(name)
        wanted = YES if learnt ^ bool(words & TURNED) else NO
        plain = value.strip().lower() if isinstance(value, str) else value
        if plain not in wanted or (words & MASKS and "loss" not in words):
            return f"{name} {value!r:.20}"
    return None


# --- messages in a text ---


def spelled(text: str) -> list[Any] | None:
    """The messages in a text that is nothing but their JSON; None for any other text.

    ValueError where they are spelled in another way: one alone, as Python prints them, or cut off.
    """
    if not BEGUN.match(text) or text.rstrip()[-1:] not in ("]", "}") or not SPOKEN.search(text):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("messages as a text that is no JSON; expected JSON (json.dumps)") from None
    if not isinstance(found, list):
        raise ValueError("messages as a text that is no list of them; expected a list")
    return found


def templated(text: str) -> str | None:
    """The mark of a chat template in a text that begins with one."""
    found = TEMPLATE.match(text.lstrip().removeprefix("<s>").lstrip())
    return found[0] if found else None
