"""The verifier: a cross-encoder that starts as the encoder's cosine and learns what it misses.

The exact forward is in the docstring of `nearhit.verifier.graph`, which builds the same without
torch. ``similarity`` is the cosine of the two texts by the encoder. ``out`` starts at zero, so that
the untrained verifier is the encoder. A served logit is that of (stored text, new text). With
`bf16` the transformer's products are bfloat16 while it is trained; all else stays float32.
"""

from pathlib import Path
from typing import Final

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import BertModel

from nearhit.encoder.weights import BASE_FILES, read_tensors
from nearhit.verifier.graph import FEATURES
from nearhit.verifier.weights import grow

WIDE: Final = 64
SEP: Final = 102
_FAR: Final = -1e4


class Verifier(nn.Module):
    """BERT, features of how its tokens match, and a head; see the module's docstring."""

    def __init__(
        self, bert: nn.Module, hidden: int, vocabulary: int, *, separator: int = SEP
    ) -> None:
        super().__init__()
        self.bert = bert
        self.separator = separator
        self.bf16 = False
        self.wide = nn.Linear(3 * hidden, WIDE)
        self.match = nn.Linear(FEATURES, WIDE)
        self.out = nn.Linear(2 * WIDE, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.shift = nn.Parameter(torch.tensor(0.0))
        # Weight, is a number, is a negation of each token; mean and deviation of the features.
        self.register_buffer("tokens", torch.zeros(vocabulary, 3))
        self.register_buffer("centre", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))

    def parts(
        self, ids: Tensor, types: Tensor, mask: Tensor, similarity: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return pooled hidden states (n, 3 H) and raw features (n, FEATURES)."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16 and self.training):
            given = {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}
            hidden = self.bert(**given).last_hidden_state.float()
        content = (mask == 1) & (ids != self.separator)
        in_a = content & (types == 0)
        in_a[:, 0] = False
        in_b = content & (types == 1)
        with torch.no_grad():
            words = self.bert.get_input_embeddings()(ids)
        classes = self.tokens[ids]
        columns = [similarity]
        for rows in (words, hidden):
            columns += _matches(rows, classes[..., 0], in_a, in_b)
        columns += _absences(ids, classes, in_a, in_b)
        kept = mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * kept).sum(1) / kept.sum(1)
        highest = (hidden + (1 - kept) * _FAR).max(1).values
        return torch.cat([hidden[:, 0], mean, highest], -1), torch.stack(columns, -1)

    def head_logit(self, ids: Tensor, types: Tensor, mask: Tensor, similarity: Tensor) -> Tensor:
        """Return what the head adds to the cosine: float32 (n,)."""
        pooled, features = self.parts(ids, types, mask, similarity)
        standard = ((features - self.centre) / self.spread).clamp(-5, 5)
        both = torch.cat([self.wide(pooled), self.match(standard)], -1)
        return self.out(nn.functional.gelu(both)).squeeze(-1)

    def forward(self, ids: Tensor, types: Tensor, mask: Tensor, similarity: Tensor) -> Tensor:
        """Return one logit a pair: float32 (n,)."""
        added = self.head_logit(ids, types, mask, similarity)
        return self.scale * similarity + self.shift + added


def new_verifier(base: Path, rank: int, scale: float, shift: float) -> Verifier:
    """Grow a verifier from base weights; rank 0 trains them all but the embedding tables."""
    bert = BertModel.from_pretrained(base, add_pooling_layer=False)
    hidden, vocabulary = bert.config.hidden_size, bert.config.vocab_size
    if rank:
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
        bert = get_peft_model(bert, config)
    else:
        bert.embeddings.requires_grad_(False)
    verifier = Verifier(bert, hidden, vocabulary)
    nn.init.constant_(verifier.scale, scale)
    nn.init.constant_(verifier.shift, shift)
    return verifier


def load_shipped(verifier: Verifier, base: Path, folder: Path) -> None:
    """Give a verifier of rank 0 the weights of one that ships.

    Raises:
        EncoderError: the folder holds none, or one of another base.
    """
    tensors = grow(read_tensors(base / BASE_FILES[2]), folder)
    names = {*dict(verifier.named_parameters()), *dict(verifier.named_buffers())}
    named = {name if name in names else f"bert.{name}": value for name, value in tensors.items()}
    verifier.load_state_dict(
        {name: torch.from_numpy(value).float() for name, value in named.items() if name in names}
    )


def _matches(rows: Tensor, weight: Tensor, in_a: Tensor, in_b: Tensor) -> list[Tensor]:
    """Late interaction: how well the tokens of each side are matched on the other, 8 of (n,)."""
    rows = rows / rows.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    near = rows @ rows.transpose(1, 2)
    found = []
    for own, other in ((in_a, in_b), (in_b, in_a)):
        best = near.masked_fill(~other.unsqueeze(1), -1.0).max(-1).values
        own_weight = weight * own
        found.append((best * own).sum(-1) / own.sum(-1).clamp_min(1))
        found.append((best * own_weight).sum(-1) / own_weight.sum(-1).clamp_min(1e-6))
        found.append(best.masked_fill(~own, 1.0).min(-1).values)
        found.append((own_weight * (1 - best)).max(-1).values)
    return found


def _absences(ids: Tensor, classes: Tensor, in_a: Tensor, in_b: Tensor) -> list[Tensor]:
    """What only one side has, negations that differ, and both lengths: 9 of (n,)."""
    same = ids.unsqueeze(1) == ids.unsqueeze(2)
    found = []
    for own, other in ((in_a, in_b), (in_b, in_a)):
        absent = own & ~(same & other.unsqueeze(1)).any(-1)
        weight = classes[..., 0] * absent
        total = (classes[..., 0] * own).sum(-1).clamp_min(1e-6)
        found.append(weight.sum(-1) / total)
        found.append(weight.max(-1).values)
        found.append((classes[..., 1] * absent).max(-1).values)
    negations = [(classes[..., 2] * own).sum(-1) for own in (in_a, in_b)]
    found.append((negations[0] - negations[1]).abs())
    found += [own.sum(-1).float().clamp_min(1).log() for own in (in_a, in_b)]
    return found
