"""Due dates: until when an invoice has to be paid, as an ISO date.

Level 1: the invoice's date as it stands (payable at once).  Level 2: some days later, in the same month.
Level 3: some days later, in the next month or year.  In English alone.
"""

import calendar
import datetime
import random

from nomoat.tasks.base import Problem, others, same

levels = (1, 2, 3)

TERMS = (5, 7, 10, 14, 20, 21, 28)
WORDINGS = (
    "Invoice of {date}, payable {term}. When is it due? (YYYY-MM-DD)",
    "An invoice is dated {date}. It is payable {term}. Give the due date as YYYY-MM-DD.",
    "Due date (YYYY-MM-DD) of an invoice of {date}, payable {term}?",
)


def make(rng: random.Random, level: int) -> Problem:
    year = rng.randint(2020, 2029)
    month = rng.randint(1, 12)
    length = calendar.monthrange(year, month)[1]
    days = rng.choice(TERMS)
    if level == 1:
        days, day = 0, rng.randint(1, length)
    elif level == 2:
        days = rng.choice([term for term in TERMS if term < length])
        day = rng.randint(1, length - days)
    else:
        day = rng.randint(length - days + 1, length)
    issued = datetime.date(year, month, day)
    due = issued + datetime.timedelta(days=days)
    date = f"{day} {calendar.month_name[month]} {year}"
    term = f"within {days} days" if days else "at once"
    prompt = rng.choice(WORDINGS).format(date=date, term=term)
    facts = {"lang": "en", "issued": issued, "days": days, "length": length}
    key = f"due {issued} {days}"
    return Problem(prompt, key, due.isoformat(), facts)


def check(problem: Problem, answer: str) -> bool:
    return same(answer, problem.witness)


def near_misses(problem: Problem) -> list[str]:
    due = datetime.date.fromisoformat(problem.witness)
    day = datetime.timedelta(days=1)
    return others(
        problem,
        due + day,
        due - day,
        problem.facts["issued"],
        due.strftime("%d.%m.%Y"),
        due.strftime("%Y-%d-%m"),
        f"{due.day} {calendar.month_name[due.month]} {due.year}",
        f"{due.year}-{due.month}-{due.day}",
    )


def work(problem: Problem) -> str:
    """`March is 03,25+14=39,it has 31,39-31=8,next is 04: 2025-04-08`."""
    issued, days, length = (problem.facts[name] for name in ("issued", "days", "length"))
    month = issued.month
    steps = [f"{calendar.month_name[month]} is {month:02}"]
    if days:
        total = issued.day + days
        steps.append(f"{issued.day}+{days}={total}")
        if total > length:
            steps += [f"it has {length}", f"{total}-{length}={total - length}"]
            steps.append(f"next is {month % 12 + 1:02}")
    return f"{','.join(steps)}: {problem.witness}"
