"""Two moons: a small net learns on which of two interlocked arcs a point lies, and its decision is drawn.

    python examples/moons.py               (writes moons.png; two seconds of processor time)
    python examples/moons.py arcs.png

The picture has a colour for each moon, paler where the net is less sure, and a line where it changes its
mind.
"""

import sys

import numpy as np
from matplotlib.figure import Figure

import minimega as mm

rng, moon = np.random.default_rng(0), np.arange(200) % 2  # half of the points on each moon
turn = rng.uniform(0, np.pi, 200) + np.pi * moon
points = np.stack([np.cos(turn) + moon, np.sin(turn) + 0.5 * moon], axis=1) + rng.normal(0, 0.1, (200, 2))

net = mm.Sequential(mm.Linear(2, 16), mm.relu, mm.Linear(16, 16), mm.relu, mm.Linear(16, 2))
optimizer = mm.AdamW(net.parameters(), lr=0.01)
for step in range(1, 201):
    loss = mm.cross_entropy(net(points), moon)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        right = (net(points).data.argmax(axis=1) == moon).mean()
        print(f"step {step}: loss {loss:.4f}, accuracy {right:.1%}")

x, y = np.meshgrid(np.linspace(-1.6, 2.6, 211), np.linspace(-1.1, 1.6, 136))
sure = net(np.stack([x, y], axis=-1)).softmax().data[..., 1]  # the probability of the second moon, (136, 211)
figure = Figure(figsize=(7, 4.6), dpi=120, layout="constrained")
axes = figure.add_subplot(title=f"{net}: {right:.0%} of the points are right", aspect="equal")
axes.contourf(x, y, sure, levels=np.linspace(0, 1, 11), cmap="RdBu", alpha=0.6)
axes.contour(x, y, sure, levels=[0.5], colors="black")
axes.scatter(*points.T, c=np.where(moon, "#0072B2", "#D55E00"), edgecolors="white")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "moons.png")
