"""A language model small enough for a demonstration: counted n-grams with back-off.

Tokens are words, numbers, runs of spaces and single marks, so that text and tokens convert into
each other exactly. The next token is drawn from the longest context that was seen in training
("stupid back-off" without its weights: Brants et al., 2007).
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fleetmon.errors import FleetmonError

if TYPE_CHECKING:
    from collections.abc import Iterator

StopReason = Literal["max_tokens", "end_of_text", "no_continuation"]

_TOKEN = re.compile(r"[^\W\d]\w*|\d+|\n|[^\S\n]+|[^\w\s]|_+")
_END = "\x03"
_FORMAT = "fleetmon-ngram-1"


class ModelError(FleetmonError, ValueError):
    """A model that is not there yet, or a file that holds none."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What a call generated.

    Attributes:
        prompt_tokens: tokens in the prompt.
        completion_tokens: tokens generated.
        text: the generated text, without the prompt.
        stop_reason: why it ended.
        generation_time_ms: how long it took, in milliseconds.
    """

    prompt_tokens: int
    completion_tokens: int
    text: str
    stop_reason: StopReason
    generation_time_ms: float


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """One token of a stream; the last carries no text, but the reason.

    Attributes:
        text: the token.
        index: its place, from 0.
        is_first: whether it is the first of the stream.
        is_last: whether the stream ends with it.
        stop_reason: why it ended, on the last one only.
    """

    text: str
    index: int
    is_first: bool
    is_last: bool
    stop_reason: StopReason | None = None


def tokenize(text: str) -> list[str]:
    """Split text into tokens whose concatenation is the text."""
    return _TOKEN.findall(text)


class LanguageModel:
    """Learns which token follows which, and generates; safe from any thread.

    Memory is bounded: beyond ``max_contexts`` the older half of the contexts is forgotten.
    """

    name = "ngram-3"

    def __init__(self, seed: int = 0, order: int = 3, max_contexts: int = 60_000) -> None:
        """Make an empty model that looks back ``order - 1`` tokens."""
        self.seed = seed
        self.order = order
        self.max_contexts = max_contexts
        self.trained_tokens = 0
        self._follow: dict[tuple[str, ...], dict[str, int]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of contexts known."""
        return len(self._follow)

    def train(self, text: str) -> int:
        """Learn from one document; return its number of tokens."""
        tokens = tokenize(text)
        padded = [*tokens, _END]
        with self._lock:
            for at, token in enumerate(padded):
                for back in range(min(at, self.order - 1) + 1):
                    counts = self._follow.setdefault(tuple(padded[at - back : at]), {})
                    counts[token] = counts.get(token, 0) + 1
            self.trained_tokens += len(tokens)
            if len(self._follow) > self.max_contexts:
                self._forget()
        return len(tokens)

    def _forget(self) -> None:
        keep = list(self._follow.items())[len(self._follow) // 2 :]
        root = self._follow.get((), {})
        if len(root) > self.max_contexts:
            root = dict(sorted(root.items(), key=lambda item: -item[1])[: self.max_contexts // 2])
        self._follow = {(): root, **dict(keep)}

    def generate(self, prompt: str, max_tokens: int = 64) -> Generation:
        """Continue ``prompt`` by up to ``max_tokens`` tokens; the same seed and prompt agree.

        Raises:
            ModelError: nothing has been learned or loaded.
        """
        began = time.perf_counter()
        chunks = list(self._begin(prompt, max_tokens))
        reason = chunks[-1].stop_reason or "max_tokens"
        text = "".join(chunk.text for chunk in chunks)
        spent = (time.perf_counter() - began) * 1_000
        return Generation(len(tokenize(prompt)), len(chunks) - 1, text, reason, spent)

    def generate_batch(self, prompts: list[str], max_tokens: int = 64) -> list[Generation]:
        """Continue several prompts; see :meth:`generate`."""
        return [self.generate(prompt, max_tokens) for prompt in prompts]

    def stream(self, prompt: str, max_tokens: int = 64) -> Iterator[StreamChunk]:
        """Yield the continuation token by token, then a last chunk with the reason.

        Raises:
            ModelError: nothing has been learned or loaded (at once, not at the first token).
        """
        return self._begin(prompt, max_tokens)

    def _begin(self, prompt: str, max_tokens: int) -> Iterator[StreamChunk]:
        # Apart from stream(), so that an exporter around that does not count generate() twice.
        if not self._follow:
            msg = f"the model {self.name!r} knows nothing; train() or load_model() it first"
            raise ModelError(msg)
        return self._stream(tokenize(prompt), max_tokens)

    def _stream(self, context: list[str], max_tokens: int) -> Iterator[StreamChunk]:
        choose = random.Random(f"{self.seed}\0{''.join(context)}")  # noqa: S311 - repeatable, not secret
        context = context[-self.order :]
        reason: StopReason = "max_tokens"
        index = 0
        while index < max_tokens:
            token = self._next(context, choose)
            if token is None or token == _END:
                reason = "no_continuation" if token is None else "end_of_text"
                break
            yield StreamChunk(token, index, index == 0, is_last=False)
            context = [*context[1 - self.order :], token]
            index += 1
        yield StreamChunk("", index, index == 0, is_last=True, stop_reason=reason)

    def _next(self, context: list[str], choose: random.Random) -> str | None:
        with self._lock:
            for back in range(min(self.order - 1, len(context)), -1, -1):
                counts = self._follow.get(tuple(context[len(context) - back :]))
                if counts:
                    return choose.choices(list(counts), list(counts.values()))[0]
        return None

    def save(self, path: Path) -> None:
        """Write the model to a file for :meth:`load_model`."""
        with self._lock:
            rows = [[list(context), counts] for context, counts in self._follow.items()]
            head = {"format": _FORMAT, "order": self.order, "tokens": self.trained_tokens}
        Path(path).write_text(json.dumps({**head, "rows": rows}), encoding="utf-8")

    def load_model(self, path: Path) -> int:
        """Replace what is known by what :meth:`save` wrote; return the number of contexts.

        Raises:
            ModelError: the file holds no such model; what was known stays.
            OSError: it cannot be read.
        """
        try:
            held = json.loads(Path(path).read_text(encoding="utf-8"))
            if held["format"] != _FORMAT:
                raise KeyError(held["format"])  # noqa: TRY301 - told like the other ways to be wrong
            order, tokens = int(held["order"]), int(held["tokens"])
            follow = {tuple(map(str, words)): dict(counts) for words, counts in held["rows"]}
        except (ValueError, KeyError, TypeError) as error:
            msg = f"{path}: holds no model of format {_FORMAT} ({error!r:.80}); save() one there"
            raise ModelError(msg) from error
        with self._lock:
            self.order, self.trained_tokens, self._follow = order, tokens, follow
        return len(follow)
