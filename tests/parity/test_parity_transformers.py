"""minimega against the GPT-2 of the transformers library, with random weights (nothing is downloaded)."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from minimega import sample
from minimega.model import Config, Model
from tests.golden import cases
from tests.parity.torch_weights import reordered
from tests.test_golden import within

CONFIG = Config(vocab_size=61, context=48, d_model=24, nhead=3, num_layers=3)
LAYERS = {"attention.branch.qkv": "attn.c_attn", "attention.branch.out": "attn.c_proj"}
LAYERS |= {"mlp.branch.up": "mlp.c_fc", "mlp.branch.down": "mlp.c_proj"}
LAYERS |= {"attention.norm": "ln_1", "mlp.norm": "ln_2"}
OTHERS = {"embedding.tokens": "wte.weight", "embedding.positions": "wpe.weight"}
OTHERS |= {"norm.weight": "ln_f.weight", "norm.bias": "ln_f.bias"}


def gpt2_name(name: str) -> str:
    if name in OTHERS:
        return f"transformer.{OTHERS[name]}"
    block, rest = name.split(".", 1)
    layer, kind = rest.rsplit(".", 1)
    return f"transformer.h.{block.removeprefix('block')}.{LAYERS[layer]}.{kind}"


def gpt2(model: Model) -> GPT2LMHeadModel:
    c = model.config
    shape = {"n_positions": c.context, "n_embd": c.d_model, "n_layer": c.num_layers, "n_head": c.nhead}
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    theirs = GPT2LMHeadModel(
        GPT2Config(vocab_size=c.vocab_size, bos_token_id=0, eos_token_id=None, **shape, **off)
    )
    parameters = dict(theirs.named_parameters())
    for name, p in model.parameters().items():
        a = reordered(p.data, (c.nhead, 3)) if ".qkv." in name else p.data
        parameter = parameters.pop(gpt2_name(name))
        parameter.data = torch.tensor(a)  # GPT-2 stores (in, out), as minimega does
    assert not parameters, f"minimega has nothing for {list(parameters)}"
    return theirs.to(parameter.dtype).eval()


@pytest.mark.parametrize("dtype", cases.TOLERANCE)
def test_logits_loss_and_gradients(dtype):
    model = cases.filled(CONFIG, dtype)
    tokens, targets = cases.batch(CONFIG, 3, 40)
    theirs = gpt2(model)
    logits = theirs(torch.tensor(tokens)).logits
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.tensor(targets).flatten(), ignore_index=-1
    )
    loss.backward()
    answers = {"logits": logits.detach().numpy(), "loss": loss.detach().numpy()}
    gradients = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    for name in model.parameters():
        g = gradients[gpt2_name(name)]
        answers[name] = reordered(g, (3, CONFIG.nhead)) if ".qkv." in name else g
    within(cases.distances(cases.run_model(model, tokens, targets), answers), cases.TOLERANCE[dtype])


def test_their_own_loss_is_ours():
    # transformers shifts the targets itself; it computes its loss in float32, whatever the model's dtype
    model, (tokens, _) = cases.filled(CONFIG), cases.batch(CONFIG, 2, 20)
    theirs = gpt2(model)(torch.tensor(tokens), labels=torch.tensor(tokens)).loss.item()
    assert float(model.loss(tokens[:, :-1], tokens[:, 1:]).data) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("prompt", [[7], [3, 1, 4, 1, 5]])
def test_greedy_generation(prompt):
    model = cases.filled(CONFIG, spread=0.6)
    with torch.no_grad():
        theirs = gpt2(model).generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=40,
            pad_token_id=0,
        )
    ours = np.concatenate(list(sample.generate(model, prompt, 40, temperature=0)))
    assert ours.tolist() == theirs[0, len(prompt) :].tolist()
    assert len(set(ours.tolist())) > 3  # a text that repeats one token would show little
