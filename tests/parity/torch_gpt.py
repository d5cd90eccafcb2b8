"""An independent GPT in plain torch, of a minimega Config: to compare numbers with, and speed.

It is written as torch is usually written (GPT-2's order q | k | v in the fused projection, weights as torch
stores them, torch's own attention kernel), so that a mistake in minimega's layout cannot hide in a copy of
it.

B batch, T time, D width, H heads, C = D/H width of a head, V vocabulary.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from minimega.model import Config


class TorchBlock(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.heads, self.post = c.nhead, c.norm_position == "post"
        self.p, self.dropout = c.dropout, nn.Dropout(c.dropout)
        if c.attention:
            self.norm1 = nn.LayerNorm(c.d_model)
            self.qkv, self.out = nn.Linear(c.d_model, 3 * c.d_model), nn.Linear(c.d_model, c.d_model)
        self.norm2 = nn.LayerNorm(c.d_model)
        self.up, self.down = nn.Linear(c.d_model, c.d_hidden), nn.Linear(c.d_hidden, c.d_model)
        self.activation = nn.GELU(approximate="tanh") if c.activation == "gelu" else nn.ReLU()

    def attend(self, x):
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        p = self.p if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=p)  # (B, H, T, C)
        return self.out(y.transpose(1, 2).flatten(2))  # (B, T, D)

    def mlp(self, x):
        return self.down(self.activation(self.up(x)))

    def forward(self, x):
        parts = [(self.attend, self.norm1)] if hasattr(self, "qkv") else []
        for branch, norm in [*parts, (self.mlp, self.norm2)]:
            y = x + self.dropout(branch(x if self.post else norm(x)))
            x = norm(y) if self.post else y
        return x


class TorchGPT(nn.Module):
    """Tokens (B, T) to logits (B, T, V)."""

    def __init__(self, config: Config):
        super().__init__()
        c = self.config = config
        self.tokens = nn.Embedding(c.vocab_size, c.d_model)
        if c.positions == "learned":
            self.positions = nn.Embedding(c.context, c.d_model)
        else:
            # Vaswani et al. 2017, section 3.5: sines at the even places, cosines at the odd ones
            rates = torch.exp(
                -math.log(10000) * torch.arange(0, c.d_model, 2, dtype=torch.float64) / c.d_model
            )
            angles = torch.arange(c.context, dtype=torch.float64)[:, None] * rates
            waves = torch.stack((angles.sin(), angles.cos()), -1).flatten(1)[:, : c.d_model]
            self.register_buffer("waves", waves, persistent=False)
        self.dropout = nn.Dropout(c.dropout)
        self.blocks = nn.ModuleList(TorchBlock(c) for _ in range(c.num_layers))
        self.norm = nn.LayerNorm(c.d_model) if c.norm_position == "pre" else nn.Identity()
        self.head = nn.Linear(c.d_model, c.vocab_size, bias=c.head_bias)
        for name, p in self.named_parameters():
            if p.ndim > 1:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * c.num_layers) if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)
        if c.tied:
            self.head.weight = self.tokens.weight

    def forward(self, tokens):
        x, time = self.tokens(tokens), tokens.shape[1]
        if self.config.positions == "learned":
            x = x + self.positions.weight[:time]
        else:
            x = x * math.sqrt(self.config.d_model) + self.waves[:time].to(x.dtype)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def loss(self, tokens, targets):
        """The mean over the targets that are not below 0 (-1 by our convention, -100 by torch's)."""
        return F.cross_entropy(self(tokens).flatten(0, 1), targets.flatten(), ignore_index=-1)
