"""Clock: minutes between two times of a day, or the time some minutes later.

Level 1: within an hour.  Level 2: over full hours, no day's end.  Level 3: over midnight.
"""

from nomoat.tasks.base import Problem, Rng, check, language, others, words

levels = (1, 2, 3)

told = lambda minutes: f"{minutes // 60 % 24:02d}.{minutes % 60:02d}"


def make(rng: Rng, level: int) -> Problem:
    kind = rng.choice(("between", "later"))
    hour, minute = rng.randrange(24), rng.randrange(58)
    n = rng.randint(2, 59 - minute)
    if level > 1:
        n = rng.randint(61, 180)
        hour = rng.randrange(20) if level == 2 else 23
    start = hour * 60 + minute
    lang = language(rng)
    a, b = told(start), told(start + n)
    prompt = rng.choice(words("clock", lang)[kind]).format(a=a, b=b, n=n)
    facts = {"lang": lang, "start": start, "n": n, "kind": kind}
    return Problem(prompt, f"clock {kind} {start} {n}", str(n) if kind == "between" else b, facts)


def near_misses(problem: Problem) -> list[str]:
    start, n = problem.facts["start"], problem.facts["n"]
    if problem.facts["kind"] == "between":
        return others(problem, n + 1, n - 1, n + 60, f"{n} min", told(start + n))
    return others(problem, told(start + n + 1), told(start + n - 60), told(start), n, problem.witness.replace(".", ""))


def work(problem: Problem) -> str:
    """`22.50+10=23.00+60=00.00+5=00.05, 10+60+5=75: 75`: from full hour to full hour."""
    start, left, parts = problem.facts["start"], problem.facts["n"], []
    steps = [told(start)]
    while left:
        part = min(left, 60 - start % 60)
        start, left = start + part, left - part
        parts.append(part)
        steps.append(f"+{part}={told(start)}")
    text = "".join(steps)
    if problem.facts["kind"] == "between":
        text += ", " + "+".join(map(str, parts)) + f"={problem.facts['n']}"
    return f"{text}: {problem.witness}"
