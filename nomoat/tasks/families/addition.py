"""Addition and subtraction of whole numbers, digit by digit from the right.

Level: 1 + level // 2 digits; odd levels subtract half of the time, even levels never.  Level 1 holds 110 problems and
level 2 holds 4,095: small; the others are large.
"""

from nomoat.tasks.base import Problem, Rng, ask, check, others

levels = (1, 2, 3, 4, 5, 6, 7)


def make(rng: Rng, level: int) -> Problem:
    digits = 1 + level // 2
    low = 10 ** (digits - 1) if digits > 1 else 0
    a, b = rng.randint(low, 10**digits - 1), rng.randint(low, 10**digits - 1)
    op = rng.choice("+-") if level % 2 else "+"
    small, big = sorted((a, b))
    if op == "-":
        a, b = big, small
    lang, prompt = ask(rng, "addition", sum=f"{a}{op}{b}")
    answer = a - b if op == "-" else a + b
    return Problem(prompt, f"addition {big}{op}{small}", str(answer), {"lang": lang, "a": a, "b": b, "op": op})


def near_misses(problem: Problem) -> list[str]:
    a, b, right = problem.facts["a"], problem.facts["b"], int(problem.witness)
    return others(problem, right + 1, right - 1, right + 10, a, f"{a}+{b}", f"0{right}", f"+{right}", f"{right}.0")


def work(problem: Problem) -> str:
    """`7+2+0=09,4+9+0=13:139` (carry, digit) or `2-8-0=4-10,5-3-1=1-00:14` (digit, borrow)."""
    a, b, op = str(problem.facts["a"]), str(problem.facts["b"]), problem.facts["op"]
    steps, carry = [], 0
    for x, y in zip(map(int, reversed(a)), map(int, reversed(b))):
        if op == "+":
            total = x + y + carry
            steps.append(f"{x}+{y}+{carry}={total:02d}")
            carry = total // 10
        else:
            total = x - y - carry
            borrow = int(total < 0)
            steps.append(f"{x}-{y}-{carry}={total + 10 * borrow}-{borrow}0")
            carry = borrow
    return ",".join(steps) + ":" + problem.witness
