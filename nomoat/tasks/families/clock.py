"""Clock: minutes between two times of a day, or the time some minutes later.

Level 1: within an hour.  Level 2: over full hours, no day's end.  Level 3: over midnight.
"""

from nomoat.tasks.base import Problem, Rng, ask, check, others

levels = (1, 2, 3)

WORDINGS = {
    "between": {
        "en": ("How many minutes is it from {a} to {b}?", "It is {a}. In how many minutes is it {b}?"),
        "de": ("Wie viele Minuten sind es von {a} bis {b}?", "Es ist {a}. In wie vielen Minuten ist es {b}?"),
    },
    "later": {
        "en": ("It is {a}. What time is it {n} minutes later?", "Which time is {n} minutes after {a}?"),
        "de": ("Es ist {a}. Wie spät ist es {n} Minuten später?", "Welche Uhrzeit ist {n} Minuten nach {a}?"),
    },
}


def time(minutes: int) -> str:
    return f"{minutes // 60 % 24:02d}.{minutes % 60:02d}"


def make(rng: Rng, level: int) -> Problem:
    kind = rng.choice(list(WORDINGS))
    hour, minute = rng.randrange(24), rng.randrange(58)
    n = rng.randint(2, 59 - minute)
    if level > 1:
        n = rng.randint(61, 180)
        hour = rng.randrange(20) if level == 2 else 23
    start = hour * 60 + minute
    end = time(start + n)
    key, witness = f"clock {kind} {start} {n}", str(n) if kind == "between" else end
    facts = {"start": start, "n": n, "kind": kind}
    return ask(rng, WORDINGS[kind], key, witness, facts, a=time(start), b=end, n=n)


def near_misses(problem: Problem) -> list[str]:
    start, n = problem.facts["start"], problem.facts["n"]
    if problem.facts["kind"] == "between":
        return others(problem, n + 1, n - 1, n + 60, f"{n} min", time(start + n))
    wrong = time(start + n + 1), time(start + n - 60), time(start), n, problem.witness.replace(".", "")
    return others(problem, *wrong)


def work(problem: Problem) -> str:
    """`22.50+10=23.00+60=00.00+5=00.05, 10+60+5=75: 75`: from full hour to full hour."""
    now, n = problem.facts["start"], problem.facts["n"]
    end, parts, chain = now + n, [], time(now)
    while now < end:
        part = min(end - now, 60 - now % 60)
        now += part
        parts.append(str(part))
        chain += f"+{part}={time(now)}"
    if problem.facts["kind"] == "between":
        chain += f", {'+'.join(parts)}={n}"
    return f"{chain}: {problem.witness}"
