"""Numbers: greatest common divisor, smallest prime factor, binary and decimal.

Level 1: up to 31.  Level 2: up to 127.  Level 3: up to 499.
"""

import math
import random

from nomoat.tasks.base import Problem, ask, check, others

levels = (1, 2, 3)

LARGEST = {1: 31, 2: 127, 3: 499}
WORDINGS = {
    "gcd": {
        "en": ("What is the greatest common divisor of {a} and {b}?", "gcd({a},{b})=?"),
        "de": ("Was ist der größte gemeinsame Teiler von {a} und {b}?", "ggT({a},{b})=?"),
    },
    "factor": {
        "en": ("What is the smallest prime factor of {a}?", "Which is the smallest prime that divides {a}?"),
        "de": ("Was ist der kleinste Primfaktor von {a}?", "Welche kleinste Primzahl teilt {a}?"),
    },
    "binary": {
        "en": ("Write {a} in binary.", "What is {a} in base 2?"),
        "de": ("Schreibe {a} binär.", "Was ist {a} zur Basis 2?"),
    },
    "decimal": {
        "en": ("Binary {b} is which decimal number?", "Write the binary number {b} in base 10."),
        "de": ("Welche Dezimalzahl ist {b} binär?", "Schreibe die Binärzahl {b} zur Basis 10."),
    },
}


def smallest(n: int) -> int:
    """Its smallest prime factor."""
    return next((p for p in range(2, math.isqrt(n) + 1) if n % p == 0), n)


def make(rng: random.Random, level: int) -> Problem:
    kind, largest = rng.choice(list(WORDINGS)), LARGEST[level]
    a, b = rng.randint(4, largest), rng.randint(4, largest)
    if kind == "gcd":
        d = rng.randint(1, math.isqrt(largest))
        a, b = a // d * d or d, b // d * d or d
        numbers = f"{max(a, b)} {min(a, b)}"
        answer = math.gcd(a, b)
        steps = euclid(max(a, b), min(a, b))
    elif kind == "factor":
        numbers = a
        answer = smallest(a)
        steps = trials(a)
    else:
        numbers, b = a, f"{a:b}"
        answer = a if kind == "decimal" else b
        steps = powers(a)
    key, facts = f"numbers {kind} {numbers}", {"steps": steps, "a": a}
    return ask(rng, WORDINGS[kind], key, str(answer), facts, a=a, b=b)


def powers(a: int) -> list[str]:
    bits = reversed(range(a.bit_length()))
    return ["+".join(str(1 << i) for i in bits if a >> i & 1) + f"={a}"]


def euclid(a: int, b: int) -> list[str]:
    steps = []
    while b:
        steps.append(f"{a}%{b}={a % b}")
        a, b = b, a % b
    return steps


def trials(a: int) -> list[str]:
    last = min(smallest(a), math.isqrt(a))
    return [f"{a}%{p}={a % p}" for p in range(2, last + 1) if smallest(p) == p]


def near_misses(problem: Problem) -> list[str]:
    right = int(problem.witness)
    return others(problem, right + 1, right * 2, f"0{right}", problem.facts["a"] + 1, f"{right}.0", -right)


def work(problem: Problem) -> str:
    """`12%8=4,8%4=0: 4`: Euclid's remainders, trial divisions, or powers of two."""
    return ",".join(problem.facts["steps"]) + f": {problem.witness}"
