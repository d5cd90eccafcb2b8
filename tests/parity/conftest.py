"""These tests need torch and transformers (`make parity`); without them nothing here is collected."""

import os
from importlib.util import find_spec

os.environ["HF_HUB_OFFLINE"] = "1"  # random weights only; nothing is downloaded

if find_spec("torch") and find_spec("transformers"):
    import torch

    torch.set_num_threads(1)
else:
    collect_ignore_glob = ["*.py"]
