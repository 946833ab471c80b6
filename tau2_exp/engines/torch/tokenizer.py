"""Tokenizers: one trained from a run's own texts, or the one that comes with a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tau2_exp.config import ConfigError

BORDERS = r"\n|, |\. | \| "  # no token crosses these; every other space is merged like any byte
DOCUMENT, SETTINGS = "tokenizer.json", "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
FILES = (DOCUMENT, SETTINGS, "special_tokens_map.json", "added_tokens.json", TEMPLATE)

_FALLBACK = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}


class TextTokenizer:
    """An `interfaces.Tokenizer` over one tokenizer.json. It never adds tokens that the text does not have.

    `beside` maps the names of other files that came with it to their text; they are saved with it.
    """

    def __init__(self, document: str, beside: Mapping[str, str] | None = None):
        self._files = {DOCUMENT: document, SETTINGS: json.dumps(_FALLBACK, indent=2), **(beside or {})}
        self._parsing = Tokenizer.from_str(document)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; text that is written like a special token becomes that token."""
        return self._parsing.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text, special tokens included; bytes that are no UTF-8 become U+FFFD."""
        return self._parsing.decode(list(ids), skip_special_tokens=False)

    def decode_words(self, ids: Sequence[int]) -> str:
        """The text without its special tokens."""
        return self._parsing.decode(list(ids), skip_special_tokens=True)

    def token_id(self, token: str) -> int | None:
        """The id of this token; None where the vocabulary lacks it."""
        return self._parsing.token_to_id(token)

    @property
    def size(self) -> int:
        """How many ids a model needs: the largest, plus one."""
        return max(self._parsing.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def chat_template(self) -> str | None:
        """The template that came with it, from a file of its own or from its settings; None without one."""
        named = json.loads(self._files[SETTINGS]).get("chat_template")
        if isinstance(named, list):  # several, by name
            named = next((entry["template"] for entry in named if entry.get("name") == "default"), None)
        return self._files.get(TEMPLATE, named)

    def files(self) -> dict[str, str]:
        """File name → content: what `transformers.AutoTokenizer.from_pretrained` needs in a folder."""
        return dict(self._files)


def train_tokenizer(texts: Iterable[str], vocab_size: int, specials: Sequence[str]) -> TextTokenizer:
    """Byte-level BPE (Sennrich et al., 2016) with at most `vocab_size` entries, whose merges may cross spaces.

    A tiny model then writes a whole phrase as one token, and makes fewer errors. `specials` get the first ids.
    The same texts give the same tokenizer.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(BORDERS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in specials],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_without(texts, specials), trainer)
    return TextTokenizer(tokenizer.to_str(pretty=True))


def _without(texts: Iterable[str], specials: Sequence[str]) -> Iterable[str]:
    """The texts cut at special tokens, which never are part of a merge."""
    for text in texts:
        for special in specials:
            text = text.replace(special, "\n")
        yield text


def load_tokenizer(path: Path | str) -> TextTokenizer:
    """The tokenizer of a local folder or a hub name. Raises ConfigError where there is none."""
    folder = Path(path)
    if folder.is_dir():
        if not (folder / DOCUMENT).is_file():
            raise ConfigError(f"model.path={folder}: holds no {DOCUMENT}")
    else:
        from tau2_exp.engines.torch.hub import download

        folder = download(str(path), list(FILES))
    texts = {name: (folder / name).read_text() for name in FILES if (folder / name).is_file()}
    return TextTokenizer(texts.pop(DOCUMENT), texts)
