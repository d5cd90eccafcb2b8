"""What one of many ranks holds is the same with real ranks as on paper."""

from itertools import product

from minimega.costs.measured import measured_block
from minimega.model import RECOMPUTE, Config
from minimega.parallel.grid import grid
from minimega.parallel.layout import Layout
from minimega.ranks.paper import Paper
from tests.mpi.ranks import sizes

CONFIG = Config(vocab_size=64, context=32, d_model=32, nhead=8, dropout=0.1)


@sizes(2, 4)
def case_pretended_ranks_hold_what_real_ones_hold(group):
    for sequence, recompute in product((False, True), RECOMPUTE):
        shares = grid(group, Layout(group.size, sequence=sequence)).shares
        pretended = type(shares)(Paper(group.size, group.rank))
        ways = (measured_block(CONFIG, 2, recompute, how) for how in (shares, pretended))
        assert next(ways) == next(ways), (sequence, recompute)
