"""Ordering: who is tallest, shortest or second tallest, from comparisons of two at a time?

Level: 2 + level // 2 people; at odd levels above 1 a comparison may be told either way ("shorter than").
Level 1 holds 480 problems: small; the others are large.
"""

from nomoat.tasks.base import Problem, Rng, check, language, others, words

levels = (1, 2, 3, 4, 5, 6, 7)

PEOPLE = (
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hans", "Ida", "Jan", "Karl", "Lena", "Max", "Nora",
    "Otto", "Paul",
)  # fmt: skip


def make(rng: Rng, level: int) -> Problem:
    size = 2 + level // 2
    order = rng.sample(PEOPLE, size)
    place = rng.choice((0, 1, -1) if size > 2 else (0, -1))
    low = high = rng.randrange(size)
    told = []  # each comparison joins the row of people known so far, at one of its ends
    while high - low < size - 1:
        up = high == size - 1 or (low > 0 and rng.random() < 0.5)
        low, high, pair = (low - 1, high, (low - 1, low)) if up else (low, high + 1, (high, high + 1))
        told.append((order[pair[0]], order[pair[1]], int(level % 2 == 1 and level > 1 and rng.random() < 0.5)))
    lang = language(rng)
    says = words("ordering", lang)
    text = " ".join(says["than"][turned].format(above, below) for above, below, turned in told)
    prompt = " ".join((text, rng.choice(says["ask"][place])))
    facts = {"lang": lang, "told": told, "order": order}
    return Problem(prompt, f"ordering {order} {place}", f" {order[place]}", facts)


def near_misses(problem: Problem) -> list[str]:
    order = problem.facts["order"]
    return others(problem, *order, " ".join(order), f"{order[0]} {order[1]}", next(p for p in PEOPLE if p not in order))


def work(problem: Problem) -> str:
    """` Anna Ben; Clara Anna: Clara Anna Ben = Clara`: each comparison, tallest first, and the row it makes."""
    row: list[str] = []
    steps = []
    for above, below, _ in problem.facts["told"]:
        row = [above, *row] if row and row[0] == below else [*row, below] if row else [above, below]
        steps.append(f" {above} {below}" + (":" + "".join(f" {p}" for p in row) if len(row) > 2 else ""))
    return ";".join(steps) + " =" + problem.witness
