"""A cut model against the whole one in the same process: loss, gradients, norm, weights.

Two tensors differ by max|a - b| / max|b|. Equal means: float64 within 1e-10; float32 within 2e-6, but the
weights after AdamW within lr / 100, since its first steps are almost the sign of the gradient. A gradient
that is zero in theory (the key's bias moves all scores of a row alike, and softmax does not see it) is
rounding alone: it is held to eps times the largest gradient of its layer, for each of the sums it went
through.

In 16 bits every number that is kept or sent is rounded: 4 eps of their type for gradients, loss and norm, and
for the float32 masters of the weights after SGD. AdamW is left out there, whose first steps are signs of
gradients that are partly rounding.
"""

from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from minimega import experts, random
from minimega.commands import rounding
from minimega.costs import Job
from minimega.data.windows import Windows
from minimega.experts import top
from minimega.layer import Recomputed
from minimega.model import Config, Model, gpt
from minimega.optim import SGD, AdamW
from minimega.parallel.data import BUCKET
from minimega.parallel.grid import Grid
from minimega.parallel.layout import Layout
from minimega.parallel.pipeline import staged
from minimega.parallel.team import Team
from minimega.precision import HALF, loss_scale
from minimega.sample import generate, next_logits
from minimega.seq2seq.model import EncoderDecoder
from minimega.train import Alone, Recipe, evaluate, train_step
from tests.mpi.adjoint import assert_whole
from tests.mpi.together import once, replaced

LIMITS = {"float64": 1e-10, "float32": 2e-6, **{d.name: 4 * rounding.eps(d.name) for d in HALF}}
LR, STEPS, HEAD = {"SGD": 0.5, "AdamW": 0.01}, 3, 3  # HEAD: its width
FACTORS = (
    "accumulate",  # this and the next only say how a step is computed
    "recompute",
    "untied",
    "dropout",
    "uneven",  # vocabulary and hidden width that no number of ranks divides
    "ignored",  # replicas have from none to all of their targets counted
    "short",  # fewer tokens than the context, and they do not divide evenly
    "post",
    "sinusoidal",
    "head_bias",
    "relu",
)  # beside these, in cases_experts.py: "experts"
# Plackett and Burman 1946, 12 runs: in any two columns each of on/off, on/off comes 3 times.
FIRST = (1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0)
PAIRS = [frozenset(f for f, on in zip(FACTORS, FIRST[n:] + FIRST[:n], strict=True) if on) for n in range(11)]
PAIRS.append(frozenset())


@dataclass(frozen=True)
class Case:
    """A model, its data and how its steps are computed."""

    factors: frozenset = frozenset()
    batch: int = 4
    nhead: int = 8
    dtype: str = "float64"
    layers: int = 1
    schedule: str = "1f1b"
    v: int = 1
    micro_batches: int = 1
    zero: int = 0
    context: int = 8

    @property
    def config(self) -> Config:
        on = self.factors
        return (EncoderDecoder if "encoder-decoder" in on else Config)(
            vocab_size=37 if "uneven" in on else 48,
            context=self.context,
            d_model=HEAD * self.nhead,
            nhead=self.nhead,
            num_layers=2 if "deep" in on else self.layers,
            d_hidden=29 if "uneven" in on else 48,
            dropout=0.2 if "dropout" in on else 0.0,
            activation="relu" if "relu" in on else "gelu",
            norm_position="post" if "post" in on else "pre",
            positions="sinusoidal" if "sinusoidal" in on else "learned",
            tied="untied" not in on,
            head_bias="head_bias" in on,
            attention="no attention" not in on,
            causal="masked" not in on,
            d_embedding=7 if "factorised" in on else 0,
            experts=(5 if "uneven" in on else 4) if "experts" in on else 0,
            balance=0.1,  # so much that a mistake in it shows
        )

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """The inputs and targets of a step."""
        length = self.context - 3 * ("short" in self.factors)
        text = np.random.default_rng(5).integers(0, self.config.vocab_size, (self.batch, length + 1))
        inputs, targets = text[:, :-1], text[:, 1:].copy()
        if "masked" in self.factors:  # a few targets count, in some sequences none
            chosen = np.random.default_rng(6).random(inputs.shape) < 0.3
            chosen[0], chosen[1] = False, True
            inputs, targets = np.where(chosen, 2, inputs), np.where(chosen, inputs, -1)
        if "encoder-decoder" in self.factors:
            inputs[0, 2:4] = inputs[-1, 1:4] = 0  # padding of the source, which is half of the window
            targets[:, : self.context // 2] = -1
        if "ignored" in self.factors:
            targets[: self.batch // 2, 1:] = -1
            targets[1 : self.batch // 2] = -1
            targets[-1, ::2] = -1
        if "first half ignored" in self.factors:
            targets[: self.batch // 2] = -1
        return inputs, targets

    def model(self, grid: Grid = Grid()) -> Model:  # noqa: B008
        """Its weights are large enough for attention to be uneven, and no bias is zero."""
        parts = next(iter(self.factors & {"selective", "full"}), "none")
        model = gpt(self.config, grid.shares, parts).draw(3, self.dtype)
        for name, p in model.parameters().items():
            rng = np.random.default_rng(random.key(name))
            if name == "embedding.projection":
                pass  # large already: in float16 the first gradients would overflow
            elif p.decays:
                p.data[...] = p.data * 5
            else:
                p.data += 0.1 * rng.standard_normal(p.whole_shape)[p.piece].astype(self.dtype)
        if "frozen" in self.factors:
            model.parameters()["embedding.tokens"].frozen = np.arange(self.config.vocab_size) % 3 == 0
        if "recompute" in self.factors:  # more than the option does: a tied table is in one of them
            for name in [n for n in model.layers if n != "head"]:
                model.layers[name] = Recomputed(model.layers[name])
        return staged(model, grid.pipeline, self.v)

    accumulate = property(lambda self: 2 if "accumulate" in self.factors else 1)

    def layout(self, grid: Grid) -> Layout:
        """The grid's layout, with how this case computes a step."""
        order = {"pipeline": self.schedule, "virtual_stages": self.v, "micro_batches": self.micro_batches}
        parts = next(iter(self.factors & {"selective", "full"}), "none")
        return replace(grid.layout, zero=self.zero, accumulate=self.accumulate, recompute=parts, **order)

    def job(self, grid: Grid) -> Job:
        """The job that the formulas of costs/ describe."""
        return Job(self.config, self.layout(grid), self.batch, self.dtype)

    def team(self, model: Model, grid: Grid, bucket: int = BUCKET, **options) -> Team:
        """The team that trains a drawn model as this case says."""
        team = Team(model, replace(grid, layout=self.layout(grid)), bucket, **options)
        for p in model.parameters().values():
            team.keep(p)
        return team

    def recipe(self, lr: float = 0.01) -> Recipe:
        return Recipe(STEPS, lr, clip=0.5)


def outcome(case: Case, grid: Grid | None = None, bucket: int = 700) -> dict[str, np.ndarray]:
    """Everything that is compared, whole, by name: of a team on a grid, or of one rank alone.

    `bucket` is small, so that several leave.
    """
    (inputs, targets), found = case.data(), {}
    half = np.dtype(case.dtype) in HALF
    # eps: where a float32 gradient is next to zero, rounding decides (some 1e-9 here): the default of 1e-8
    # would let AdamW make steps of lr / 10 of that. Most gradients are 1e-3 and larger.
    for optimizer in (SGD(),) if half else (SGD(), AdamW(eps=1e-5, weight_decay=0.1)):
        model, scale = case.model(grid or Grid()), loss_scale(case.dtype)
        team = case.team(model, grid, bucket) if grid else Alone(case.accumulate)
        owned, kind = team.owned(model), type(optimizer).__name__

        def whole(arrays: dict, model=model, team=team) -> dict:
            arrays = team.joined(arrays)
            return {p.name: p.whole(arrays[p.name]) for p in model.parameters().values()}

        for step in range(1, STEPS + 1):
            how = {"team": team, "scale": scale}
            record = train_step(model, optimizer, case.recipe(LR[kind]), step, inputs, targets, **how)
            found |= {f"{kind} {name} {step}": record[name] for name in ("loss", "grad_norm")}
            if "loss" not in found:  # of the first step, before the gradients were clipped
                found |= {"loss": record["loss"], "norm": record["grad_norm"]}
                more = max(1.0, record["grad_norm"] / case.recipe().clip)
                found |= {
                    f"gradient {n}": g * more for n, g in whole({p.name: p.grad for p in owned}).items()
                }
        kept = {p.name: optimizer.state[p.name]["master"] if half else p.data for p in owned}
        found |= {f"{kind} weight {name}": w for name, w in whole(kept).items()}
    return {name: np.asarray(value) for name, value in found.items()}


@once
def serial(case: Case) -> dict[str, np.ndarray]:
    """The outcome on one rank, in one part, with nothing computed twice."""
    factors = case.factors - {"accumulate", "recompute", "selective", "full"}
    with choices() as gaps:
        found = outcome(replace(case, factors=factors, schedule="1f1b", v=1, micro_batches=1, zero=0))
    assert min(gaps, default=1) > 1e-6, "rounding may send a token to another expert: compare elsewhere"
    return found


@contextmanager
def choices():
    """Inside, each choice of experts adds to this list how far apart a last one chosen and the next are.

    By their logits, which is where rounding happens; however small both probabilities are.
    """
    gaps = []

    def noted(probs, k):
        ranked = np.log(-np.sort(-probs, axis=-1))
        gaps.append(float((ranked[..., k - 1] - ranked[..., k]).min(initial=1)))
        return top(probs, k)

    with replaced(experts, "top", noted):
        yield gaps


def compare(case: Case, grid: Grid, **options) -> dict[str, float]:
    """By name, the ratio of each distance to what is allowed: above 1 they differ."""
    got, want = outcome(case, grid, **options), serial(case)
    here = np.array([name in got for name in want])  # a stage has the parameters of its layers
    assert got.keys() <= want.keys() and grid.pipeline.all_reduce(here.astype(int), "max").all()
    excess = {}
    for name, a, b in ((name, got[name], want[name]) for name in got):
        limit = LIMITS[case.dtype]
        if name.endswith("qkv.bias") and name.startswith("gradient"):
            layer = name.removesuffix("qkv.bias")
            largest = max(np.abs(g).max() for n, g in got.items() if n.startswith(layer))
            excess[f"zero {name}"] = float(np.abs(keys(a)).max() / largest / rounding.eps(case.dtype))
        if name.startswith("AdamW weight") and case.dtype == "float32":
            limit = LR["AdamW"] / 100
        excess[name] = distance(a, b) / limit
    return excess


def assert_used_alike(case: Case, grid: Grid, batches=(3,), texts: bool = True) -> None:
    """What a trained model is used for: the loss of a text, logits with the cache, generated text."""
    model, whole = case.model(grid), replace(case, v=1).model()
    team = case.team(model, grid)
    text, tokens = (np.random.default_rng(seed).integers(0, 37, n) for seed, n in ((2, 100), (3, (2, 14))))
    text[[0, -1, *range(7, 90, 13)]] = 0  # documents of several lengths
    for batch in batches:
        got = team.evaluate(model, Windows(text, 8), batch)
        want = evaluate(whole, Windows(text, 8), batch)
        assert abs(got - want) < 1e-10 * want, (got, want)
        assert_whole(np.array(got), grid.world)
    talks = [next_logits(m, tokens[:, :3]) for m in (model, whole)]
    for n in range(3, 14):
        got, want = (next(t) if n == 3 else t.send(tokens[:, n - 1]) for t in talks)
        assert distance(got, want) < 1e-10, n
        if grid.experts.size == 1:  # on replicas that split the experts these round differently
            assert_whole(got, grid.world)
    if texts:
        got, want = (
            np.stack(list(generate(m, [1, 2], 9, range(3), temperature=0.9))) for m in (model, whole)
        )
        assert (got == want).all()
        assert_whole(got, grid.world)


def distance(a, b) -> float:
    if a.shape != b.shape or not np.isfinite(a).all():
        return np.inf
    return float(np.abs(a - b).max() / (np.abs(b).max() or 1))


def keys(bias):
    """The key's part of the fused bias, whose axes are (heads, 3, head width)."""
    return bias.reshape(-1, 3, HEAD)[:, 1]


def assert_equal(case: Case, grid: Grid, **options) -> None:
    excess = compare(case, grid, **options)
    far = sorted((x, name) for name, x in excess.items() if not x <= 1)[::-1]
    where = (
        f"tp {grid.tensor.size}, cp {grid.context.size}, dp {grid.data.size}, {type(grid.shares).__name__}"
    )
    where += f", zero {case.zero}, ep {grid.experts.size}"
    where += f", pp {grid.pipeline.size}, {case.schedule}, v {case.v}, m {case.micro_batches}"
    assert not far, f"{sorted(case.factors)}, {case.dtype}, {where}: {[f'{n}: {x:.1e}' for x, n in far[:4]]}"
