"""Instruct: write words of one's own choice under instructions that a program can check.

Level 1: how many words, the first and the last.  Level 2: also what stands between them.  Level 3: also the case.
"""

import random
import re

from nomoat.tasks.base import Problem, language, others, same

levels = (1, 2, 3)

WORDS = ("arm", "hand", "ball", "ring", "gold", "wolf", "wind", "sand", "bus", "film", "park", "name", "text", "tiger")
GLUE = {" ": ("spaces", "Leerzeichen"), "-": ("hyphens", "Bindestrichen"), ",": ("commas", "Kommas"), "+": ("plus", "Plus")}
CASES = {"lower": ("small letters", "Kleinbuchstaben"), "upper": ("capitals", "Großbuchstaben")}
WORDINGS = {
    "en": ("Write {n} words{glue}{case}. The first is {first}, the last is {last}.",
           "From {first} to {last}: write {n} words{glue}{case}."),
    "de": ("Schreibe {n} Wörter{glue}{case}. Das erste ist {first}, das letzte ist {last}.",
           "Von {first} bis {last}: schreibe {n} Wörter{glue}{case}."),
}  # fmt: skip
WITH = {"en": (" with {} between them", ", in {}"), "de": (" mit {} dazwischen", ", in {}")}


def make(rng: random.Random, level: int) -> Problem:
    n = rng.randint(2, 6)
    first, last = rng.sample(WORDS, 2)
    glue = rng.choice(list(GLUE)) if level > 1 else " "
    case = rng.choice(list(CASES)) if level > 2 else None
    lang = language(rng)
    between = WITH[lang][0].format(GLUE[glue][lang == "de"]) if level > 1 else ""
    letters = WITH[lang][1].format(CASES[case][lang == "de"]) if level > 2 else ""
    prompt = rng.choice(WORDINGS[lang]).format(n=n, first=first, last=last, glue=between, case=letters)
    at = WORDS.index(first)
    words = [first, *[w for w in WORDS[at + 1 :] + WORDS[:at] if w != last][: n - 2], last]
    witness = glue.join(words)
    facts = {"lang": lang, "n": n, "first": first, "last": last, "glue": glue, "case": case}
    key = f"instruct {n} {first} {last} {glue} {case}"
    return Problem(prompt, key, witness.upper() if case == "upper" else witness, facts)


def check(problem: Problem, answer: str) -> bool:
    """Whether the words, whatever they are, keep every instruction; what was not asked for is free."""
    f = problem.facts
    text = answer.strip(" \t\r\n").removesuffix(".") if len(answer) <= 200 else ""
    words = [word if f["glue"] == " " else word.strip(" ") for word in text.split(f["glue"])]
    if len(words) != f["n"] or not all(re.fullmatch(r"[^\W\d_]+", word) for word in words):
        return False
    cased = f["case"] is None or (text.isupper() if f["case"] == "upper" else text.islower())
    return cased and same(words[0], f["first"]) and same(words[-1], f["last"])


def near_misses(problem: Problem) -> list[str]:
    glue = problem.facts["glue"]
    words = problem.witness.split(glue)
    return others(problem, glue.join([words[0], *words]), glue.join(words[1:]), glue.join(words[::-1]), problem.witness + glue,
                  problem.witness.swapcase() + glue + "x", ("|" if glue == " " else " ").join(words))  # fmt: skip


def work(problem: Problem) -> str:
    """`1red 2sun 3dog: red sun dog`: each word with its number."""
    words = problem.witness.split(problem.facts["glue"])
    return " ".join(f"{i}{word}" for i, word in enumerate(words, 1)) + ": " + problem.witness
