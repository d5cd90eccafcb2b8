"""What the messages of a GPU can use here; found out without starting MPI in this process."""

import os
import subprocess

from minimega.child import python

# One message from a GPU to itself; an MPI that takes the pointer for one of the host's dies here.
CUDA_TRIAL = """
import cupy
from mpi4py import MPI
x, y = cupy.arange(1 << 16), cupy.zeros(1 << 16, int)
cupy.cuda.Device().synchronize()
MPI.COMM_SELF.Sendrecv(x, 0, recvbuf=y, source=0)
assert (x == y).all()
"""


def has_nccl() -> bool:
    """Whether CuPy finds NVIDIA's library of collectives."""
    try:
        from cupy.cuda import nccl
    except ImportError:
        return False
    return bool(nccl.available)


def knows_cuda() -> bool:
    """Whether MPI takes pointers of the GPU: tried in a process of its own, which may crash."""
    alone = {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "OMPI_COMM", "PRTE", "SLURM"))}
    try:
        return not subprocess.run(
            python("-c", CUDA_TRIAL), env=alone, capture_output=True, timeout=60
        ).returncode
    except subprocess.TimeoutExpired:
        return False
