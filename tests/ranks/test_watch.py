"""--check-collectives: a mismatch that would hang is reported with both places, and ends the job."""

import pytest

from minimega.ranks.group import SELF
from minimega.ranks.watch import watched
from tests.job import run

BEGIN = """
import sys, time
import numpy as np
from minimega.ranks.mpi import world
from minimega.parallel.regions import copy
from minimega.ranks.watch import watched
group = watched(world(), seconds=SECONDS)
x = np.ones((2, 3), np.float32)
group.all_reduce(x)
"""

X = "of (2, 3) float32"
WRONG = {
    # the program from line 11 on, and what the report must contain
    "one leaves early": (
        "if group.rank == 1:\n    sys.exit(0)\ngroup.all_reduce(x)",
        [
            f"ranks 0, 2 entered all-reduce (sum) {X} in world, program.py:12",
            f"rank 1 entered the end of the program, after all-reduce (sum) {X} in world, program.py:9",
        ],
    ),
    "one skips a collective": (
        "if group.rank != 2:\n    group.all_reduce(x)\ngroup.all_gather(x)",
        [
            f"ranks 0, 1 entered all-reduce (sum) {X} in world, program.py:11",
            "rank 2 entered all-gather (axis 0) to (6, 3) float32 in world, program.py:12",
        ],
    ),
    "one never comes": (
        "if group.rank == 0:\n    time.sleep(60)\ngroup.all_reduce(x)",
        [
            f"rank 0 did not arrive within 1 s, last seen in: all-reduce (sum) {X} in world, program.py:9",
            f"ranks 1, 2 wait in all-reduce (sum) {X} in world, program.py:12",
        ],
    ),
    "in a backward": (
        "y, back = copy(x, group=group)\nif group.rank:\n    back(x)\ngroup.barrier()",
        [
            "rank 0 entered barrier in world, program.py:13",
            f"ranks 1, 2 entered all-reduce (sum) {X} in world, program.py:12",
        ],
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_would_hang_is_reported(tmp_path, what):
    program, expected = WRONG[what]
    seconds = 1 if what == "one never comes" else 20
    job = run(tmp_path, 3, BEGIN.replace("SECONDS", str(seconds)) + program + "\n", limit=40)
    assert job.status != 0 and job.err.count("ranks do not meet") == 1, job.err
    for words in expected:
        assert words in job.err, job.err


OTHERS = {  # all of one job: an expression, and what the error must say
    "another shape": (
        "group.all_reduce(x[:1 + (group.rank > 0)])",
        ["rank 0 entered all-reduce (sum) of (1, 3)", f"ranks 1, 2 entered all-reduce (sum) {X}"],
    ),
    "another type": (
        "group.all_reduce(x.astype('f8') if group.rank == 1 else x)",
        [f"ranks 0, 2 entered all-reduce (sum) {X}", "rank 1 entered all-reduce (sum) of (2, 3) float64"],
    ),
    "another width of rows": (
        "group.all_to_all(x[:1].repeat(3, 0)[:, :2 + (group.rank > 0)], [1] * 3, [1] * 3)",
        ["rank 0 entered all-to-all of rows (2,) float32", "ranks 1, 2 entered all-to-all of rows (3,)"],
    ),
    "another operation": (
        "group.all_reduce(x, 'max' if group.rank else 'sum')",
        ["rank 0 entered all-reduce (sum)", "ranks 1, 2 entered all-reduce (max)"],
    ),
    "another group": (
        "(part if group.rank else group).all_reduce(x)",
        [
            f"rank 0 entered all-reduce (sum) {X} in world",
            f"ranks 1, 2 entered all-reduce (sum) {X} in tensor",
        ],
    ),
}


def test_every_rank_raises_what_the_ranks_entered(tmp_path):
    program = """
from minimega.errors import RunFailed
part = group.split(0, "tensor")
def raised(act):
    group.group.barrier()  # a rank waits only briefly for the notes of others
    try:
        act()
    except RunFailed as why:
        return str(why)
    return "nothing was raised"
"""
    for what, (act, _) in OTHERS.items():
        program += f"said = raised(lambda: {act})\n"
        program += f"print({what!r}, group.rank, said.replace('\\n', ' | '))\n"
    job = run(tmp_path, 3, BEGIN.replace("SECONDS", "20") + program, limit=40)
    lines = job.out.splitlines()
    assert job.status == 0 and len(lines) == 3 * len(OTHERS), job.err + job.out
    for what, (_, expected) in OTHERS.items():
        first, *others = sorted(line for line in lines if line.startswith(f"{what} "))
        assert all(words in first for words in expected), first
        assert all("ranks do not meet" in line for line in others), others


def test_what_is_right_passes_and_gives_the_same(tmp_path):
    job = run(
        tmp_path,
        4,
        BEGIN.replace("SECONDS", "20")
        + """
part = group.split(group.rank % 2, "half")
rows = group.start_reduce_scatter(x)
assert part.all_reduce(x)[0, 0] == 2 and rows().shape == (group.rank < 2, 3)
uneven = group.all_gather(np.full(group.piece(6).stop - group.piece(6).start, group.rank), length=6)
assert uneven.tolist() == [0, 0, 1, 1, 2, 3], uneven
assert part.split(part.rank).size == 1 and group.broadcast(x * group.rank, 3)[0, 0] == 3
rows = part.all_to_all(x[:1].repeat(3, 0) * part.rank, [1, 2], [1 + part.rank] * 2)
assert rows[:, 0].tolist() == np.arange(2).repeat(1 + part.rank).tolist(), rows
sent = part.start_send(x, 1 - part.rank)
part.start_receive(np.empty_like(x), 1 - part.rank)()
sent()
group.barrier()
if group.rank == 0:
    print(group, group.counter.total("half").calls)
""",
    )
    assert (job.status, job.err) == (0, "")
    assert "4 ranks" in job.out and job.out.endswith("each collective checked 3\n")


def test_alone_there_is_nothing_to_check():
    assert watched(SELF) is SELF
