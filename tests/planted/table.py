"""All planted mistakes."""

from tests.planted.command_line import COMMAND_LINE
from tests.planted.costs import COSTS
from tests.planted.gpu import GPU
from tests.planted.interop import INTEROP
from tests.planted.judging import JUDGING
from tests.planted.kernels import KERNELS
from tests.planted.nets import NETS
from tests.planted.objectives import OBJECTIVES
from tests.planted.parallel import PARALLEL
from tests.planted.run import RUN
from tests.planted.seq2seq import SEQ2SEQ
from tests.planted.texts import TEXTS
from tests.planted.vectors import VECTORS

PARTS = (COMMAND_LINE, COSTS, GPU, INTEROP, JUDGING, KERNELS, NETS, OBJECTIVES)
PARTS += (PARALLEL, RUN, TEXTS, VECTORS, SEQ2SEQ)
MISTAKES = tuple(mistake for part in PARTS for mistake in part)
