"""The core turned round: noise and a wish go in, a sequence comes out.

In: codes (what it shows, how it moves), classes. Out: a sequence of frames (B, T, 3, S, S) or of words (B, T, V), or of what
a maker makes; of features see `FeatureGenerator`. Knows nothing of critics, losses or files.

    codes = generator.draw(count, steps)
    made, state = generator(codes, labels)
    more, state = generator(generator.draw(count, 100)._replace(content=codes.content), labels, state)     # the same, moving on
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.words import END, PAD, START
from pipeline.models.core import Core, State
from pipeline.models.painter import FrameMaker, Onward
from pipeline.padded import Padded

Makes = Literal["features", "frames", "tokens"]
Motion = Literal["core", "independent"]


class Codes(NamedTuple):
    """content (B, C): what is shown, the same at every step. motion (B, T, M): fresh noise at every step, of which the core makes
    a movement. start (B, C): where the movement begins. given (B, 3, S, S): the first frame, for who goes on from one; then content and start
    were read in it.
    """

    content: Tensor
    motion: Tensor
    start: Tensor
    given: Tensor | None = None


class Maker(Protocol):
    """From content (B, C) and movement (B, T, H) to a sequence; every maker is an nn.Module as well."""

    def __call__(self, content: Tensor, motion: Tensor) -> Tensor:
        """The sequence (B, T, ...)."""
        ...


class Generator(nn.Module):
    """Content and motion apart, after MoCoGAN (Tulyakov et al. 2018, arXiv 1707.04993): one code says what is shown, a recurrent
    core turns noise into movement, a maker joins the two at every step.

    The core goes on from a state, so a sequence may be as long as one likes, also longer than those it was trained on, in
    constant memory. `motion="independent"` puts noise in place of the core's output: what the core is good for is seen by leaving it out.

    Args:
        core: reads [noise, class] (B, T, motion_size + embedding) and moves. classes: how many wishes there are; 0: none.
        content_size, motion_size: C and M. makes, maker: what the sequence is of, and who makes it.
    """

    def __init__(
        self,
        *,
        core: Core,
        maker: nn.Module,
        classes: int,
        content_size: int = 64,
        motion_size: int = 16,
        embedding: int = 32,
        motion: Motion = "core",
    ) -> None:
        super().__init__()
        assert core.is_causal, "a movement goes one way"
        self.content_size, self.motion_size, self.kind = content_size, motion_size, motion
        self.core, self.maker = core, maker
        self.wish = nn.Embedding(max(1, classes), embedding)
        states = len(core.initial_state(1))
        self.begin = nn.Linear(content_size + embedding, states * core.layers * core.hidden)
        if motion == "independent":
            self.instead = nn.Linear(motion_size + embedding, core.output_size)
            self.core.requires_grad_(False)
            self.begin.requires_grad_(False)

    @staticmethod
    def input_size(motion_size: int, embedding: int) -> int:
        """What the core reads at every step."""
        return motion_size + embedding

    def draw(self, count: int, steps: int, random: torch.Generator | None = None) -> Codes:
        """Standard normal codes of `count` sequences, on the device of the weights."""
        like = self.wish.weight

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=random, device=like.device, dtype=like.dtype)

        content, start = normal(count, self.content_size), normal(count, self.content_size)
        return Codes(content, normal(count, steps, self.motion_size), start)

    def forward(self, codes: Codes, labels: Tensor, state: State | None = None, skip: int = 0) -> tuple[Tensor, State]:
        """labels: (B,) classes, zeros where there are none. skip: so many steps pass before the first that is made. Returns the
        sequence (B, T - skip, ...) and the state to go on from.
        """
        wish = self.wish(labels)
        steps = codes.motion.shape[1]
        before: State = self._first(codes, wish) if state is None else state
        read = torch.cat([codes.motion, wish[:, None].expand(-1, steps, -1)], dim=2)
        if self.kind == "independent":
            moved, after = torch.tanh(self.instead(read)), before
        else:
            told, after = self.core(Padded(read, torch.full((len(read),), steps)), before)
            moved = told.data
        return self.maker(torch.cat([codes.content, wish], dim=1), moved[:, skip:]), after

    def _first(self, codes: Codes, wish: Tensor) -> State:
        """The state before the first step, of the movement's beginning and the wish."""
        return self._begun(torch.cat([codes.start, wish], dim=1))

    def _begun(self, given: Tensor) -> State:
        """The state that a movement begins in. given: what `begin` reads."""
        first = torch.tanh(self.begin(given))
        count = len(self.core.initial_state(1))
        return first.unflatten(1, (count, self.core.layers, self.core.hidden)).unbind(1)


class FeatureMaker(nn.Module):
    """Content and movement -> features (B, T, D), with a mean and a deviation a channel that were fitted to real ones: the network
    itself works on standardised numbers.
    """

    def __init__(self, *, content_size: int, motion_size: int, width: int, hidden: int = 256) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(content_size + motion_size, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, width),
        )

    def forward(self, content: Tensor, motion: Tensor) -> Tensor:
        """(B, C), (B, T, H) -> (B, T, D), standardised."""
        return self.net(torch.cat([content[:, None].expand(-1, motion.shape[1], -1), motion], dim=2))


class FrameGenerator(Generator):
    """The same in two steps: content and movement become codes, few numbers a frame, and a painter makes frames of them. A critic of
    codes sees whole clips at the price of a few pictures.

    Args:
        maker: makes the moves (B, T, M) of each frame. painter: (content, moves) -> frames; one that goes on from a given frame has its content
        from there. drawn_size: of the content as it is drawn; painted_size: of the painter's.
    """

    def __init__(
        self,
        *,
        painter: FrameMaker | Onward,
        drawn_size: int,
        painted_size: int,
        hidden: int,
        **more: object,
    ) -> None:
        super().__init__(content_size=drawn_size, **more)  # type: ignore[arg-type]
        self.painter = painter
        width = drawn_size + self.wish.embedding_dim
        self.content = (
            None
            if isinstance(painter, Onward)
            else nn.Sequential(
                nn.Linear(width, hidden),
                nn.LeakyReLU(0.2),
                nn.Linear(hidden, hidden),
                nn.LeakyReLU(0.2),
                nn.Linear(hidden, painted_size),
            )
        )

    def imagine(
        self, codes: Codes, labels: Tensor, state: State | None = None, skip: int = 0
    ) -> tuple[Tensor, Tensor, State]:
        """As `Generator`, before anything is painted: content (B, C), moves (B, T - skip, M), and the state to go on from."""
        assert self.content is not None, "who goes on from a frame imagines otherwise"
        content = self.content(torch.cat([codes.content, self.wish(labels)], dim=1))
        moves, after = super().forward(codes, labels, state, skip)
        return content, moves, after

    def forward(self, codes: Codes, labels: Tensor, state: State | None = None, skip: int = 0) -> tuple[Tensor, State]:
        """As `Generator`; frames (B, T - skip, 3, S, S) in [-1, 1]."""
        content, moves, after = self.imagine(codes, labels, state, skip)
        return self.paint(content, moves, codes.given), after

    def paint(
        self, content: Tensor, moves: Tensor, given: Tensor | None = None, withheld: Tensor | None = None
    ) -> Tensor:
        """(B, C), (B, T, M) and, of who goes on from one, a frame (B, 3, S, S) -> (B, T, 3, S, S). withheld: see `Onward`."""
        if isinstance(self.painter, FrameMaker):
            return self.painter(content, moves)
        assert given is not None, "what goes on needs a frame"
        return self.painter(content, moves, given, withheld)


def joined(content: Tensor, moves: Tensor) -> Tensor:
    """Codes as a critic reads them: (B, C), (B, T, M) -> (B, T, C + M)."""
    return torch.cat([content[:, None].expand(-1, moves.shape[1], -1), moves], dim=2)


class TokenGenerator(Generator):
    """The same, writing: at every step the core reads noise, the wish and the last word, and the word behind it is drawn by
    Gumbel-softmax (Jang et al. 2017, Maddison et al. 2017; straight through, so that the critic sees words and the gradient
    passes).

    The luck of the draw is part of the motion code, behind the M numbers that the core reads: the same codes are the same text.
    Behind `end` there is `padding` and nothing else, and before it neither padding nor another `start`.
    """

    def __init__(
        self,
        *,
        core: Core,
        vocabulary: int,
        size: int,
        start: int = START,
        end: int = END,
        padding: int = PAD,
        temperature: float = 1.0,
        **more: object,
    ) -> None:
        super().__init__(core=core, maker=nn.Identity(), **more)  # type: ignore[arg-type]
        self.words = nn.Embedding(vocabulary, size)
        self.readout = nn.Linear(core.output_size + self.content_size + self.wish.embedding_dim, vocabulary)
        self.start, self.end, self.padding, self.temperature = start, end, padding, temperature

    def draw(self, count: int, steps: int, random: torch.Generator | None = None) -> Codes:
        """As `Generator.draw`; motion is (B, T, M + V)."""
        codes = super().draw(count, steps, random)
        like = codes.motion
        luck = torch.randn(
            (count, steps, self.words.num_embeddings), generator=random, device=like.device, dtype=like.dtype
        )
        return codes._replace(motion=torch.cat([like, luck], dim=2))

    def forward(self, codes: Codes, labels: Tensor, state: State | None = None, skip: int = 0) -> tuple[Tensor, State]:
        """As `Generator`; words (B, T, V), each step one-hot, none skipped. The state ends with the vector of the last word (B, 1, E) and whether
        the text is over (B, 1, 1), 0 or 1.
        """
        assert not skip, "a text is made from its first word on"
        wish = self.wish(labels)
        if state is None:
            after = self._first(codes, wish)
            last = self.words(torch.full((len(wish),), self.start, device=wish.device))
            is_over = torch.zeros(len(wish), 1, dtype=torch.bool, device=wish.device)
        else:
            after, last, is_over = state[:-2], state[-2][:, 0], state[-1][:, 0] > 0
        never = torch.tensor([self.start, self.padding], device=wish.device)
        padding = F.one_hot(torch.tensor(self.padding, device=wish.device), self.words.num_embeddings).to(wish.dtype)
        told = []
        for noise in codes.motion.unbind(1):
            read, luck = noise.split([self.motion_size, self.words.num_embeddings], dim=1)
            y, after = self.core.step(torch.cat([read, wish, last], dim=1), after)
            scores = self.readout(torch.cat([y, codes.content, wish], dim=1)).index_fill(1, never, -torch.inf)
            one = torch.where(is_over, padding, _drawn(scores, luck, self.temperature))
            is_over = is_over | (one[:, self.end : self.end + 1] > 0.5)
            told.append(one)
            last = one @ self.words.weight
        return torch.stack(told, dim=1), (*after, last[:, None], is_over[:, None].to(last.dtype))


def _drawn(scores: Tensor, luck: Tensor, temperature: float) -> Tensor:
    """Scores (B, V) and standard normal luck (B, V) -> one-hot (B, V), drawn from softmax(scores); its gradient is that of the
    softmax of scores + Gumbel noise at this temperature.
    """
    gumbel = -torch.log(-torch.special.log_ndtr(luck))  # a normal's own probability is uniform
    soft = torch.softmax((scores + gumbel) / temperature, dim=1)
    hard = F.one_hot(soft.argmax(1), soft.shape[1]).to(soft.dtype)
    return hard - soft.detach() + soft
