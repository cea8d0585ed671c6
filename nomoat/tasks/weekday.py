"""Weekday: which day is some number of days after or before another?

Level = the digits of that number.  Level 1 holds 126 problems, level 2 holds 1,260: small; the others are large.
"""

import random

from nomoat.tasks.base import Problem, check, language, others

levels = (1, 2, 3, 4)

DAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "de": ("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"),
}
WORDINGS = {
    ("en", 1): ("What day is {n} days after {day}?", "Today is {day}. What day is it in {n} days?"),
    ("en", -1): ("What day is {n} days before {day}?", "Today is {day}. What day was it {n} days ago?"),
    ("de", 1): ("Welcher Tag ist {n} Tage nach {day}?", "Heute ist {day}. Welcher Tag ist in {n} Tagen?"),
    ("de", -1): ("Welcher Tag ist {n} Tage vor {day}?", "Heute ist {day}. Welcher Tag war vor {n} Tagen?"),
}


def make(rng: random.Random, level: int) -> Problem:
    n = rng.randint(10 ** (level - 1), 10**level - 1)
    day, sign = rng.randrange(7), rng.choice((1, -1))
    lang = language(rng)
    prompt = rng.choice(WORDINGS[lang, sign]).format(n=n, day=DAYS[lang][day])
    witness = " " + DAYS[lang][(day + sign * n) % 7]
    return Problem(prompt, f"weekday {day} {sign * n:+d}", witness, {"lang": lang, "day": day, "n": n, "sign": sign})


def near_misses(problem: Problem) -> list[str]:
    return others(problem, *DAYS["en"], *DAYS["de"], "Monday or Tuesday", problem.facts["n"])


def work(problem: Problem) -> str:
    """`03:3,34:6,65:2;0 Monday1 Tuesday2 Wednesday`: modulo 7 digit by digit, then a walk of that many days."""
    rest, steps = 0, []
    for digit in str(problem.facts["n"]):
        before, rest = rest, (rest * 10 + int(digit)) % 7
        steps.append(f"{before}{digit}:{rest}")
    days, day, sign = DAYS[problem.facts["lang"]], problem.facts["day"], problem.facts["sign"]
    return ",".join(steps) + ";" + "".join(f"{i} {days[(day + sign * i) % 7]}" for i in range(rest + 1))
