"""Is it learning?  Rules that read the curve of a stage of reinforcement learning and say what it means.

A limit is where a sentence begins to be worth a look: a rule of thumb.  What is drawn follows the news: a level that is
solved comes seldom, so that the reward as drawn may stand still while the policy improves.  The rules therefore weigh
all families alike.  Their intervals count problems, not rollouts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from nomoat import stats
from nomoat.report.curve import ROWS, Steps, by_name, tenths

SIGNS = {"bad": "✗", "look": "!", "good": "✓"}
FEW_STEPS = 20
SOLVED = 0.95  # right answers, from which on a curve may be flat


@dataclass(frozen=True)
class Finding:
    """A sentence in plain words, the setting that it leads to, and how much it matters.

    severity: "bad" stops the learning or fakes it, "look" deserves a look, "good" is what one hopes for.
    """

    sentence: str
    setting: str
    severity: Literal["bad", "look", "good"]


@dataclass(frozen=True)
class Share:
    """A share of right answers with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{percent(self.value, 1)} ({percent(self.low)}–{percent(self.high)})"


@dataclass(frozen=True)
class Course:
    """The steps of a stage; `group` rollouts are one problem."""

    steps: Steps
    group: int = 1

    def at_end(self, key: str) -> float:
        """What the last tenth of the steps says."""
        return value(self.end, key)

    @property
    def start(self) -> Steps:
        return tenths(self.steps)[0]

    @property
    def end(self) -> Steps:
        return tenths(self.steps)[2]

    @property
    def enough(self) -> bool:
        return len(self.steps) >= FEW_STEPS

    @cached_property
    def right(self) -> tuple[Share, Share]:
        """Right answers in the first and in the last tenth."""
        return compared(self.start, self.end, self.group)

    @property
    def trend(self) -> int:
        """1 where right answers rose over the whole course, -1 where they fell, 0 where it may be chance."""
        return moved(*self.right)


def percent(share: float, digits: int = 0) -> str:
    return f"{share:.{digits}%}".replace("%", " %")


def value(steps: Steps, key: str) -> float:
    """A row of the screen over some steps; 0 where nothing is known."""
    return ROWS[key].value(steps) or 0.0


def compared(before: Steps, after: Steps, group: int) -> tuple[Share, Share]:
    """Right answers in both, the families that both have weighed alike."""
    return interval(before, group, after), interval(after, group, before)


def interval(steps: Steps, group: int, like: Steps) -> Share:
    """Right answers, the families that `like` has too weighed alike.

    Wilson with the number of problems that such a mean is worth, a family's share of them being its share of the steps.
    """
    problems = sum(e["tokens"] / e["length"] / group for e in steps if e.get("length") and e.get("tokens"))
    n = problems or len(steps)
    both = by_name("rewards", like)
    families = [v for name, v in by_name("rewards", steps).items() if v and name in both]
    if not families:
        share = value(steps, "reward")
        return Share(share, *stats.wilson(share * n, n))
    k = len(families)
    share = sum(sum(v) / len(v) for v in families) / k
    n *= k**2 / sum(map(len, families)) / sum(1 / len(v) for v in families)
    return Share(share, *stats.wilson(share * n, n))


def moved(before: Share, after: Share) -> int:
    """1 up, -1 down, 0 within the 95 % interval of the difference (Newcombe 1998, method 10)."""
    gain = after.value - before.value
    if gain > math.hypot(after.value - after.low, before.high - before.value):
        return 1
    return -1 if -gain > math.hypot(after.high - after.value, before.value - before.low) else 0


def diagnose(curve: Steps, config: Mapping[str, Any] | None = None) -> list[Finding]:
    """What the rules say of a stage with these settings, the worst first."""
    course = Course(curve, (config or {}).get("group") or 1)
    findings = [finding for rule in RULES if (finding := rule(course))]
    return sorted(findings, key=lambda f: list(SIGNS).index(f.severity))


# --- the rules -----------------------------------------------------------------------------------------------------


def dead_groups(course: Course) -> Finding | None:
    """Groups that are all right or all wrong; which, is told by the reward if the others are right half of the time."""
    dead = course.at_end("dead_groups")
    if dead < 0.6:
        return None
    right = min(max(course.at_end("reward") - (1 - dead) / 2, 0.0), dead)
    said = f"{percent(dead)} of the groups teach nothing, "
    if dead > 3 * right:
        said += (
            "nearly all of them because every answer is wrong: the tasks are too hard; "
            "choose lower levels (tasks) or more rollouts (group)."
        )
        return Finding(said, "tasks, group", "bad")
    if dead < 1.5 * right:
        said += "nearly all of them because every answer is right: raise the levels (tasks)."
    else:
        said += (
            "some all right and some all wrong: leave out the levels (tasks) that never or no longer vary."
        )
    return Finding(said, "tasks", "bad")


def few(course: Course) -> Finding | None:
    if course.enough:
        return None
    return Finding(f"{len(course.steps)} steps so far: too few to tell whether it learns.", "steps", "look")


def rose(course: Course) -> Finding | None:
    if not course.enough or course.trend <= 0:
        return None
    start, end = course.right
    return Finding(f"Right answers rose from {start} to {end}, families weighed alike.", "", "good")


def fell(course: Course) -> Finding | None:
    if not course.enough or course.trend >= 0:
        return None
    start, end = course.right
    said = f"Right answers fell from {start} to {end}, families weighed alike: lower optim.adam_lr."
    return Finding(said, "optim.adam_lr", "bad")


def flat(course: Course) -> Finding | None:
    if not course.enough or course.trend < 0:
        return None
    n, steps = len(course.steps), course.steps
    third, last = compared(steps[n // 2 : n - n // 4], steps[n - n // 4 :], course.group)
    if last.value >= SOLVED or moved(third, last) > 0:
        return None
    said = (
        f"No rise beyond chance in the last half, {third} and then {last}: "
        "more steps (steps), or another optim.adam_lr."
    )
    return Finding(said, "steps, optim.adam_lr", "look")


def entropy(course: Course) -> Finding | None:
    start, end = value(course.start, "entropy"), course.at_end("entropy")
    if end >= 0.3 * start:
        return None
    said = (
        f"Entropy fell to {percent(end / start)} of its start, from {start:.3f} to {end:.3f} nats: "
        "it tries little that is new; lower optim.adam_lr or raise kl."
    )
    return Finding(said, "optim.adam_lr, kl", "bad")


def length(course: Course) -> Finding | None:
    start, end = value(course.start, "length"), course.at_end("length")
    if not course.enough or course.trend > 0 or not 0 < start < end / 1.3:
        return None
    said = (
        f"Answers grew from {start:.0f} to {end:.0f} tokens and are not right more often: choose a variant that "
        'pays nothing for length (variant = "dr-grpo"), or lower max_new_tokens.'
    )
    return Finding(said, "variant, max_new_tokens", "look")


def truncated(course: Course) -> Finding | None:
    share = course.at_end("truncated")
    if share <= 0.1:
        return None
    said = f"{percent(share)} of the answers are cut off, which makes them wrong: raise max_new_tokens."
    return Finding(said, "max_new_tokens", "bad")


def shadow(course: Course) -> Finding | None:
    share = course.at_end("shadow")
    if share <= 0.01:
        return None
    said = (
        f"{percent(share, 1)} of the right answers also pass for another problem, so it may have found a trick: "
        "look at the rollouts, `nomoat rollouts RUN --only doubted`."
    )
    return Finding(said, "tasks", "bad")


def kl(course: Course) -> Finding | None:
    nats = value(course.steps[len(course.steps) // 2 :], "kl")
    if nats <= 0.5:
        return None
    said = f"The policy is {nats:.2f} nats a token from its start: raise kl or lower optim.adam_lr."
    return Finding(said, "kl, optim.adam_lr", "look")


def undecided(course: Course) -> Finding | None:
    n = value(course.steps, "undecided")
    if n <= 0:
        return None
    return Finding(
        f"{n:.0f} answers could not be judged and were left out: see `nomoat doctor`.", "sandbox", "look"
    )


def form(course: Course) -> Finding | None:
    share = course.at_end("lenient") - course.at_end("reward")
    if share <= 0.15:
        return None
    said = (
        f"{percent(share)} of the answers are right, but not in the form that was asked for: "
        "start from SFT (from), or watch the form (rewards.format)."
    )
    return Finding(said, "from, rewards.format", "bad")


def drift(course: Course) -> Finding | None:
    """Rounding alone passes the limit now and then; often, or by far, is another matter."""
    limit, n = 1e-4, len(course.steps)
    largest = value(course.steps, "drift")
    often = sum((e.get("drift") or 0.0) > limit for e in course.steps)
    if often <= n / 20 and largest <= 100 * limit:
        return None
    said = (
        f"Sampler and trainer disagree by more than {limit:g} in {often} of {n} steps, by {largest:.1e} at most: "
        "compute the gradient in fp32 (precision)."
    )
    return Finding(said, "precision", "look")


RULES = (
    dead_groups, few, rose, fell, flat, entropy, length, truncated, shadow, kl, undecided, form, drift,
)  # fmt: skip
