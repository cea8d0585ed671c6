"""Boolean: evaluate a row of and, or, not from left to right.

Level = the number of variables.  A level holds 2^(3 level - 1) problems: the levels below 5 are small.
"""

from nomoat.tasks.base import Problem, Rng, check, language, others

levels = (3, 4, 5, 6, 7)

WORDINGS = {
    "en": (
        "Given:{given}. True or false, read from left to right:{row}?",
        "Suppose{given}. Read from left to right, what is{row}?",
    ),
    "de": (
        "Gegeben:{given}. Wahr oder falsch, von links nach rechts gelesen:{row}?",
        "Angenommen,{given}. Von links nach rechts gelesen, was ist{row}?",
    ),
}
VALUES = {"en": (" false", " true"), "de": (" falsch", " wahr")}
Term = tuple[str, int, str, int]  # operator, whether negated, name, value
IS = {"en": " is", "de": " ist"}
OPERATORS = {
    "en": {"": "", "and": " and", "or": " or", "not": " not"},
    "de": {"": "", "and": " und", "or": " oder", "not": " nicht"},
}


def make(rng: Rng, level: int) -> Problem:
    ops = [rng.choice(("and", "or")) for _ in range(level - 1)]
    nots, values = ([rng.randrange(2) for _ in range(level)] for _ in range(2))
    names = rng.sample("pqrstuvw", level)
    order = rng.sample(range(level), level)
    lang = language(rng)
    terms = list(zip(["", *ops], nots, names, values))
    given = ",".join(f" {names[i]}{IS[lang]}{VALUES[lang][values[i]]}" for i in order)
    row = "".join(said(term, lang) for term in terms)
    return Problem(
        rng.choice(WORDINGS[lang]).format(given=given, row=row),
        f"boolean {ops} {nots} {values}",
        VALUES[lang][states(terms)[-1]],
        {
            "lang": lang,
            "terms": terms,
        },
    )


def said(term: Term, lang: str) -> str:
    op, negated, name, _ = term
    operators = OPERATORS[lang]
    return operators[op] + operators["not" if negated else ""] + f" {name}"


def states(terms: list[Term]) -> list[int]:
    """The truth after each term."""
    out = []
    for op, negated, _, value in terms:
        value ^= negated
        out.append(value if not op else out[-1] & value if op == "and" else out[-1] | value)
    return out


def near_misses(problem: Problem) -> list[str]:
    name = problem.facts["terms"][0][2]
    return others(problem, *VALUES["en"], *VALUES["de"], "0", "1", "true or false", name)


def work(problem: Problem) -> str:
    """` p true = true and not q false = true`: each term, its variable's value, the truth so far."""
    lang, terms = problem.facts["lang"], problem.facts["terms"]
    value = VALUES[lang]
    steps = zip(terms, states(terms))
    return "".join(f"{said(term, lang)}{value[term[3]]} ={value[truth]}" for term, truth in steps)
