"""Plan Megatron-Turing NLG before it is run: does it fit, how long is a step, what would other choices cost?

    python examples/plan_530b.py             (a second of processor time)

Prints predicted beside measured, what recomputation costs, the best cuts of 2,240 GPUs, and a step simulated
rank by rank. The same from the command line, with more: `minimega plan`, docs/planning.md.
"""

from dataclasses import replace

from minimega.costs import Job
from minimega.costs.plan import GPUS, Fixed, Machine, estimate, search
from minimega.costs.plan.trace import step
from minimega.model import SHAPES, Config
from minimega.parallel.layout import Layout

GIB = 2**30
config = Config(**SHAPES["megatron-turing-nlg"])
machine = Machine(GPUS["a100-80gb"], 2240)

# Smith et al. 2022, section 2.4: 8 replicas of 8 x 35 GPUs, 1,920 sequences. Korthikanti et al. 2022, table
# 5: one replica, 280 sequences, 3 virtual stages; with full and with selective recomputation.
published = Layout(tp=8, pp=35, dp=8, micro_batches=240, recompute="full")
one = Layout(tp=8, pp=35, micro_batches=280, pipeline="interleaved", virtual_stages=3, recompute="full")
less = replace(one, recompute="selective", sequence=True)
print("                                  predicted  measured   GiB   MFU")
for name, cut, batch, measured in (
    ("Smith 2022, 2240 GPUs", published, 1920, 60.1),
    ("Korthikanti 2022, full", one, 280, 49.05),
    ("Korthikanti 2022, selective", less, 280, 37.83),
):
    plan = estimate(Job(config, cut, batch, "bfloat16"), Machine(machine.gpu, cut.ranks))
    figures = (
        f"{plan.iteration_seconds:9.2f} s {measured:7.2f} s {plan.memory['total'] / GIB:5.1f} {plan.mfu:6.1%}"
    )
    print(f"{name:<32} {figures}")

print("\nthe same cut with other recomputation, 2240 GPUs")
for recompute in ("full", "selective", "none"):
    cut = replace(published, recompute=recompute, sequence=True)
    plan = estimate(Job(config, cut, 1920, "bfloat16"), machine)
    fits = "fits" if plan.fits else "does not fit"
    print(f"{recompute:<10} {plan.iteration_seconds:6.1f} s   {plan.memory['total'] / GIB:5.1f} GiB: {fits}")

found = search(config, machine, 1920, "bfloat16", Fixed())
print(f"\nthe best of {len(found.plans)} cuts that fit; {len(found.too_large)} do not")
for plan, why in zip(found.plans[:4], found.reasons(), strict=False):
    cut = plan.job.layout
    print(
        f"tp {cut.tp}, pp {cut.pp:3}, dp {cut.dp:2}  {plan.iteration_seconds:6.1f} s  {why or 'the fastest'}"
    )

plan = estimate(Job(config, published, 1920, "bfloat16"), machine)
made = step(plan)
actions = sum(map(len, made.timed)) * published.tp
after = plan.seconds["data"] + plan.seconds["optimizer"]
print(f"\none replica, action by action: {actions:,} of 280 ranks, {made.seconds + after:.4f} s")
print(f"by the formulas: {plan.iteration_seconds:.4f} s, {plan.bubble:.1%} of it the bubble")
