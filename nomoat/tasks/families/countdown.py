"""Countdown: combine every given number exactly once with + - * to hit a target.

Level = how many numbers.  Level 2 holds some 200 problems, level 3 some 2,000: small.
Any valid expression is accepted.
"""

import ast
import itertools
import operator
import re

from nomoat.tasks.base import Problem, Rng, ask, bare

levels = (2, 3, 4)

WORDINGS = {
    "en": (
        "Make {target} from the numbers {numbers}: use each once, with + - * and brackets.",
        "Use each of {numbers} exactly once, with + - * and brackets, to make {target}.",
    ),
    "de": (
        "Bilde {target} aus den Zahlen {numbers}: jede einmal, mit + - * und Klammern.",
        "Benutze jede der Zahlen {numbers} genau einmal, mit + - * und Klammern, für das Ziel {target}.",
    ),
}
APPLY = {"+": operator.add, "-": operator.sub, "*": operator.mul}
APPLY_NODE = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}
EXPRESSION = re.compile(r"[0-9+\-*() ]{1,100}")  # longer than any honest answer; bounds the parser's work
LARGEST = {2: 12, 3: 9, 4: 9}
TRIES = {3: 4, 4: 3}
Try = tuple[list[int], list[str]]  # numbers and what stands between them


def make(rng: Rng, level: int) -> Problem:
    values = None
    while not values:
        numbers = [rng.randint(1, LARGEST[level]) for _ in range(level)]
        ops = rng.choices("+-*", k=level - 1)
        values = run(numbers, ops)
    target = values[-1]
    given = rng.sample(numbers, level)  # the prompt must not give away the order
    if level == 2:
        numbers, ops = next(t for t in pairs(given) if run(*t)[-1] == target)
    ordered, listed = sorted(given), ",".join(map(str, given))
    facts = {"numbers": ordered, "given": given, "target": target, "steps": (numbers, ops)}
    key, witness = f"countdown {ordered} {target}", expression(numbers, ops)
    return ask(rng, WORDINGS, key, witness, facts, target=target, numbers=listed)


def run(numbers: list[int], ops: list[str]) -> list[int] | None:
    """The values after each step from left to right; None if one leaves 1 to 99."""
    values = [numbers[0]]
    for op, number in zip(ops, numbers[1:]):
        values.append(APPLY[op](values[-1], number))
        if not 1 <= values[-1] <= 99:
            return None
    return values[1:]


def pairs(given: list[int]) -> list[Try]:
    """The tries for two numbers, in a fixed order."""
    tries = [(given, ["+"]), (sorted(given, reverse=True), ["-"]), (given, ["*"])]
    return [t for t in tries if run(*t)]


def expression(numbers: list[int], ops: list[str]) -> str:
    text = str(numbers[0])
    for i, (op, number) in enumerate(zip(ops, numbers[1:])):
        text = f"({text}){op}{number}" if i else f"{text}{op}{number}"
    return text


def check(problem: Problem, answer: str) -> bool:
    answer = bare(answer)
    if not EXPRESSION.fullmatch(answer):
        return False
    try:
        value, used = evaluate(ast.parse(answer, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return value == problem.facts["target"] and sorted(used) == problem.facts["numbers"]


def evaluate(node: ast.expr) -> tuple[int, list[int]]:
    """Value and the numbers used.  Anything but + - * on whole numbers is a ValueError."""
    match node:
        case ast.Constant(int(number)) if type(number) is int:
            return number, [number]
        case ast.BinOp(left, op, right) if type(op) in APPLY_NODE:
            a, used_left = evaluate(left)
            b, used_right = evaluate(right)
            apply = APPLY_NODE[type(op)]
            return apply(a, b), used_left + used_right
    raise ValueError(f"not a countdown expression: {ast.dump(node)[:80]}")


def near_misses(problem: Problem) -> list[str]:
    target, witness, first = problem.facts["target"], problem.witness, problem.facts["given"][0]
    return [
        str(target),
        f"{witness}+0",
        f"{witness}+{first}-{first}",
        f"{witness}={target}",
        f"-(0-({witness}))",
    ]


def work(problem: Problem) -> str:
    """`3+5=8,5-3=2,3*5=15:3*5`: tries, each worked from left to right, until one hits the target."""
    given, steps = problem.facts["given"], problem.facts["steps"]
    if len(given) == 2:
        misses = list(itertools.takewhile(lambda t: t != steps, pairs(given)))
    else:
        misses = drawn_misses(problem)
    return ",".join(trace(*t) for t in [*misses, steps]) + ":" + problem.witness


def drawn_misses(problem: Problem) -> list[Try]:
    """A few tries that miss the target, the same for the same problem."""
    given, target = problem.facts["given"], problem.facts["target"]
    rng, size = Rng(problem.key), len(given)
    misses = []
    for _ in range(200):
        numbers = rng.sample(given, size)
        ops = rng.choices("+-*", k=size - 1)
        values = run(numbers, ops)
        if values and values[-1] != target:
            misses.append((numbers, ops))
    return misses[: rng.randrange(TRIES[size])]


def trace(numbers: list[int], ops: list[str]) -> str:
    """`3*5=15+4=19`: each step with its value."""
    values = run(numbers, ops) or []
    return str(numbers[0]) + "".join(f"{op}{n}={v}" for op, n, v in zip(ops, numbers[1:], values))
