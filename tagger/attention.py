"""Attention over tag embeddings by two rules, with the published weights' four projections.

`chunk` is what the published Camie v1 weights were trained with: their code hands [B, heads, tokens, dim] to
flash-attn, which reads (batch, sequence, heads, dim). So each token attends among its own `heads` chunks and the
tokens never mix. `token` is the textbook rule: each head attends among the tokens.
"""

import logging
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

logger = logging.getLogger(__name__)

OLDEST_CARD = (8, 0)  # compute capability that flash-attn supports: Ampere


@cache
def flash_attention() -> Callable[..., Tensor] | None:
    """The optional extra, `pip install manabooru[flash]`; None where it is missing or was built for another torch."""
    try:
        from flash_attn import flash_attn_func
    except ModuleNotFoundError:
        return None
    except (ImportError, OSError) as error:
        logger.warning("flash-attn can't be loaded, so torch's own attention is used: %s", error)
        return None
    return flash_attn_func


def flash_installed() -> bool:
    return flash_attention() is not None


def flash_fits(tensor: Tensor) -> bool:
    """flash-attn works on newer cards in half precision, with at most 256 dimensions a head in steps of 8."""
    if not tensor.is_cuda or tensor.dtype not in (torch.float16, torch.bfloat16):
        return False
    if tensor.shape[-1] % 8 or tensor.shape[-1] > 256:
        return False
    return torch.cuda.get_device_capability(tensor.device) >= OLDEST_CARD and flash_installed()


def attend(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
    """softmax(query key^T / sqrt(dim)) value over the second axis. [B, L, H, D] each; H runs in parallel."""
    if flash_fits(query):
        return flash_attention()(query, key, value, dropout_p=dropout)
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))  # [B, H, L, D]
    return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout).transpose(1, 2)


class TagAttention(nn.Module):
    """Multi-head attention without biases, masks or a residual; the caller adds the norm."""

    def __init__(self, size: int, heads: int, rule: str, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.rule = rule
        self.dropout = dropout
        self.q_proj = nn.Linear(size, size, bias=False)
        self.k_proj = nn.Linear(size, size, bias=False)
        self.v_proj = nn.Linear(size, size, bias=False)
        self.out_proj = nn.Linear(size, size, bias=False)
        for projection in (self.q_proj, self.k_proj, self.v_proj, self.out_proj):
            nn.init.xavier_uniform_(projection.weight, gain=0.1)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[B, Tq, E], [B, Tk, E], [B, Tk, E] -> [B, Tq, E].

        Under the chunk rule token t of the query meets only token t of the key, so a query or value of one token
        is projected once and stands for all of them.
        """
        dropout = self.dropout if self.training else 0.0
        query, key, value = self.q_proj(query), self.k_proj(key), self.v_proj(value)
        query, key, value = (tensor.unflatten(-1, (self.heads, -1)) for tensor in (query, key, value))  # [B, T, H, D]
        if self.rule == "token":
            return self.out_proj(attend(query, key, value, dropout).flatten(2))
        tokens = max(query.shape[1], key.shape[1])
        query, key, value = (
            tensor.expand(-1, tokens, -1, -1).transpose(1, 2)  # [B, H, T, D]: the chunks take the sequence's place
            for tensor in (query, key, value)
        )
        return self.out_proj(attend(query, key, value, dropout).transpose(1, 2).flatten(2))
