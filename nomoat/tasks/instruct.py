"""Instruct: write words of one's own choice under instructions that a program can check.

Level 1: how many words, the first and the last.  Level 2: also what stands between them.  Level 3: also the case.
"""

import random
import re

from nomoat.tasks.base import Problem, language, others

levels = (1, 2, 3)

WORDS = ("red", "sun", "dog", "cup", "ten", "map", "sea", "hat", "box", "fog", "ice", "jam", "key", "oak", "pen", "rug")
GLUE = {" ": ("spaces", "Leerzeichen"), "-": ("dashes", "Strichen"), ",": ("commas", "Kommas"), "+": ("plus signs", "Pluszeichen")}
CASES = {"lower": ("small letters", "Kleinbuchstaben"), "upper": ("capitals", "Großbuchstaben")}
WORDINGS = {
    "en": (
        "Write {n} words{glue}{case}. The first is {first}, the last is {last}.",
        "From {first} to {last}: write {n} words{glue}{case}.",
    ),
    "de": (
        "Schreibe {n} Wörter{glue}{case}. Das erste ist {first}, das letzte ist {last}.",
        "Von {first} bis {last}: schreibe {n} Wörter{glue}{case}.",
    ),
}
WITH = {"en": (" with {} between them", " in {}"), "de": (" mit {} dazwischen", " in {}")}


def make(rng: random.Random, level: int) -> Problem:
    n = rng.randint(2, 6)
    first, last = rng.sample(WORDS, 2)
    glue = rng.choice(list(GLUE)) if level > 1 else " "
    case = rng.choice(list(CASES)) if level > 2 else "lower"
    lang = language(rng)
    told = 0 if lang == "en" else 1
    texts = {
        "glue": WITH[lang][0].format(GLUE[glue][told]) if level > 1 else "",
        "case": WITH[lang][1].format(CASES[case][told]) if level > 2 else "",
    }
    prompt = rng.choice(WORDINGS[lang]).format(n=n, first=first, last=last, **texts)
    words = [first, *(WORDS[(WORDS.index(first) + i) % len(WORDS)] for i in range(1, n - 1)), last]
    witness = glue.join(words)
    facts = {"lang": lang, "n": n, "first": first, "last": last, "glue": glue, "upper": case == "upper"}
    return Problem(prompt, f"instruct {n} {first} {last} {glue} {case}", witness.upper() if facts["upper"] else witness, facts)


def check(problem: Problem, answer: str) -> bool:
    """Whether the words, whatever they are, keep every instruction."""
    f = problem.facts
    letters = "[A-Z]" if f["upper"] else "[a-z]"
    text = answer.strip(" \t\r\n")
    if len(text) > 200 or not re.fullmatch(rf"{letters}{{2,12}}({re.escape(f['glue'])}{letters}{{2,12}})*", text):
        return False
    words = text.lower().split(f["glue"])
    return len(words) == f["n"] and words[0] == f["first"] and words[-1] == f["last"]


def near_misses(problem: Problem) -> list[str]:
    f, words = problem.facts, problem.witness.split(problem.facts["glue"])
    glue = f["glue"]
    swapped = glue.join(reversed(words))
    return others(problem, glue.join([words[0], *words]), glue.join(words[1:]), swapped, problem.witness + glue,
                  problem.witness.swapcase() + glue + "x", ("|" if glue == " " else " ").join(words))  # fmt: skip


def work(problem: Problem) -> str:
    """`1red 2sun 3dog: red sun dog`: each word with its number."""
    words = problem.witness.split(problem.facts["glue"])
    return " ".join(f"{i}{word}" for i, word in enumerate(words, 1)) + ": " + problem.witness
