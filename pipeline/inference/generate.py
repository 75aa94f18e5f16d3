"""A model of language goes on with a text.

In: a checkpoint whose model has a language head, a prompt. Out: texts. Knows nothing of how the model was trained.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.checkpoint import Checkpoint, ModelError
from pipeline.data.text import cut
from pipeline.data.words import END, PAD, UNKNOWN, Words
from pipeline.heads.language import Language
from pipeline.models.beam import Step
from pipeline.models.core import State
from pipeline.models.model import Model
from pipeline.models.sampling import sample
from pipeline.padded import Padded, stack
from pipeline.recipe import TOKENS


@torch.inference_mode()
def continue_text(
    checkpoint: Checkpoint,
    device: torch.device,
    *,
    prompt: str,
    length: int,
    samples: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> list[str]:
    """`samples` texts, each the prompt and at most `length` tokens behind it; see `sampling.sample` for the rest.

    A model that learned where texts end stops there. Raises ModelError for a model without a language head, ValueError for a
    prompt that holds no token where the model knows no start.
    """
    model = checkpoint.model.to(device).eval()
    words, section = checkpoint.vocabularies.get(TOKENS), checkpoint.recipe.encoder
    head = next((h for h in map(model.head, model.heads) if isinstance(h, Language)), None)
    if head is None or not isinstance(words, Words) or section.kind != "tokens":
        kinds = ", ".join(h.kind for h in checkpoint.recipe.heads.values())
        raise ModelError(
            f"This model has no head that knows which word comes next (its heads: {kinds}). Train one with a head of kind language."
        )
    if words.alphabet:
        raise ModelError("This model reads the characters of each word, and so cannot read its own words again. Train one "
                         "with encoder.characters: 0.")  # fmt: skip
    begun = cut(prompt, words, section.ends)
    begun = begun[:-1] if section.ends else begun
    if not len(begun):
        raise ValueError(
            "The prompt is empty, and this model knows no start of a text. Give --prompt at least one token."
        )
    before = torch.from_numpy(begun).to(device)
    state = model.watch({"tokens": stack([before[:-1]])}).state if len(begun) > 1 else model.core.initial_state(1)
    generator = torch.Generator(device)
    generator.manual_seed(seed)
    found = sample(
        _step(model, head),
        state,
        before[-1:],
        end=END if section.ends else None,
        max_length=length,
        generator=generator,
        samples=samples,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
    )
    said = Padded(found.tokens[0], found.lengths[0].cpu()).unpad()
    return [words.decode([*begun.tolist(), *ids.tolist()]) for ids in said]


def _step(model: Model, head: Language) -> Step:
    """One more token of every row, see `beam.Step`."""

    def step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
        one = Padded(tokens[:, None], torch.ones(len(tokens), dtype=torch.int64))
        seen = model.watch({"tokens": one}, state)
        logits = head.logits(seen.steps.data)[:, 0].float()
        never = torch.tensor([PAD, UNKNOWN], device=logits.device)
        return F.log_softmax(logits.index_fill(1, never, -torch.inf), dim=1), seen.state

    return step
