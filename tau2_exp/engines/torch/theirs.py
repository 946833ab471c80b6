"""Any causal language model of transformers behind this engine's interface: padded, without prefix sharing, right."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tau2_exp.engines.torch.backbone import CONFIG, LanguageModel
from tau2_exp.engines.torch.kernels import chunks
from tau2_exp.engines.torch.padding import Padded, pad
from tau2_exp.engines.torch.room import Room
from tau2_exp.engines.torch.theirs_cache import TheirCache, TheirRow
from tau2_exp.types import Row

OF_A_FILE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")
LONG = 32768  # tokens of context, where a config names no bound


class FullPrecisionHead(nn.Linear):
    """The output layer with logits in float32 whatever its weights are; see `kernels.full_logits`."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden [..., width] → logits, float32 [..., vocab_size]."""
        return F.linear(hidden.float(), self.weight.float(), None if self.bias is None else self.bias.float())


class TransformersLM(LanguageModel):
    """A causal language model of transformers, `theirs`, in evaluation mode: nothing is dropped at random."""

    def __init__(self, theirs: transformers.PreTrainedModel, source: dict[str, dict[str, Any]]):
        super().__init__()
        self.theirs = theirs
        self.source = source
        head = theirs.get_output_embeddings()
        if type(head) is nn.Linear:
            head.__class__ = FullPrecisionHead

    @property
    def head(self) -> Tensor:
        """The output matrix, [vocab_size, width]."""
        return self.theirs.get_output_embeddings().weight

    @property
    def context(self) -> int:
        """The longest sequence that it was made for, in tokens."""
        return getattr(self.theirs.config.get_text_config(), "max_position_embeddings", None) or LONG

    @property
    def config(self) -> dict[str, Any]:
        """Its config.json, less what differs from one copy of a model to the next."""
        return {key: value for key, value in self.theirs.config.to_dict().items() if key not in OF_A_FILE}

    @property
    def named(self) -> nn.Module:
        """The model of transformers itself."""
        return self.theirs

    def batches(self, rows: Sequence[Row], batch_tokens: int) -> Iterator[Padded]:
        """Micro-batches of whole rows; see `padding`."""
        return (Padded(batch, self.device) for batch in pad(rows, batch_tokens))

    def statistics(self, batch: Padded, temperature: float = 1.0, entropy: bool = False) -> tuple[Tensor, Tensor]:
        """See `LanguageModel.statistics`. Padding comes last, where a causal model sees nothing of it."""
        with self._recomputing():
            hidden = self._decode(input_ids=batch.ids, use_cache=False).flatten(0, 1)[batch.before]
        found = [
            checkpoint(self._of_tokens, hidden[part], batch.targets[part], temperature, entropy, use_reentrant=False)
            for part in chunks(len(hidden), self.head)
        ]
        log_probs, entropies = zip(*found, strict=True)
        return torch.cat(log_probs), torch.cat(entropies)

    def new_cache(self, room: Room) -> TheirCache:
        """An empty cache."""
        return TheirCache(self.theirs.config, self.head.dtype, room)

    def next_logits(
        self,
        cache: TheirCache,
        decodes: Sequence[TheirRow],
        prefills: Sequence[tuple[TheirRow, int]],
        ids: Sequence[int],
    ) -> Tensor:
        """See `LanguageModel.next_logits`. Rows that decode are one pass where they can be stacked."""
        feeds = [(row, 1) for row in decodes] + list(prefills)
        logits = []
        start = 0
        together = cache.together(decodes) if len(decodes) > 1 else None
        if together is not None:
            start = len(decodes)
            logits.append(self._step(together, decodes, ids[:start]))
        for row, count in feeds[start:]:
            logits.append(self._continue(cache, row, ids[start : start + count]))
            start += count
        return torch.cat(logits)

    def write_weights(self, folder: Path) -> None:
        """The weights, and transformers' own config files."""
        self.theirs.save_pretrained(folder, state_dict=self.weights())

    # ------------------------------------------------------------ passes

    def _continue(self, cache: TheirCache, row: TheirRow, ids: Sequence[int]) -> Tensor:
        """Logits [1, vocab_size] after one row's next tokens."""
        past = cache.alone(row)
        tokens = torch.tensor([ids], device=self.device)
        places = torch.arange(len(row.ids), len(row.ids) + len(ids), device=self.device)[None]
        hidden = self._decode(input_ids=tokens, position_ids=places, past_key_values=past, use_cache=True)
        row.ids += ids
        return self._logits(hidden[:, -1])

    def _step(self, past: Any, rows: Sequence[TheirRow], ids: Sequence[int]) -> Tensor:
        """Logits [rows, vocab_size] after one more token of each row of a stack."""
        places = torch.tensor([[len(row.ids)] for row in rows], device=self.device)
        longest = int(places.max())
        mask = (torch.arange(longest + 1, device=self.device) >= longest - places).long()
        tokens = torch.tensor(ids, device=self.device)[:, None]
        hidden = self._decode(
            input_ids=tokens, position_ids=places, attention_mask=mask, past_key_values=past, use_cache=True
        )
        for row, token in zip(rows, ids, strict=True):
            row.ids.append(token)
        return self._logits(hidden[:, -1])

    def _decode(self, **given: Any) -> Tensor:
        """Hidden states after the last norm, [rows, tokens, width]; a model without position ids is given none."""
        decoder = self.theirs.base_model
        if "position_ids" not in inspect.signature(decoder.forward).parameters:
            given.pop("position_ids", None)
        return decoder(**given).last_hidden_state

    def _logits(self, hidden: Tensor) -> Tensor:
        """Logits, float32 [M, vocab_size], of hidden states [M, width]: what the model does after its decoder."""
        with _decoded(self.theirs.base_model, hidden[None]):
            return self.theirs(inputs_embeds=hidden[None], use_cache=False).logits[0].float()

    def _of_tokens(self, hidden: Tensor, targets: Tensor, temperature: float, entropy: bool) -> tuple[Tensor, Tensor]:
        log_p = (self._logits(hidden) / temperature).log_softmax(-1)
        found = log_p.gather(-1, targets[:, None])[:, 0]
        return found, -(log_p.exp() * log_p).sum(-1) if entropy else torch.zeros_like(found)

    @contextmanager
    def _recomputing(self) -> Iterator[None]:
        """While a graph is made, transformers drops activations only in training mode."""
        dropping = self.recompute and torch.is_grad_enabled() and self.theirs.supports_gradient_checkpointing
        if dropping:
            if not self.theirs.is_activation_checkpointing:
                self.theirs.activation_checkpointing_enable({"use_reentrant": False})
                self.theirs.disable_input_require_grads()  # its hook is for reentrant checkpoints alone
            self.theirs.train()
        try:
            yield
        finally:
            self.theirs.eval()


class _Output:
    """What a decoder returned: hidden states, and nothing else that a model may ask for."""

    def __init__(self, hidden: Tensor):
        self.last_hidden_state = hidden

    def __getattr__(self, name: str) -> None:
        return None

    def __getitem__(self, place: int) -> Tensor:
        return (self.last_hidden_state,)[place]


@contextmanager
def _decoded(decoder: nn.Module, hidden: Tensor) -> Iterator[None]:
    """Within the block the decoder returns `hidden`, so that the model around it does what it does afterwards."""
    decoder.forward = lambda *_given, **_named: _Output(hidden)
    try:
        yield
    finally:
        del decoder.forward


def load_theirs(
    folder: Path, source: dict[str, dict[str, Any]], device: torch.device, dtype: torch.dtype
) -> TransformersLM:
    """The model of a local folder. Raises what transformers raises where it cannot be read, and ValueError."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config = transformers.AutoConfig.from_pretrained(folder)
    for part in (config, config.get_text_config()):
        for name, value in vars(part).items():
            if isinstance(value, float) and ("drop" in name or "jitter" in name):
                setattr(part, name, 0.0)
    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=dtype, output_loading_info=True
    )
    theirs, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"no weights for {', '.join(missing[:3])}")
    if "past_key_values" not in inspect.signature(theirs.base_model.forward).parameters:
        raise ValueError(f"{type(theirs).__name__} keeps no past_key_values between turns")
    theirs.generation_config = transformers.GenerationConfig()  # the source's file is kept as it is
    kept = source[CONFIG]
    if theirs.config.model_type != kept.get("model_type"):  # the language model of one that also sees
        ends = {key: value for key, value in kept.items() if key.endswith("token_id")}
        source = source | {CONFIG: theirs.config.to_dict() | ends}
    return TransformersLM(theirs.to(device).eval(), source)
