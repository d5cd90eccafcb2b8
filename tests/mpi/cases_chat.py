"""Fine-tuning on answers over ranks: replicas count unequal numbers of targets; the vocabulary has grown."""

from dataclasses import replace

import numpy as np

from minimega.checkpoint import checkpoint
from minimega.commands.texts import workspace
from minimega.data import chat, tokens
from minimega.data.windows import Windows
from minimega.model import Config, gpt
from minimega.optim import AdamW
from minimega.parallel.grid import grid
from minimega.parallel.layout import Layout
from minimega.parallel.team import build
from tests.mpi.equal import Case, assert_equal
from tests.mpi.ranks import sizes

CUTS = {2: (Layout(tp=2), Layout(dp=2), Layout(pp=2), Layout(cp=2), Layout(tp=2, sequence=True)),
        4: (Layout(tp=2, dp=2), Layout(tp=2, pp=2), Layout(dp=2, pp=2))}  # fmt: skip


class Answers(Case):
    """Its batch is four windows of one dialogue each, whose answers have 1, 2, 6 and 3 tokens with <end>."""

    def data(self):
        tokenizer = tokens.train("char", ["abc"], specials=chat.SPECIALS)
        stream = []
        for content in ("", "a", "abcab", "bc"):
            question = chat.prompt(tokenizer, "a" * (6 - len(content)))
            stream += [*question, *tokenizer.encode(content).tolist(), tokenizer.special(chat.END)]
        stream = np.array([*stream, tokenizer.start])
        windows = Windows(stream, self.context, chat.answers(stream, tokenizer))
        inputs, targets = windows.take(range(4))
        assert [int((row >= 0).sum()) for row in targets] == [1, 2, 6, 3]
        return inputs, targets


@sizes(2, 4)
def case_the_loss_on_answers_is_the_serial_one(group):
    case = Answers(frozenset({"dropout"}), context=12)
    for cut in CUTS[group.size]:
        m, layers = (2, 2) if cut.pp > 1 else (1, 1)
        for zero in (0, 1, 2, 3) if cut == Layout(dp=2) else (0, 1) if cut.dp == 2 else (0,):
            assert_equal(replace(case, zero=zero, micro_batches=m, layers=layers), grid(group, cut))


@sizes(2, 4)
def case_a_grown_vocabulary_is_the_serial_one(group):
    """Old rows are the checkpoint's, new ones as drawn, also where a rank has new rows alone."""
    small = Config(vocab_size=9, context=8, d_model=8, nhead=2, num_layers=2, tied=False, head_bias=True)
    large = replace(small, vocab_size=24)
    old, fresh = gpt(small).draw(1), gpt(large).draw(2).parameters()
    with workspace(None, group) as folder:
        if group.rank == 0:
            checkpoint.save(folder, old, AdamW(), {"step": 1})
        group.barrier()
        for cut in CUTS[group.size]:
            for zero in (0, 3) if cut == Layout(dp=2) else (0,):
                g = grid(group, replace(cut, zero=zero))
                model, team = build(large, g)
                team.draw(model, 7)  # of another seed: whatever is not read has to come from the call below
                checkpoint.fill(model, checkpoint.open_parts(folder / "step-1"), keep=team.keep, grown=2)
                got = team.joined({p.name: p.data for p in team.owned(model)})
                for name, p in model.parameters().items():
                    want = fresh[name].data.copy()
                    known = old.parameters()[name].data
                    want[: len(known)] = known
                    assert np.array_equal(p.whole(got[name]), want), (name, cut, zero)
        group.barrier()
