"""Decisions about replies: what a task's `check` says of the answer in each; equal answers are checked
once."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from nomoat.tasks import answers
from nomoat.tasks.base import Problem, Task, Undecided


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is true of a reply; an answer that was cut off has not been given, so that `strict` is false then.

    `answer` is what stands where the answer should, None where the form is wrong.  `strict`: right in the
    right form and ended; `lenient`: right in any form that a reader would accept; `format`: thought in one
    closed block, answered and ended; `undecided`: the machine failed to judge, the reply is to be left out.
    """

    answer: str | None = None
    strict: bool = False
    lenient: bool = False
    format: bool = False
    undecided: bool = False


class Verdicts:
    """The decisions so far.  `with Verdicts() as verdicts:` also ends the threads that `begin` started."""

    def __init__(self):
        self.decisions: dict[tuple[str, str], Future] = {}  # (prompt, answer) -> what `check` said
        self.pool = ThreadPoolExecutor(os.cpu_count())

    def __enter__(self) -> "Verdicts":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def begin(self, task: Task, problem: Problem, reply: str) -> None:
        """Check the answer of a reply that ended in another thread, if answers to this problem have to be
        run."""
        answer = answers.strict_answer(reply, form_of(task))
        question = problem.prompt, answer
        if answer is not None and question not in self.decisions:
            self.decisions[question] = self.pool.submit(task.check, problem, answer)

    def decide(self, task: Task, problem: Problem, answer: str) -> bool:
        """`check`, asked once for equal answers and again if the machine failed; then base.Undecided."""
        question = problem.prompt, answer
        for _ in range(2):
            if question not in self.decisions or self.decisions[question].exception() is not None:
                self.decisions[question] = Future()
                try:
                    self.decisions[question].set_result(task.check(problem, answer))
                except Undecided as error:
                    self.decisions[question].set_exception(error)
        return self.decisions[question].result()

    def verdict(self, task: Task, problem: Problem, reply: str, ended: bool) -> Verdict:
        """The whole decision about a reply; `ended` is whether its writer came to an end."""
        form = form_of(task)
        answer = answers.strict_answer(reply, form)
        given = ended and answer is not None
        try:
            strict = given and self.decide(task, problem, answer)
            lenient = strict or (form == "line" and self.decide(task, problem, answers.lenient_answer(reply)))
        except Undecided:
            return Verdict(answer=answer, undecided=True)
        return Verdict(answer=answer, strict=strict, lenient=lenient, format=given and "</think>" in reply)


def form_of(task: Task) -> str:
    """ "line" or "text", see base.Task."""
    return getattr(task, "form", "line")
