"""Boolean: evaluate a row of and, or, not from left to right.

Level = the number of variables.  A level holds 2^(3 level - 1) problems: the levels below 5 are small.
"""

import random

from nomoat.tasks.base import Problem, check, language, others

levels = (3, 4, 5, 6, 7)

VALUES = {"en": (" false", " true"), "de": (" falsch", " wahr")}
IS = {"en": " is", "de": " ist"}
OPS = {"en": {"and": " and", "or": " or", "not": " not"}, "de": {"and": " und", "or": " oder", "not": " nicht"}}
WORDINGS = {
    "en": ("Given:{given}. True or false, read from left to right:{row}?",
           "Suppose{given}. Read from left to right, what is{row}?"),
    "de": ("Gegeben:{given}. Wahr oder falsch, von links nach rechts gelesen:{row}?",
           "Angenommen,{given}. Von links nach rechts gelesen, was ist{row}?"),
}  # fmt: skip


def make(rng: random.Random, level: int) -> Problem:
    ops = [rng.choice(("and", "or")) for _ in range(level - 1)]
    nots = [rng.randrange(2) for _ in range(level)]
    values = [rng.randrange(2) for _ in range(level)]
    names = rng.sample("pqrstuvw", level)
    told = rng.sample(range(level), level)
    lang = language(rng)
    given = ",".join(f" {names[i]}{IS[lang]}{VALUES[lang][values[i]]}" for i in told)
    terms = list(zip(["", *ops], nots, names, values))
    prompt = rng.choice(WORDINGS[lang]).format(given=given, row="".join(told_term(t, lang) for t in terms))
    witness = VALUES[lang][states(terms)[-1]]
    return Problem(prompt, f"boolean {ops} {nots} {values}", witness, {"lang": lang, "terms": terms})


def told_term(term: tuple[str, int, str, int], lang: str) -> str:
    op, negated, name, _ = term
    return (OPS[lang][op] if op else "") + (OPS[lang]["not"] if negated else "") + f" {name}"


def states(terms: list[tuple[str, int, str, int]]) -> list[int]:
    """The truth after each term."""
    out: list[int] = []
    for op, negated, _, value in terms:
        value ^= negated
        out.append(value if not op else out[-1] & value if op == "and" else out[-1] | value)
    return out


def near_misses(problem: Problem) -> list[str]:
    both = VALUES["en"] + VALUES["de"]
    return others(problem, *both, "0", "1", "true or false", problem.facts["terms"][0][2])


def work(problem: Problem) -> str:
    """` p true = true and not q false = true`: each term, its variable's value, the truth so far."""
    lang, terms = problem.facts["lang"], problem.facts["terms"]
    truths = zip(terms, states(terms))
    return "".join(f"{told_term(term, lang)}{VALUES[lang][term[3]]} ={VALUES[lang][truth]}" for term, truth in truths)
