"""The Camie Tagger in two stages, with the published weights' key names.

The initial stage scores every tag from the picture. The refined stage takes the most likely tags as context,
lets the picture's features attend to their embeddings, and scores every tag again. There is no residual from one
stage's scores to the other's, and none around either attention: the published weights were trained so.
"""

import torch
from torch import Tensor, nn

from tagger.architecture import Architecture
from tagger.attention import TagAttention
from tagger.backbone import build_backbone

__all__ = ["Architecture", "CamieTagger"]

LOGIT_LIMIT = 15.0
START_TEMPERATURE = 1.5


def classifier(inputs: int, hidden: int, embedding: int, tags: int, dropout: float) -> nn.Sequential:
    """Wide middle, back to the tag space, one score a tag; parameters at 0, 1, 4, 5 and 7 as published."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.LayerNorm(hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, embedding),
        nn.LayerNorm(embedding),
        nn.GELU(),
        nn.Linear(embedding, tags),
    )


class CamieTagger(nn.Module):
    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.backbone = build_backbone(a.backbone)
        self.spatial_pool = nn.AdaptiveAvgPool2d(1)
        self.initial_classifier = classifier(a.feature_size, a.initial_hidden, a.embedding_size, a.tag_count, a.dropout)
        self.temperature = nn.Parameter(torch.full((1,), START_TEMPERATURE))
        if a.stages == "full":
            self._add_refined_stage(a)

    def _add_refined_stage(self, a: Architecture) -> None:
        self.tag_embedding = nn.Embedding(a.tag_count, a.embedding_size)
        self.tag_attention = TagAttention(a.embedding_size, a.heads, a.attention, a.dropout)
        self.tag_norm = nn.LayerNorm(a.embedding_size)
        self.cross_proj = nn.Sequential(
            nn.Linear(a.feature_size, a.cross_hidden),
            nn.LayerNorm(a.cross_hidden),
            nn.GELU(),
            nn.Dropout(a.dropout),
            nn.Linear(a.cross_hidden, a.embedding_size),
        )
        self.cross_attention = TagAttention(a.embedding_size, a.heads, a.attention, a.dropout)
        self.cross_norm = nn.LayerNorm(a.embedding_size)
        self.refined_classifier = classifier(
            a.feature_size + a.embedding_size, a.refined_hidden, a.embedding_size, a.tag_count, a.dropout
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, S, S] -> initial and refined logits [B, tags]; an initial-only tagger returns the same twice."""
        return self.head(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, feature_size]"""
        return self.pool(self.backbone(images.to(self.temperature.dtype)))

    def pool(self, feature_map: Tensor) -> Tensor:
        """[B, feature_size, h, w] -> [B, feature_size]"""
        return self.spatial_pool(feature_map).flatten(1)

    def head(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[B, feature_size] -> initial and refined logits [B, tags]"""
        initial = self.initial(features)
        if self.architecture.stages == "initial":
            return initial, initial
        return initial, self.refined(features, initial)

    def initial(self, features: Tensor) -> Tensor:
        return self._logits(self.initial_classifier(features))

    def refined(self, features: Tensor, initial: Tensor) -> Tensor:
        """The second stage: [B, feature_size] and the initial logits [B, tags] -> [B, tags]"""
        return self.rescored(features, self.used_tags(features, self.context(initial)))

    def rescored(self, features: Tensor, used: Tensor) -> Tensor:
        """[B, feature_size] and what was taken from the context tags [B, E] -> refined logits [B, tags]"""
        return self._logits(self.refined_classifier(torch.cat([features, used], dim=1)))

    def context(self, initial: Tensor) -> Tensor:
        """Indices [B, K] of the most likely tags, best first; ranked by probability, as the published code does."""
        size = min(self.architecture.tag_context_size, initial.shape[1])
        return torch.sigmoid(initial).topk(size, dim=1).indices

    def used_tags(self, features: Tensor, context: Tensor) -> Tensor:
        """What the picture takes from its context tags: [B, feature_size], [B, K] -> [B, E]"""
        embedded = self.tag_embedding(context)  # [B, K, E]
        tags = self.tag_norm(self.tag_attention(embedded, embedded, embedded))
        picture = self.cross_proj(features).unsqueeze(1)  # [B, 1, E]; published: repeated K times
        # The published module defaults its value to the query. Under the token rule the tags would then have no
        # effect at all, so there the value is the key; and K equal queries give K equal answers: one is enough.
        value = picture if self.architecture.attention == "chunk" else tags
        return self.cross_norm(self.cross_attention(picture, tags, value)).mean(dim=1)

    def _logits(self, scores: Tensor) -> Tensor:
        return (scores / self.temperature).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
