"""The planner: memory, messages and time of a job on a machine that need not be there; how best to cut it.

>>> from minimega.costs.plan import GPUS, Machine, estimate
>>> from minimega.costs import Job
>>> from minimega.model import Config
>>> job = Job(Config(50257, 1024, 768, 12, 12), batch=8, dtype="float16")
>>> plan = estimate(job, Machine(GPUS["a100-80gb"], 1))
>>> plan.parameters, plan.fits
(124439808, True)
"""

from minimega.costs.plan.estimate import Plan, estimate
from minimega.costs.plan.gpus import GPUS, named
from minimega.costs.plan.machine import Curve, Gpu, Link, Machine, read
from minimega.costs.plan.search import Fixed, Found, search

__all__ = [
    "GPUS", "Curve", "Fixed", "Found", "Gpu", "Link", "Machine", "Plan",
    "estimate", "named", "read", "search",
]  # fmt: skip
