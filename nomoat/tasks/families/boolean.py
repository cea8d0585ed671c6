"""Boolean: evaluate a row of and, or, not from left to right.

Level = the number of variables.  A level holds 2^(3 level - 1) problems: the levels below 5 are small.
"""

from nomoat.tasks.base import Problem, Rng, check, language, others, words

levels = (3, 4, 5, 6, 7)


def make(rng: Rng, level: int) -> Problem:
    ops = [rng.choice(("and", "or")) for _ in range(level - 1)]
    nots = [rng.randrange(2) for _ in range(level)]
    values = [rng.randrange(2) for _ in range(level)]
    names = rng.sample("pqrstuvw", level)
    told = rng.sample(range(level), level)
    lang = language(rng)
    says = words("boolean", lang)
    given = ",".join(f" {names[i]}{says['is']}{says['values'][values[i]]}" for i in told)
    terms = list(zip(["", *ops], nots, names, values))
    prompt = rng.choice(says["ask"]).format(given=given, row="".join(told_term(t, says) for t in terms))
    witness = says["values"][states(terms)[-1]]
    return Problem(prompt, f"boolean {ops} {nots} {values}", witness, {"lang": lang, "terms": terms})


def told_term(term: tuple[str, int, str, int], says: dict) -> str:
    op, negated, name, _ = term
    return (says[op] if op else "") + (says["not"] if negated else "") + f" {name}"


def states(terms: list[tuple[str, int, str, int]]) -> list[int]:
    """The truth after each term."""
    out: list[int] = []
    for op, negated, _, value in terms:
        value ^= negated
        out.append(value if not op else out[-1] & value if op == "and" else out[-1] | value)
    return out


def near_misses(problem: Problem) -> list[str]:
    both = words("boolean", "en")["values"] + words("boolean", "de")["values"]
    return others(problem, *both, "0", "1", "true or false", problem.facts["terms"][0][2])


def work(problem: Problem) -> str:
    """` p true = true and not q false = true`: each term, its variable's value, the truth so far."""
    says, terms = words("boolean", problem.facts["lang"]), problem.facts["terms"]
    value = says["values"]
    return "".join(f"{told_term(t, says)}{value[t[3]]} ={value[truth]}" for t, truth in zip(terms, states(terms)))
