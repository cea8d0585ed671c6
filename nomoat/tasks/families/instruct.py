"""Instruct: write words of one's own choice under instructions that a program can check.

Level 1: how many words, the first and the last.  Level 2: also what stands between them.  Level 3: also the
case.
"""

import re

from nomoat.tasks.base import Problem, Rng, bare, language, others, same

levels = (1, 2, 3)

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
BETWEEN = {"en": " with {} between them", "de": " mit {} dazwischen"}
GLUES = {
    "en": {" ": "spaces", "-": "hyphens", ",": "commas", "+": "plus"},
    "de": {" ": "Leerzeichen", "-": "Bindestrichen", ",": "Kommas", "+": "Plus"},
}
LETTERS = {
    "en": {None: "", "lower": ", in small letters", "upper": ", in capitals"},
    "de": {None: "", "lower": ", in Kleinbuchstaben", "upper": ", in Großbuchstaben"},
}
WORDS = (
    "arm", "hand", "ball", "ring", "gold", "wolf", "wind", "sand", "bus", "film", "park", "name", "text",
    "tiger",
)  # fmt: skip
GLUE = (" ", "-", ",", "+")
CASES = ("lower", "upper")


def make(rng: Rng, level: int) -> Problem:
    n = rng.randint(2, 6)
    first, last = rng.sample(WORDS, 2)
    glue = rng.choice(GLUE) if level > 1 else " "
    case = rng.choice(CASES) if level > 2 else None
    lang = language(rng)
    asked = {
        "n": n,
        "first": first,
        "last": last,
    }
    between = BETWEEN[lang].format(GLUES[lang][glue]) if level > 1 else ""
    prompt = rng.choice(WORDINGS[lang]).format(**asked, glue=between, case=LETTERS[lang][case])
    at = WORDS.index(first)
    middle = [word for word in WORDS[at + 1 :] + WORDS[:at] if word != last]
    witness = glue.join([first, *middle[: n - 2], last])
    return Problem(
        prompt,
        f"instruct {n} {first} {last} {glue} {case}",
        witness.upper() if case == "upper" else witness,
        {"lang": lang, **asked, "glue": glue, "case": case},
    )


def check(problem: Problem, answer: str) -> bool:
    """Whether the words, whatever they are, keep every instruction; what was not asked for is free."""
    asked = problem.facts
    text = bare(answer)
    words = text.split(asked["glue"])
    if asked["glue"] != " ":
        words = [word.strip(" ") for word in words]
    if len(words) != asked["n"] or not all(re.fullmatch(r"[^\W\d_]+", word) for word in words):
        return False
    case = {None: True, "lower": text.islower(), "upper": text.isupper()}
    if not case[asked["case"]]:
        return False
    return same(words[0], asked["first"]) and same(words[-1], asked["last"])


def near_misses(problem: Problem) -> list[str]:
    glue, right = problem.facts["glue"], problem.witness
    words = right.split(glue)
    return others(
        problem,
        glue.join([words[0], *words]),
        glue.join(words[1:]),
        glue.join(words[::-1]),
        right + glue,
        right.swapcase() + glue + "x",
        ("|" if glue == " " else " ").join(words),
    )


def work(problem: Problem) -> str:
    """`1red 2sun 3dog: red sun dog`: each word with its number."""
    words = problem.witness.split(problem.facts["glue"])
    return " ".join(f"{i}{word}" for i, word in enumerate(words, 1)) + ": " + problem.witness
