"""Weekday: which day is some number of days after or before another?

Level = the digits of that number.  Level 1 holds 126 problems, level 2 holds 1,260: small; the others are
large.
"""

from nomoat.tasks.base import Problem, Rng, check, language, others

levels = (1, 2, 3, 4)

AFTER = {
    "en": ("What day is {n} days after {day}?", "Today is {day}. What day is it in {n} days?"),
    "de": ("Welcher Tag ist {n} Tage nach {day}?", "Heute ist {day}. Welcher Tag ist in {n} Tagen?"),
}
BEFORE = {
    "en": ("What day is {n} days before {day}?", "Today is {day}. What day was it {n} days ago?"),
    "de": ("Welcher Tag ist {n} Tage vor {day}?", "Heute ist {day}. Welcher Tag war vor {n} Tagen?"),
}
DAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "de": ("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"),
}


def make(rng: Rng, level: int) -> Problem:
    n = rng.randint(10 ** (level - 1), 10**level - 1)
    day = rng.randrange(7)
    sign = rng.choice((1, -1))
    lang = language(rng)
    wordings, days = AFTER if sign > 0 else BEFORE, DAYS[lang]
    return Problem(
        rng.choice(wordings[lang]).format(n=n, day=days[day]),
        f"weekday {day} {sign * n:+d}",
        " " + days[(day + sign * n) % 7],
        {"lang": lang, "day": day, "n": n, "sign": sign},
    )


def near_misses(problem: Problem) -> list[str]:
    return others(problem, *DAYS["en"], *DAYS["de"], "Monday or Tuesday", problem.facts["n"])


def work(problem: Problem) -> str:
    """`03:3,34:6,65:2;0 Monday1 Tuesday2 Wednesday`: n % 7 digit by digit, then a walk of that many days."""
    facts = problem.facts
    rest, steps = 0, []
    for digit in str(facts["n"]):
        before, rest = rest, (rest * 10 + int(digit)) % 7
        steps.append(f"{before}{digit}:{rest}")
    days = DAYS[facts["lang"]]
    walk = ""
    for i in range(rest + 1):
        day = facts["day"] + facts["sign"] * i
        walk += f"{i} {days[day % 7]}"
    return ",".join(steps) + ";" + walk
