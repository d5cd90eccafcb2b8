"""Any layout reads what any other wrote, to the bit, and continues as one rank would; or all ranks refuse."""

import functools
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from safetensors import safe_open

from minimega.checkpoint import checkpoint, run_folder
from minimega.checkpoint.pieces import Division
from minimega.commands import reshard
from minimega.commands.texts import workspace
from minimega.costs import messages
from minimega.errors import BadInput
from minimega.model import gpt
from minimega.optim import AdamW
from minimega.parallel.grid import Grid, grid
from minimega.parallel.layout import Layout
from minimega.parallel.pipeline import staged
from minimega.parallel.team import Team
from minimega.ranks.paper import Paper
from minimega.train import train_step
from tests.mpi import cases_model, cases_pipeline
from tests.mpi.equal import Case
from tests.mpi.ranks import seldom, sizes
from tests.mpi.together import once, planted

# A layer for each stage of the longest pipeline.
CASES = {
    ranks: Case(frozenset({"dropout", "uneven", "experts"}), 8, layers=max(ranks, 4)) for ranks in (2, 4, 8)
}
# (tp, dp, sequence parallelism, pp, cp, ep, stages a rank)
MORE = {
    2: [(1, 1, False, 1, 2, 1), (1, 1, False, 2, 1, 1, 2)],
    4: [(1, 2, False, 1, 2, 2), (1, 2, False, 2, 1, 1, 2)],
    8: [(2, 2, True, 1, 2, 2), (2, 1, False, 2, 2, 1), (1, 2, False, 2, 2, 2, 2)],
}


class Cut:
    """A layout, and what a rank has in it."""

    def __init__(self, group, layout: tuple | None = None):
        layout, usual = layout or (), (1, 1, False, 1, 1, 1, 1)
        tp, dp, sequence, pp, cp, ep, v = (*layout, *usual[len(layout) :])
        order = {"pipeline": "interleaved" if v > 1 else "1f1b", "virtual_stages": v}
        self.layout = Layout(tp, dp, sequence, pp, cp, ep, **order)
        self.grid = grid(group, self.layout) if layout else Grid()
        self.case, self.v = CASES[group.size], v

    def model(self):
        model = gpt(self.case.config, self.grid.shares)
        return staged(model, self.grid.pipeline, self.v).draw(9, self.case.dtype)

    def owned(self, model, stage: int) -> list:
        """The parameters, or what ZeRO leaves of them to this rank, flat."""
        return Team(model, replace(self.grid, layout=replace(self.layout, zero=stage))).owned(model)

    def holding(self, stage: int = 0):
        """This rank's part of what a single rank had after a step: model, optimizer, owned arrays."""
        model, optimizer, (whole, remembered) = self.model(), AdamW(), serial(self.case)
        optimizer.steps = remembered.steps
        for name, p in model.parameters().items():
            p.data = whole[name][p.piece].copy()
        owned = self.owned(model, stage)
        for p in owned:
            optimizer.state[p.name] = {slot: part(a, p) for slot, a in remembered.state[p.name].items()}
        return model, optimizer, owned

    def save(self, folder: Path, step: int, group, stage: int = 0) -> None:
        model, optimizer, owned = self.holding(stage)
        if self.grid.world.size > 1 or group.rank == 0:
            state, world = {"step": step, "epoch": 1}, self.grid.world
            checkpoint.save(folder, model, optimizer, state, world=world, owned=owned)
        group.barrier()

    def differs(self, folder: Path, stage: int = 0) -> list[str]:
        """What a checkpoint reads back differently from what one rank had, bit for bit."""
        model, optimizer, (whole, remembered) = self.model(), AdamW(), serial(self.case)
        owned = self.owned(model, stage)
        checkpoint.resume(folder, model, optimizer, owned)
        found = [] if optimizer.steps == remembered.steps else ["steps"]
        found += [n for n, p in model.parameters().items() if not same(p.data, whole[n][p.piece])]
        for p in owned:
            read = optimizer.state.get(p.name, {})
            right = {slot: part(a, p) for slot, a in remembered.state[p.name].items()}
            found += [f"{p.name}/{slot}" for slot, a in right.items() if not same(read.get(slot), a)]
        return found

    def next_step(self, folder: Path) -> dict:
        model, optimizer = self.model(), AdamW()
        checkpoint.resume(folder, model, optimizer)
        team = Team(model, self.grid)
        return train_step(model, optimizer, self.case.recipe(), 2, *self.case.data(), team=team)


def same(a, b) -> bool:
    return a is not None and a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())


def part(array, p):
    """What is owned of a whole array."""
    piece = array[p.piece]
    return (piece if p.span is None else piece.reshape(-1)[p.span]).copy()


@once
def serial(case: Case):
    """The weights of one rank after a step, and its optimizer."""
    model, optimizer = case.model(), AdamW()
    train_step(model, optimizer, case.recipe(), 1, *case.data())
    return {name: p.data for name, p in model.parameters().items()}, optimizer


@once
def second_step(case: Case) -> dict:
    """The step after it."""
    model, optimizer = case.model(), AdamW()
    for step in (1, 2):
        record = train_step(model, optimizer, case.recipe(), step, *case.data())
    return record


@functools.cache  # MPI allows only so many communicators
def cuts(group) -> list[Cut]:
    known = cases_model.LAYOUTS[group.size] + cases_pipeline.LAYOUTS.get(group.size, []) + MORE[group.size]
    return [Cut(group, layout) for layout in known] + [Cut(group)]


@sizes(2, 4, 8)
def case_any_layout_reads_the_checkpoint_of_any_other(group):
    """Weights and optimizer state, whole pieces and ZeRO's spans, bit for bit; then a step."""
    read(group, every={4: 3, 8: 5}.get(group.size, 1))  # of 15 layouts of 8 ranks each is read by 3


@sizes(4)
@seldom(4)
def case_and_any_layout_that_is_left(group):
    read(group, every=3, left=(1, 2))


def read(group, every: int, left=(0,)) -> None:
    """Save in each layout and read in some: those whose numbers' sum leaves this when divided by `every`."""
    all_cuts = cuts(group)
    to_go_on = {n for n in range(len(all_cuts)) if group.size < 8 or n % 2}
    with workspace(None, group) as folder:
        for n, a in enumerate(all_cuts):
            a.save(folder, 1, group, stage=n % 2)
            for m, b in enumerate(all_cuts):
                if (n + m) % every not in left:
                    continue
                far = b.differs(folder / "step-1", stage=m // 2 % 2)
                assert not far, (a.layout, b.layout, far)
                if m in to_go_on:
                    to_go_on.remove(m)
                    record, want = b.next_step(folder / "step-1"), second_step(b.case)
                    assert all(abs(record[k] - want[k]) < 1e-10 for k in ("loss", "grad_norm")), b.layout
            group.barrier()
    assert not to_go_on


@sizes(2, 4, 8)
def case_one_process_writes_what_the_ranks_write(group):
    """`reshard` has no ranks: the same files, from the checkpoint of another layout."""
    with workspace(None, group) as folder:
        old = folder / "step-0"
        Cut(group).save(folder, 0, group)
        for n, cut in enumerate(cuts(group)[: -1 : 1 + group.size // 4]):
            new, right, layout = folder / f"new-{n}", folder / "step-1", replace(cut.layout, zero=n % 2)
            cut.save(folder, 1, group, stage=n % 2)
            if group.rank == 0:
                new.mkdir()
                reshard._write_checkpoint(old, new, cut.case.config, layout)
                again = folder / f"again-{n}"  # and from the parts
                again.mkdir()
                reshard._write_checkpoint(right, again, cut.case.config, layout)
                names = run_folder.read_state(right)["parts"]
                files = sorted(file for of in names.values() for file in of)
                for where in (new, again, right):
                    assert run_folder.read_state(where)["parts"] == names
                    assert sorted(f.name for f in where.iterdir()) == [*files, "state.json"]
                    step = "0" if where == new else "1"
                    for file in files:
                        header, arrays = content(where / file)
                        assert header["step"] == step and content(right / file)[1] == arrays
                        assert header | {"step": "1"} == content(right / file)[0]
            group.barrier()


@sizes(2, 4, 8)
def case_a_grid_on_paper_is_the_grid_of_the_ranks(group):
    for cut in cuts(group)[:-1]:
        paper = grid(Paper(group.size, group.rank), cut.layout)
        for field in fields(Grid):
            if field.name not in ("shares", "layout"):
                a, b = getattr(paper, field.name), getattr(cut.grid, field.name)
                assert (a.ranks, a.rank, a.size) == (b.ranks, b.rank, b.size), (field.name, cut.layout)


@sizes(2, 4)
def case_a_rank_writes_what_it_holds_and_sends_keys_alone(group):
    """It sends only keys, as the formula says, and its file holds only the pieces it is the first to hold."""
    with workspace(None, group) as folder:
        for cut in cuts(group)[:-1]:
            model, optimizer, _ = cut.holding()
            held = len(model.parameters())
            most = int(group.all_reduce(np.array(held), "max"))
            group.counter.traffic.clear()
            checkpoint.save(folder, model, optimizer, {"step": 1}, world=group)
            got = {row: (t.calls, t.bytes) for row, t in group.counter.traffic.items()}
            assert got == messages.of_checkpoint(group.size, most, 2 * most)
            file = folder / "step-1" / f"optimizer-{group.rank:05}.safetensors"
            own = 2 * sum(p.data.nbytes for p in model.parameters().values())
            if file.exists():
                assert file.stat().st_size < own + 2000 + 600 * held
            group.barrier()


def content(file: Path) -> tuple:
    """The contents of a part, in any order."""
    with safe_open(file, "numpy") as part:
        names = sorted(part.keys())
        return part.metadata(), [(n, part.get_tensor(n).shape, part.get_tensor(n).tobytes()) for n in names]


def raised(act, kind=OSError) -> str:
    try:
        act()
    except kind as why:
        return str(why)
    return ""


@sizes(2, 4, 8)
def case_a_rank_that_fails_stops_all_and_leaves_what_was_there(group):
    """A full disk on the first or the last rank, at any moment: one error everywhere, and nothing is lost."""
    cut = Cut(group, (1, 1, False, group.size))
    moments = [(r, checkpoint, "write") for r in (0, group.size - 1)]
    moments += [(0, Path, name) for name in ("mkdir", "rename", "write_text")]
    with workspace(None, group) as folder:
        cut.save(folder, 1, group)
        for rank, *moment in moments:
            model, optimizer, _ = cut.holding()

            def full(*_, rank=rank, **__):
                raise OSError(28, f"No space left for rank {rank}")

            with planted(group, lambda at=moment, full=full: [(*at, full)] if group.rank == rank else []):  # noqa: B023
                said = raised(lambda: checkpoint.save(folder, model, optimizer, {"step": 2}, world=group))  # noqa: B023
            assert said.startswith(f"[Errno 28] No space left for rank {rank}"), (said, moment)
            group.barrier()
            left = {f.name for f in folder.iterdir()}
            assert left == {"latest", "step-1"} and run_folder.newest(folder).name == "step-1", left
            assert not cut.differs(folder / "step-1")
        cut.save(folder, 2, group)
        assert run_folder.newest(folder).name == "step-2" and not cut.differs(folder / "step-2")
        group.barrier()


@sizes(4)
def case_planted_mistakes_are_noticed(group):
    cut, alone = Cut(group, (2, 1, False, 2)), Cut(group)
    table, matrix = "embedding.tokens", "block0.attention.branch.qkv.weight"

    def anywhere(found) -> bool:
        return group.all_reduce(np.array(len(found))) > 0

    with workspace(None, group) as folder:
        cut.save(folder, 1, group)
        model, optimizer, _ = cut.holding()
        right = Division.of, checkpoint.weights, checkpoint.piece_of

        def save(step):
            checkpoint.save(folder, model, optimizer, {"step": step}, world=group)
            group.barrier()

        def by_nobody(self, rank, pieces):
            return [p for p in right[0](self, rank, pieces) if not p.name.startswith(table)]

        with planted(
            group, lambda: [(Division, "of", by_nobody)]
        ):  # each end assumes that the other one writes it
            assert "pieces were written instead of" in raised(lambda: save(2))

        def in_one_place(owned):
            """Both halves of a matrix say that they are the first."""
            held = right[1](owned)
            first = {p: p._replace(bounds=((0, 24), (0, 36))) if p.name == matrix else p for p in held}
            return {first[p]: array for p, array in held.items()}

        with planted(group, lambda: [(checkpoint, "weights", in_one_place)]):
            assert "is damaged: its parts hold" in raised(lambda: save(2))
        assert run_folder.newest(folder).name == "step-1"

        def exchanged(p, slot=""):
            """The halves are swapped."""
            piece = right[2](p, slot)
            if p.name == matrix:
                other = 36 * (1 - cut.grid.tensor.rank)
                return piece._replace(bounds=((0, 24), (other, other + 36)))
            return piece

        with planted(group, lambda: [(checkpoint, "piece_of", exchanged)]):
            save(2)
        assert anywhere(alone.differs(folder / "step-2"))

        def of_the_first_stage(p, slot=""):
            """The last stage reads the table in the first part, whatever its own half is."""
            piece = right[2](p, slot)
            rows = len(range(37)[: -(-37 // 2)])
            return (
                piece._replace(bounds=((0, rows), (0, 24)))
                if p.at_both_ends and cut.grid.pipeline.rank
                else piece
            )

        with planted(group, lambda: [(checkpoint, "piece_of", of_the_first_stage)]):
            assert anywhere(cut.differs(folder / "step-1"))

        group.barrier()
        if group.rank == 0:  # what no writing rank noticed: a part is missing, or belongs to another step
            part = folder / "step-1" / "model-00003.safetensors"
            kept = part.read_bytes()
            part.write_bytes((folder / "step-2" / "model-00003.safetensors").read_bytes())
            assert "are of different checkpoints" in raised(lambda: cut.differs(folder / "step-1"), BadInput)
            part.write_bytes(kept[:-8])
            assert "cut short" in raised(lambda: cut.differs(folder / "step-1"), BadInput)
            part.unlink()
            assert "is missing" in raised(lambda: cut.differs(folder / "step-1"), BadInput)
        group.barrier()
