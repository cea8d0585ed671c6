"""How far a run is, from the events that it logs: bars on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from nomoat.run.ledger import Event, duration, money, read_prices, receipt, short

LINE_SECONDS = 5.0
ROOM_FOR_BARS = 72  # columns of a terminal


class Outlook(Protocol):
    """What says how much is left of a whole run: plan/outlook.py."""

    def hear(self, event: Event) -> None: ...

    def seconds(self) -> float: ...

    def says(self) -> str: ...


class Watch:
    """`run.observers.append(watch)` inside `with Watch(...) as watch`.

    Cost: what this process spent, as the ledger counts.  `outlook` tells the time that is left of the whole.
    """

    def __init__(
        self,
        console: Console,
        stages: Sequence[str],
        finished: Collection[str] = (),
        *,
        units: int = 1,
        device: str = "cpu",
        outlook: Outlook | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console, self.clock, self.units = console, clock, units
        self.outlook = outlook
        self.device = device
        self.joules = self.money = 0.0
        self._began: dict[str, tuple[float, int]] = {}  # of a stage's first step here: when, at which step
        self._spoke = clock()
        self._bars = _bars(console) if console.is_terminal and not console.is_dumb_terminal else None
        self._tasks: dict[str, int] = {}
        for name in stages if self._bars else ():
            done = name in finished
            says = "done before" if done else ""
            self._tasks[name] = self._bars.add_task(
                name, total=1.0, completed=float(done), start=done, says=says, over=done
            )

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            for task in self._bars.tasks:
                if task.total is None:  # a stage without steps must not pulse on in the last picture
                    self._bars.update(task.id, total=1.0, completed=0.0)
            self._bars.stop()

    def __call__(self, event: Event) -> None:
        kind, stage = event["kind"], event.get("stage") or ""
        if self.outlook:
            self.outlook.hear(event)
        if kind in ("step", "work"):
            self._count(event)
        if kind == "note":
            self._print(f"{stage or 'run'}: {event['text']}")
        elif kind == "begin":
            self.show(stage, f"{event['what']} …", None)
        elif kind == "resume" and not self._bars:
            self._line(f"{stage}: goes on from step {event['step']}")
        elif kind == "step":
            self.show(stage, self._step(event), event["step"] / event["n_steps"])
        elif kind == "stage_end":
            bought = (event.get("outputs") or {}).get("bought", "")
            self.show(stage, f"done  {self.cost()}  {bought}", 1.0, last=True)

    def _count(self, event: Event) -> None:
        row = receipt([event], device=self.device, units=self.units).total
        self.joules += row.joules
        self.money += row.money

    def cost(self) -> str:
        """Energy and money so far."""
        return f"{short(self.joules, 'J')} {money(self.money)} {read_prices().currency}"

    def _step(self, event: Event) -> str:
        """The step, its loss or reward, the rate, the time that is left, the cost."""
        now = self.clock()
        step, n_steps = event["step"], event["n_steps"]
        began, first = self._began.setdefault(event["stage"], (now, step))
        what = "loss" if event.get("reward") is None else "reward"
        value = "not finite"
        if event.get(what) is not None:
            value = f"{event[what]:.3f}"
        rate = short(event.get("tokens_per_second") or 0, "tok/s")
        parts = [f"{step}/{n_steps} {what} {value}", rate]
        if step > first:
            left = (now - began) / (step - first) * (n_steps - step)
            parts.append(f"{duration(min(left, self.outlook.seconds()) if self.outlook else left)} left")
        if self.outlook:
            parts.append(self.outlook.says())
        parts.append(self.cost())
        return " ".join(parts)

    def show(self, stage: str, says: str, share: float | None, *, last: bool = False) -> None:
        """What a stage does and how much of it is done, None where that is not known."""
        if not self._bars:
            if last or self.clock() - self._spoke >= LINE_SECONDS:
                self._line(f"{stage}: {says}")
        elif (task := self._tasks.get(stage)) is not None:
            self._bars.start_task(task)
            if share is not None:
                self._bars.update(task, says=says, total=1.0, completed=share, over=last)
            else:
                begun = self._bars.tasks[task].completed > 0
                self._bars.update(task, says=says, total=1.0 if begun else None)

    def _line(self, text: str) -> None:
        self._spoke = self.clock()
        self._print(text)

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class Says(ProgressColumn):
    """What a stage says: all of it while it works, on more than one line if need be, then one line."""

    def render(self, task: Task) -> Text:
        over = task.fields["over"]
        return Text(task.fields["says"], no_wrap=over, overflow="ellipsis" if over else "fold")


def _bars(console: Console) -> Progress:
    """A bar a stage, where there is room for it, with what it says beside it."""
    name = TextColumn("{task.description}", table_column=Column(no_wrap=True))
    bar = [BarColumn(bar_width=10)] if console.width >= ROOM_FOR_BARS else []
    says = Says(table_column=Column(ratio=1))
    return Progress(name, *bar, says, console=console, expand=True, refresh_per_second=4)
