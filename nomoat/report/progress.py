"""How far a run is, from the events that it logs: bars on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from nomoat.run.ledger import Device, duration, money, read_prices, short

LINE_SECONDS = 5.0


class Watch:
    """`run.observe = watch` inside `with Watch(...) as watch`.  Cost: what this process spent, as the ledger counts."""

    def __init__(
        self, console: Console, stages: Sequence[str], finished: Collection[str] = (), *,
        units: int = 1, device: str = "cpu", clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.console, self.clock, self.units = console, clock, units
        self.prices = read_prices()
        self.price: Device = self.prices.devices.get(device) or self.prices.device("cpu")
        self.joules = self.money = 0.0
        self._began: dict[str, tuple[float, int]] = {}  # stage -> (when, at which step) its first step here ended
        self._spoke = clock()
        self._bars: Progress | None = None
        self._tasks: dict[str, int] = {}
        if console.is_terminal and not console.is_dumb_terminal:
            says = TextColumn("{task.fields[says]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
            columns = TextColumn("{task.description}"), BarColumn(bar_width=10), says
            self._bars = Progress(*columns, console=console, expand=True, refresh_per_second=4)
            for name in stages:
                done = name in finished
                says = "done before" if done else ""
                self._tasks[name] = self._bars.add_task(name, total=1.0, completed=float(done), start=done, says=says)

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            for task in self._bars.tasks:  # a stage without a number of steps must not pulse on in the last picture
                if task.total is None:
                    self._bars.update(task.id, total=1.0, completed=0.0)
            self._bars.stop()

    def __call__(self, event: Mapping[str, Any]) -> None:
        kind, stage = event["kind"], event.get("stage") or ""
        if kind in ("step", "work"):
            seconds, joules = (event.get("seconds") or 0.0) * self.units, event.get("joules")
            joules = self.price.watts * seconds if joules is None else joules
            self.joules += joules
            self.money += self.prices.money(self.price, joules, seconds)
        if kind == "note":
            self.console.print(f"{stage or 'run'}: {event['text']}", markup=False, highlight=False, soft_wrap=True)
        elif kind == "begin":
            self.show(stage, f"{event['what']} …", None)
        elif kind == "resume":
            self._line(f"{stage}: goes on from step {event['step']}")
        elif kind == "step":
            self.show(stage, self._step(event), event["step"] / event["n_steps"])
        elif kind == "stage_end":
            bought = (event.get("outputs") or {}).get("bought", "")
            self.show(stage, f"done  {self.cost()}  {bought}", 1.0, last=True)

    def cost(self) -> str:
        """Energy and money so far."""
        return f"{short(self.joules, 'J')} {money(self.money)} {self.prices.currency}"

    def _step(self, event: Mapping[str, Any]) -> str:
        now, step, n_steps = self.clock(), event["step"], event["n_steps"]
        when, first = self._began.setdefault(event["stage"], (now, step))
        left = f"{duration((now - when) / (step - first) * (n_steps - step))} left" if step > first else ""
        what = "reward" if event.get("reward") is not None else "loss"
        value = event.get(what)
        value = f"{value:.3f}" if value is not None else "not finite"
        rate = short(event.get("tokens_per_second") or 0, "tok/s")
        return " ".join(filter(None, (f"{step}/{n_steps} {what} {value}", rate, left, self.cost())))

    def show(self, stage: str, says: str, share: float | None, *, last: bool = False) -> None:
        if self._bars:
            if stage in self._tasks:
                task = self._tasks[stage]
                self._bars.start_task(task)
                total = None if share is None and self._bars.tasks[task].completed == 0 else 1.0
                self._bars.update(task, says=says, total=total, **({} if share is None else {"completed": share}))
        elif last or self.clock() - self._spoke >= LINE_SECONDS:
            self._line(f"{stage}: {says}")

    def _line(self, text: str) -> None:
        if not self._bars:
            self._spoke = self.clock()
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)
