"""mpirun's own messages are removed; the output of ranks passes unchanged."""

import pytest

from minimega.ranks.banners import Banners

MPICH = """
===================================================================================
=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES
=   PID 8995 RUNNING AT here
=   EXIT CODE: 9
=   CLEANING UP REMAINING PROCESSES
=   YOU CAN IGNORE THE BELOW CLEANUP MESSAGES
===================================================================================
YOUR APPLICATION TERMINATED WITH THE EXIT STRING: Killed (signal 9)
This typically refers to a problem with your application.
Please see the FAQ page for debugging suggestions
"""
ABORT = "Abort(2) on node 1 (rank 1 in comm 0): application called MPI_Abort(MPI_COMM_WORLD, 2) - process 1\n"
FATAL = """Abort(941770127): Fatal error in internal_Init_thread: Other MPI error, error stack:
internal_Init_thread(71).: MPI_Init_thread(argc=(nil), argv=(nil), required=3, provided=0x7ffd) failed
MPII_Init_thread(289)....:
MPIDI_UCX_init_worker(86):  ucx function returned with failed status(Input/output error)
[1795848772.071984] [vm:25936:0]      ucp_worker.c:1415 UCX  ERROR uct_iface_open(posix/memory) failed
[mpiexec@vm] main (hydra/mpiexec/mpiexec.c:270): process manager error waiting for completion
"""
OPEN_MPI = """--------------------------------------------------------------------------
prterun noticed that process rank 1 with PID 8995 on node here exited on
signal 9 (Killed).
--------------------------------------------------------------------------
"""
OPEN_MPI_ABORT = """--------------------------------------------------------------------------
MPI_ABORT was invoked on rank 1 in communicator MPI_COMM_WORLD
with errorcode 2.

NOTE: invoking MPI_ABORT causes Open MPI to kill all MPI processes.
--------------------------------------------------------------------------
"""
OWN = f"a\n\n{'=' * 70}\n= b\n{'-' * 70}\nc\n\n{'=' * 83}\n"


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("banner", [MPICH, ABORT, FATAL, OPEN_MPI, OPEN_MPI_ABORT])
def test_only_the_banner_goes(banner, size):
    banners, text = Banners(), (OWN + banner + OWN + "no end").encode()
    passed = b"".join(banners.feed(text[i : i + size]) for i in range(0, len(text), size)) + banners.end()
    assert passed.decode() == OWN + OWN + "no end"
    assert banners.signal == (9 if banner in (MPICH, OPEN_MPI) else 0)
    assert ("Input/output error" in banners.cause) == (banner is FATAL)


def test_a_line_is_not_held_back():
    banners = Banners()
    assert banners.feed(b"step 1\nste") == b"step 1\n"
    assert banners.feed(b"p 2\n") == b"step 2\n"


def test_words_of_a_rank_within_the_banner_stay():
    lines = MPICH.splitlines(keepends=True)
    banners = Banners()
    assert banners.feed("".join([*lines[:3], "of a rank\n", *lines[3:]]).encode()) == b"of a rank\n"
