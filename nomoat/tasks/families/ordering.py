"""Ordering: who is tallest, shortest or second tallest, from comparisons of two at a time?

Level: 2 + level // 2 people; at odd levels above 1 a comparison may be told either way ("shorter than").
Level 1 holds 480 problems: small; the others are large.
"""

from nomoat.tasks.base import Problem, Rng, check, language, others

levels = (1, 2, 3, 4, 5, 6, 7)

PEOPLE = (
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hans", "Ida", "Jan", "Karl", "Lena", "Max",
    "Nora", "Otto", "Paul",
)  # fmt: skip
WORDINGS = {  # who is first, second and last
    "en": (
        ("Who is tallest?", "Who is the tallest?"),
        ("Who is second tallest?", "Who is the second tallest?"),
        ("Who is shortest?", "Who is the shortest?"),
    ),
    "de": (
        ("Wer ist am größten?", "Wer ist die größte Person?"),
        ("Wer ist am zweitgrößten?", "Wer ist die zweitgrößte Person?"),
        ("Wer ist am kleinsten?", "Wer ist die kleinste Person?"),
    ),
}
THAN = {
    "en": ("{0} is taller than {1}.", "{1} is shorter than {0}."),
    "de": ("{0} ist größer als {1}.", "{1} ist kleiner als {0}."),
}


def make(rng: Rng, level: int) -> Problem:
    size = 2 + level // 2
    order = rng.sample(PEOPLE, size)
    place = rng.choice((0, 1, -1) if size > 2 else (0, -1))
    may_turn = level > 1 and level % 2 == 1
    low = high = rng.randrange(size)
    # each comparison joins the row of people compared so far, at one of its ends
    comparisons = []
    while high - low < size - 1:
        if high == size - 1 or (low > 0 and rng.random() < 0.5):
            low -= 1
            above = low
        else:
            above = high
            high += 1
        turned = may_turn and rng.random() < 0.5
        comparisons.append((order[above], order[above + 1], int(turned)))
    lang = language(rng)
    sentences = [THAN[lang][turned].format(above, below) for above, below, turned in comparisons]
    question = rng.choice(WORDINGS[lang][place])
    facts = {"lang": lang, "comparisons": comparisons, "order": order}
    key = f"ordering {order} {place}"
    return Problem(" ".join([*sentences, question]), key, f" {order[place]}", facts)


def near_misses(problem: Problem) -> list[str]:
    order = problem.facts["order"]
    stranger = next(person for person in PEOPLE if person not in order)
    return others(problem, *order, " ".join(order), f"{order[0]} {order[1]}", stranger)


def work(problem: Problem) -> str:
    """` Anna Ben; Clara Anna: Clara Anna Ben = Clara`: each comparison, tallest first, and its row."""
    row = []
    steps = []
    for above, below, _ in problem.facts["comparisons"]:
        step = f" {above} {below}"
        if not row:
            row = [above, below]
        else:
            row = [above, *row] if row[0] == below else [*row, below]
            step += ": " + " ".join(row)
        steps.append(step)
    return ";".join(steps) + " =" + problem.witness
