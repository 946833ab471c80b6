"""How many floating-point operations a training step is worth, for MFU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tau2_exp.engines.torch.packing import Packed
from tau2_exp.engines.torch.shape import ModelShape


def packed_flops(shape: ModelShape, batches: Iterable[Packed], frozen: bool = False) -> tuple[float, int]:
    """`training_flops` of micro-batches, and how many tokens they compute: what rows share is computed once."""
    lengths: list[int] = []
    before: list[int] = []
    predicted = 0
    for batch in batches:
        lengths += batch.lengths
        before += [sum(batch.lengths[number] for number in path) for path in batch.ancestors]
        predicted += len(batch.targets)
    return training_flops(shape, lengths, before, predicted, frozen), sum(lengths)


def training_flops(
    shape: ModelShape, lengths: Sequence[int], before: Sequence[int], predicted: int | None = None, frozen: bool = False
) -> float:
    """Operations of one forward and one backward pass over segments of `lengths`, each after `before` tokens.

    6·N·tokens plus attention (Kaplan et al., 2020; PaLM, Chowdhery et al., 2022, appendix B). N counts the matrices
    that a token passes through: the layers' for every token, the output matrix for the `predicted` tokens alone (None:
    all), the embedding's look-up not at all. Attention: of each pair of a query and a key that it may see, 4·head_dim
    operations a head and layer going forward (QKᵀ, then its product with V), twice that going back: 12. Causal pairs
    only. Activations that are computed again going backward do not count. Frozen matrices have no gradients of their
    own: 4·N·tokens; an adapter's few do not count.
    """
    tokens = sum(lengths)
    pairs = sum(n * start + n * (n + 1) // 2 for n, start in zip(lengths, before, strict=True))
    attention = shape.width * shape.head_dim * (2 * shape.heads + 2 * shape.kv_heads)
    layers = shape.layers * (attention + 3 * shape.width * shape.ffn)
    head = shape.vocab_size * shape.width * (tokens if predicted is None else predicted)
    matrices = (4.0 if frozen else 6.0) * (layers * tokens + head)
    return matrices + 12.0 * shape.layers * shape.heads * shape.head_dim * pairs
