"""A language model continues a text.

In: a checkpoint whose model has a language head, and a prompt. Out: texts. Knows nothing of how the model was trained.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.checkpoint import Checkpoint, ModelError
from pipeline.config.architecture import TOKENS
from pipeline.data.texts import encode_text
from pipeline.data.tokenizer import END, PAD, UNKNOWN, Tokenizer
from pipeline.heads.language import Language
from pipeline.models.model import Model
from pipeline.models.recurrent.core import State
from pipeline.models.text.beam_search import StepFunction
from pipeline.models.text.sampling import sample
from pipeline.padded import Padded, stack


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
    """`samples` texts, each the prompt and at most `length` more tokens; see `sampling.sample` for the other arguments.

    A model that was trained with end tokens stops at one. Raises ModelError for a model without a language head, and
    ValueError for a prompt without a token where the model has no start token.
    """
    model = checkpoint.model.to(device).eval()
    tokenizer, section = checkpoint.vocabularies.get(TOKENS), checkpoint.architecture.encoder
    head = next((h for h in map(model.head, model.heads) if isinstance(h, Language)), None)
    if head is None or not isinstance(tokenizer, Tokenizer) or section.kind != "tokens":
        kinds = ", ".join(h.kind for h in checkpoint.architecture.heads.values())
        raise ModelError(
            f"This model has no head that predicts the next token (its heads: {kinds}). Train one with a head of kind "
            "language."
        )
    if tokenizer.alphabet:
        raise ModelError(
            "This model reads the characters of each word, so it cannot read the tokens that it generates. Train one "
            "with encoder.character_hidden: 0."
        )
    prompt_ids = encode_text(prompt, tokenizer, section.add_bos_eos)
    prompt_ids = prompt_ids[:-1] if section.add_bos_eos else prompt_ids  # without the end token
    if not len(prompt_ids):
        raise ValueError("The prompt is empty, and this model has no start token. Give --prompt at least one token.")
    tokens = torch.from_numpy(prompt_ids).to(device)
    state = model.core.initial_state(1)
    if len(tokens) > 1:
        state = model.watch({"tokens": stack([tokens[:-1]])}).state
    generator = torch.Generator(device)
    generator.manual_seed(seed)
    hypotheses = sample(
        _next_token(model, head),
        state,
        tokens[-1:],
        end=END if section.add_bos_eos else None,
        max_length=length,
        generator=generator,
        samples=samples,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
    )
    continuations = Padded(hypotheses.tokens[0], hypotheses.lengths[0].cpu()).unpad()
    return [tokenizer.decode([*prompt_ids.tolist(), *ids.tolist()]) for ids in continuations]


def _next_token(model: Model, head: Language) -> StepFunction:
    """The log-probabilities of the next token of every row, see `beam_search.StepFunction`."""

    def step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
        window = Padded(tokens[:, None], torch.ones(len(tokens), dtype=torch.int64))
        output = model.watch({"tokens": window}, state)
        logits = head.logits(output.steps.data)[:, 0].float()
        forbidden = torch.tensor([PAD, UNKNOWN], device=logits.device)
        return F.log_softmax(logits.index_fill(1, forbidden, -torch.inf), dim=1), output.state

    return step
