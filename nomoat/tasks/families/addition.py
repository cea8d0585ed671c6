"""Addition and subtraction of whole numbers, digit by digit from the right.

Level: 1 + level // 2 digits; odd levels subtract half of the time, even levels never.  Level 1 holds 110
problems and level 2 holds 4,095: small; the others are large.
"""

from nomoat.tasks.base import Problem, Rng, ask, check, others

levels = (1, 2, 3, 4, 5, 6, 7)

WORDINGS = {
    "en": ("What is {sum}?", "Calculate {sum}.", "{sum}=?", "How much is {sum}?"),
    "de": ("Was ist {sum}?", "Berechne {sum}.", "{sum}=?", "Wie viel ist {sum}?"),
}


def make(rng: Rng, level: int) -> Problem:
    power = 10 ** (level // 2)
    low = power if level > 1 else 0
    a, b = (rng.randint(low, 10 * power - 1) for _ in range(2))
    op = rng.choice("+-") if level % 2 else "+"
    small, big = sorted((a, b))
    answer = a + b
    if op == "-":
        a, b = big, small
        answer = a - b
    facts = {"a": a, "b": b, "op": op}
    return ask(rng, WORDINGS, f"addition {big}{op}{small}", str(answer), facts, sum=f"{a}{op}{b}")


def near_misses(problem: Problem) -> list[str]:
    a, b, right = problem.facts["a"], problem.facts["b"], int(problem.witness)
    return others(
        problem, right + 1, right - 1, right + 10, a, f"{a}+{b}", f"0{right}", f"+{right}", f"{right}.0"
    )


def work(problem: Problem) -> str:
    """`7+2+0=09,4+9+0=13:139` (carry, digit) or `2-8-0=4-10,5-3-1=1-00:14` (digit, borrow)."""
    facts = problem.facts
    steps, carry = [], 0
    for x, y in zip(reversed(str(facts["a"])), reversed(str(facts["b"]))):
        if facts["op"] == "+":
            total = int(x) + int(y) + carry
            steps.append(f"{x}+{y}+{carry}={total:02d}")
            carry = total // 10
        else:
            total = int(x) - int(y) - carry
            borrow = int(total < 0)
            steps.append(f"{x}-{y}-{carry}={total + 10 * borrow}-{borrow}0")
            carry = borrow
    return ",".join(steps) + ":" + problem.witness
