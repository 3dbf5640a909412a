"""The second stage for use: what depends on a tag alone is computed once for each tag, not once for each picture.

Under the chunk rule no tag's embedding meets another's before the mean, so the key that the picture attends to is a
function of the tag. And what the picture's 16 values give through the output projection is the same for all its
context tags: each tag only mixes 16 times 16 of them. The scores are those of CamieTagger.refined up to rounding, at
a tenth of the cost. The token rule mixes the tags first and has no such shortcut.
"""

import torch
from torch import Tensor

from tagger.memory import is_mapped, leave_pages
from tagger.model import CamieTagger


class TagKeys:
    """Keys of the tags met so far. Memory is taken as tags come; a gallery's pictures share most of theirs."""

    def __init__(self, model: CamieTagger) -> None:
        self.model = model
        table = model.tag_embedding
        # Not filled: the system gives pages only to the rows that are written.
        self.keys = torch.empty(table.num_embeddings, table.embedding_dim, dtype=table.weight.dtype)
        self.known = torch.zeros(table.num_embeddings, dtype=torch.bool)
        self.mapped = is_mapped(table.weight)
        attention = model.cross_attention
        # The output projection of each chunk: [H, D, E]
        self.through = attention.out_proj.weight.unflatten(1, (attention.heads, -1)).permute(1, 2, 0).contiguous()

    def __call__(self, context: Tensor) -> Tensor:
        """[B, K] -> [B, K, E]"""
        new = context[~self.known[context]].unique()
        if len(new):
            self.keys[new] = self._computed(new)
            self.known[new] = True
            if self.mapped:
                leave_pages(self.model.tag_embedding.weight)  # no tag's row is read twice
        return self.keys[context]

    def _computed(self, tags: Tensor) -> Tensor:
        """[N] -> [N, E]"""
        model = self.model
        embedded = model.tag_embedding(tags)[None]
        met = model.tag_norm(model.tag_attention(embedded, embedded, embedded))
        return model.cross_attention.k_proj(met)[0]


def used_tags(model: CamieTagger, keys: TagKeys, features: Tensor, context: Tensor) -> Tensor:
    """As CamieTagger.used_tags: [B, feature_size], [B, K] -> [B, E]"""
    attention, heads = model.cross_attention, model.cross_attention.heads
    picture = model.cross_proj(features)
    query = attention.q_proj(picture).unflatten(-1, (heads, -1))  # [B, H, D]
    value = attention.v_proj(picture).unflatten(-1, (heads, -1))  # [B, J, D]
    batch, count = context.shape
    key = keys(context).view(batch, count * heads, -1)  # [B, K*J, D], J = H chunks of each tag
    scores = torch.bmm(key, query.transpose(1, 2)) * query.shape[-1] ** -0.5  # [B, K*J, H]
    shares = scores.view(batch, count, heads, heads).softmax(dim=2)  # over J
    # What value j gives when chunk h of the output takes it: [H, B*J, E]
    given = torch.bmm(value.flatten(0, 1).expand(heads, -1, -1), keys.through)
    given = given.view(heads, batch, heads, -1).transpose(0, 1).reshape(batch, heads * heads, -1)
    mixed = torch.bmm(shares.transpose(2, 3).reshape(batch, count, -1), given)  # [B, K, E]
    return model.cross_norm(mixed).mean(dim=1)
