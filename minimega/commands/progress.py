"""The progress of a run: a bar or lines."""

import math
import time

from minimega.ranks.bar import bar_for
from minimega.ranks.streams import say


class Progress:
    """A bar on a terminal, else a line at the first step, every ten seconds and at the last step.

    Only the rank with `speaks` prints.
    """

    def __init__(self, steps: int, start: int, speaks: bool = True):
        self.steps, self.begun, self.start, self.speaks = steps, time.monotonic(), start, speaks
        self.said, self.bar = -math.inf, bar_for(steps, start) if speaks else None

    def show(self, record: dict) -> None:
        """Show a step: `record` has step, loss (nats per token) and tokens_per_s."""
        step = record["step"]
        text = f"loss {record['loss']:.4f}, {record['tokens_per_s']:,.0f} tokens/s"
        if self.bar is not None:
            self.bar.show(step, text)
        elif time.monotonic() - self.said >= 10 or step == self.steps:
            self.said = time.monotonic()
            left = (self.said - self.begun) / (step - self.start) * (self.steps - step)
            self.say(f"step {step}/{self.steps}: {text}, {left:.0f} s left")

    def say(self, text: str) -> None:
        """Print a text, above the bar if there is one."""
        if self.bar is not None:
            with self.bar.above():
                say(text)
        elif self.speaks:
            say(text)

    def close(self) -> None:
        """Remove the bar. May be called twice."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
