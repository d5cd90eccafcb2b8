"""Words from one rank to all."""

import numpy as np

from minimega.parallel.comm import Group


def first_text(text: str, group: Group) -> str:
    """The text of the first rank that has one, on all ranks; "" where none has."""
    told = text.encode()
    length = int(group.all_reduce(np.array(len(told)), "max", label="message"))
    if not length:
        return ""
    packet = np.frombuffer(told.ljust(length, b"\0"), np.uint8)
    texts = group.all_gather(packet.reshape(1, -1), label="message")
    return next(bytes(t).rstrip(b"\0").decode() for t in texts if t.any())
