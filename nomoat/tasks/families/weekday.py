"""Weekday: which day is some number of days after or before another?

Level = the digits of that number.  Level 1 holds 126 problems, level 2 holds 1,260: small; the others are large.
"""

from nomoat.tasks.base import Problem, Rng, check, language, others, words

levels = (1, 2, 3, 4)


def make(rng: Rng, level: int) -> Problem:
    n = rng.randint(10 ** (level - 1), 10**level - 1)
    day, sign = rng.randrange(7), rng.choice((1, -1))
    lang = language(rng)
    says = words("weekday", lang)
    prompt = rng.choice(says["after" if sign > 0 else "before"]).format(n=n, day=says["days"][day])
    witness = " " + says["days"][(day + sign * n) % 7]
    return Problem(prompt, f"weekday {day} {sign * n:+d}", witness, {"lang": lang, "day": day, "n": n, "sign": sign})


def near_misses(problem: Problem) -> list[str]:
    days = words("weekday", "en")["days"] + words("weekday", "de")["days"]
    return others(problem, *days, "Monday or Tuesday", problem.facts["n"])


def work(problem: Problem) -> str:
    """`03:3,34:6,65:2;0 Monday1 Tuesday2 Wednesday`: modulo 7 digit by digit, then a walk of that many days."""
    rest, steps = 0, []
    for digit in str(problem.facts["n"]):
        before, rest = rest, (rest * 10 + int(digit)) % 7
        steps.append(f"{before}{digit}:{rest}")
    days, day, sign = words("weekday", problem.facts["lang"])["days"], problem.facts["day"], problem.facts["sign"]
    return ",".join(steps) + ";" + "".join(f"{i} {days[(day + sign * i) % 7]}" for i in range(rest + 1))
