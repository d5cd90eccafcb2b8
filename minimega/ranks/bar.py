"""A bar on the terminal. Ranks have none: theirs is drawn by the launcher that started them."""

import sys
from contextlib import AbstractContextManager, nullcontext

from minimega.ranks import lifeline

FORM = "{percentage:3.0f}% |{bar}| step {n_fmt}/{total_fmt}{postfix}, {remaining} left"


class Bar:
    """A bar of `steps` steps of which `start` are already made; it vanishes at its end."""

    def __init__(self, steps: int, start: int = 0):
        from tqdm import tqdm

        self.bar = tqdm(total=steps, initial=start, bar_format=FORM, leave=False)

    def show(self, step: int, text: str) -> None:
        """Show that so many steps are made, and a text beside it."""
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(step - self.bar.n)

    def above(self) -> AbstractContextManager:
        """Inside this context, what is written appears above the bar."""
        return self.bar.external_write_mode(file=sys.stdout)

    def close(self) -> None:
        """Remove the bar. May be called twice."""
        self.bar.close()


class Afar:
    """The same for a rank: it tells the launcher, whose terminal it is."""

    def __init__(self, steps: int, start: int = 0):
        self.steps, self.start = steps, start
        self.show(start, "")

    def show(self, step: int, text: str) -> None:
        """Show that so many steps are made, and a text beside it."""
        lifeline.tell(bar=[self.steps, self.start, step, text])

    def above(self) -> AbstractContextManager:
        """What this rank writes goes to the launcher, which puts it above the bar."""
        return nullcontext()

    def close(self) -> None:
        """Remove the bar. May be called twice."""
        lifeline.tell(bar=None)


class Screen:
    """The launcher's side: draws the bar that a rank tells of."""

    def __init__(self):
        self.bar: Bar | None = None

    def take(self, state: dict) -> None:
        """Draw what a rank's state says of a bar; most ranks say nothing."""
        if "bar" not in state:
            return
        told = state.pop("bar")
        if told is None:
            self.close()
            return
        steps, start, step, text = told
        self.bar = self.bar or Bar(steps, start)
        if step > start:
            self.bar.show(step, text)

    def above(self) -> AbstractContextManager:
        """Inside this context, what is written appears above the bar, if there is one."""
        return self.bar.above() if self.bar else nullcontext()

    def close(self) -> None:
        """Remove the bar, if there is one."""
        if self.bar:
            self.bar.close()
            self.bar = None


def bar_for(steps: int, start: int = 0) -> Bar | Afar | None:
    """A bar on this process's terminal, or on its launcher's; None if there is no terminal."""
    if lifeline.held():
        return Afar(steps, start) if lifeline.on_terminal() else None
    return Bar(steps, start) if sys.stderr.isatty() else None
