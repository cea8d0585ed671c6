"""Instruct: write words of one's own choice under instructions that a program can check.

Level 1: how many words, the first and the last.  Level 2: also what stands between them.  Level 3: also the case.
"""

import re

from nomoat.tasks.base import Problem, Rng, language, others, same, words

levels = (1, 2, 3)

WORDS = ("arm", "hand", "ball", "ring", "gold", "wolf", "wind", "sand", "bus", "film", "park", "name", "text", "tiger")
GLUE = (" ", "-", ",", "+")
CASES = ("lower", "upper")


def make(rng: Rng, level: int) -> Problem:
    n = rng.randint(2, 6)
    first, last = rng.sample(WORDS, 2)
    glue = rng.choice(GLUE) if level > 1 else " "
    case = rng.choice(CASES) if level > 2 else None
    lang = language(rng)
    says = words("instruct", lang)
    between = says["with"].format(says["glue"][glue]) if level > 1 else ""
    letters = says["in"].format(says["case"][case]) if level > 2 else ""
    prompt = rng.choice(says["ask"]).format(n=n, first=first, last=last, glue=between, case=letters)
    at = WORDS.index(first)
    witness = glue.join([first, *[w for w in WORDS[at + 1 :] + WORDS[:at] if w != last][: n - 2], last])
    facts = {"lang": lang, "n": n, "first": first, "last": last, "glue": glue, "case": case}
    key = f"instruct {n} {first} {last} {glue} {case}"
    return Problem(prompt, key, witness.upper() if case == "upper" else witness, facts)


def check(problem: Problem, answer: str) -> bool:
    """Whether the words, whatever they are, keep every instruction; what was not asked for is free."""
    f = problem.facts
    text = answer.strip(" \t\r\n").removesuffix(".") if len(answer) <= 200 else ""
    parts = [word if f["glue"] == " " else word.strip(" ") for word in text.split(f["glue"])]
    if len(parts) != f["n"] or not all(re.fullmatch(r"[^\W\d_]+", word) for word in parts):
        return False
    cased = f["case"] is None or (text.isupper() if f["case"] == "upper" else text.islower())
    return cased and same(parts[0], f["first"]) and same(parts[-1], f["last"])


def near_misses(problem: Problem) -> list[str]:
    glue = problem.facts["glue"]
    parts = problem.witness.split(glue)
    return others(problem, glue.join([parts[0], *parts]), glue.join(parts[1:]), glue.join(parts[::-1]), problem.witness + glue,
                  problem.witness.swapcase() + glue + "x", ("|" if glue == " " else " ").join(parts))  # fmt: skip


def work(problem: Problem) -> str:
    """`1red 2sun 3dog: red sun dog`: each word with its number."""
    parts = problem.witness.split(problem.facts["glue"])
    return " ".join(f"{i}{word}" for i, word in enumerate(parts, 1)) + ": " + problem.witness
