"""What could have happened: a generator makes sequences like those that were seen, a critic tells them from real ones.

In: real sequences and their classes. Out: loss terms for the two players and, from codes, sequences. Knows nothing of files, nor of what
the numbers mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from pipeline.data.batch import Batch
from pipeline.data.manifest import Row
from pipeline.data.vocabulary import Vocabulary
from pipeline.data.words import PAD, Words
from pipeline.metrics.captions import tokenize
from pipeline.metrics.made import Evidence, scores_of_sequences, scores_of_texts
from pipeline.models.adversary import Game, Side, critics_turn, follow, generator_loss, held, verdict, weighed
from pipeline.models.bank import Bank
from pipeline.models.core import State
from pipeline.models.critic import Critic
from pipeline.models.directions import Directions
from pipeline.models.disguise import disguise
from pipeline.models.film import coarse, film, grey, numbers, pixels
from pipeline.models.generator import Codes, FrameGenerator, Generator, Makes, joined
from pipeline.models.mover import FeatureGenerator
from pipeline.models.onward import OnwardGenerator
from pipeline.models.reader import Read, Reader, apart, picked, places
from pipeline.models.seen import Seen
from pipeline.padded import Padded

LOOKS = 4
"""Frames of a clip that are read and painted again at a step."""
BLIND = 4
"""One of so many clips is painted without the frame that it goes on from."""
SQUARES = 2.0
"""Weight of squared distances for who may copy a frame: else that is all it does at first."""
SAID = 0.1
"""Weight of what the critic says, for who learns by likelihood where a frame goes on."""


class Generate(nn.Module):
    """Two players: the generator belongs to the model, the critic is its opponent.

    What is kept and used after training is `average`, the generator's weights averaged over the steps (Yaz et al. 2019,
    arXiv 1806.04498); it follows one step behind, more closely at first, so that a short training does not keep what it began with.

    Args:
        makes: frames (pixels uint8 that are seen as [-1, 1]), features or tokens. sense: which raw sequence they are. directions: the numbers that
        features are made in. bank: of features: where their contents and manners come from. game: the losses. gamma: weight of R1 and R2 on a part
        `penalty_share` of the steps. disguise: strength of the augmentation that both kinds go through. first_frame: it goes on from a given one, in
        which the reader finds content and first pose, and learns by likelihood beside the game. reader: of frames: finds the codes of real clips.
        remake: weight of the distance between real frames and those that are painted of their codes. surprise: weight of those codes' surprise, a
        nat above `free` (free bits, Kingma et al. 2016, arXiv 1606.04934). pictures: weight of the critic of single pictures. later: windows that may
        have gone by, at most, before the one that is made and judged.
        alone: on which part of the training's steps nobody judges: reader and painter learn by themselves, then they stand still and the game is
        played over their codes; of features the generator learns by likelihood, and then by likelihood and critic.
    """

    opponent: nn.Module | None
    stepwise, is_blind = False, True

    def __init__(
        self,
        *,
        name: str,
        makes: Makes,
        sense: str,
        vocabulary: Vocabulary,
        generator: Generator,
        critic: Critic,
        directions: Directions | None = None,
        bank: Bank | None = None,
        words: Words | None = None,
        game: Game = "hinge",
        gamma: float = 0.0,
        penalty_share: float = 0.25,
        averaging: float = 0.999,
        strength: float = 0.0,
        first_frame: bool = False,
        reader: Reader | None = None,
        remake: float = 0.0,
        surprise: float = 0.0,
        free: float = 0.0,
        pictures: float = 0.0,
        later: int = 0,
        alone: float = 0.0,
    ) -> None:
        super().__init__()
        self.watched = "bleu_4" if makes == "tokens" else "closeness"
        self.name, self.makes, self.sense, self.vocabulary, self.words = name, makes, sense, vocabulary, words
        self.game: Game = game
        self.gamma, self.penalty_share, self.strength, self.first_frame = gamma, penalty_share, strength, first_frame
        self.generator, self.opponent = generator, critic
        self.reader, self.remake, self.surprise, self.free = reader, remake, surprise, free
        self.pictures, self.later = pictures, later
        self.alone, self.is_playing = alone, True
        self.average = AveragedModel(generator, multi_avg_fn=follow(averaging)).requires_grad_(False)
        self.directions, self.bank = directions, bank
        if makes == "tokens":
            self.register_buffer(
                "longest", torch.zeros((), dtype=torch.int64)
            )  # steps of the longest text it learned from

    def fit(self, sequences: Iterable[Tensor]) -> None:
        """Before training: what the training features are like, each sequence (T, D)."""
        assert self.directions is not None and self.bank is not None
        found = [s.float() for s in sequences]
        self.directions.fit(found)
        self.bank.fit(len(found))

    def train(self, mode: bool = True) -> Generate:
        """The average only follows: it drops nothing."""
        super().train(mode)
        self.average.eval()
        return self

    def target(self, row: Row, times: np.ndarray) -> Tensor | None:
        """The row's class, 0 where there is nothing to wish."""
        if not self.vocabulary.names:
            return torch.zeros((), dtype=torch.int64)
        return None if row.label is None else torch.tensor(self.vocabulary.index(row.label))

    def real(self, seen: Seen) -> Padded:
        """What was watched, zeros in the padding: frames (B, T, 3, S, S) in [-1, 1], features (B, T, D), or words (B, T, V), one-hot,
        without the start, where a text's padding counts as words.
        """
        raw = seen.raw[self.sense]
        data = raw.zeroed().data
        if self.makes == "tokens":
            return self._texts((data if data.ndim == 2 else data[:, :, 0])[:, 1:])
        if self.makes == "frames":
            if data.dtype != torch.uint8:
                raise ValueError(
                    f"The head '{self.name}' makes frames, and it was given {data.dtype} of shape {tuple(data.shape)}. Set "
                    "data.read: pixels."
                )
            return Padded(numbers(data), raw.lengths).zeroed()
        if data.dtype == torch.uint8:
            raise ValueError(
                f"The head '{self.name}' makes features, and it was given pixels. Set data.read: features."
            )
        return Padded(data.float(), raw.lengths)

    def _texts(self, ids: Tensor) -> Padded:
        """All texts as long as the longest so far. Batches are of texts of like lengths: were a batch's own length theirs, the writer
        could end none by itself, for it is not told that length.
        """
        assert self.words is not None
        longest = self.get_buffer("longest")
        if self.training:
            longest.fill_(max(int(longest), ids.shape[1]))
        ids = F.pad(ids, (0, max(0, int(longest) - ids.shape[1])), value=PAD)
        return Padded(F.one_hot(ids, len(self.words)).float(), torch.full((len(ids),), ids.shape[1]))

    def loss(self, seen: Seen, batch: Batch, player: str) -> dict[str, Tensor]:
        """Of the generator (and of the reader) for the player "model", of the critic for the player of this head's name."""
        real, labels = self.real(seen), self._labels(batch)
        if player == self.name:
            with torch.no_grad():
                sides = self._side(real, labels), self._played(real, labels)
            return critics_turn(
                self.name, self.game, lambda side: self._said(side, real.lengths, labels), sides, gamma=self.gamma,
                share=self.penalty_share, is_training=self.training, is_recurrent=self._critic.core is not None,
            )  # fmt: skip
        if isinstance(self.generator, FeatureGenerator):
            terms = self._foretold(self.generator, real, labels)
            return {**terms, **self._generators_turn(real, labels)} if self.is_playing else terms
        if not self.is_playing:
            return self._remade(real)
        if self.training:
            self.average.update_parameters(self.generator)
        if not self.alone:
            return {**(self._remade(real) if self.reader else {}), **self._moved(real, labels)}
        assert isinstance(self.generator, FrameGenerator) and self.reader is not None
        with held(nn.ModuleList([self.reader, self.generator.painter])):
            return self._moved(real, labels)

    def _moved(self, real: Padded, labels: Tensor) -> dict[str, Tensor]:
        """What is paid for movements: what the critic says and, of those that go on from a frame, the surprise at real ones."""
        if not isinstance(self.generator, OnwardGenerator):
            return self._generators_turn(real, labels)
        with torch.no_grad():
            read = self._read(real)
        said = self._generators_turn(real, labels, read)[self.name]
        codes = self.generator.draw(len(labels), 1)._replace(content=read.content, start=read.moves[:, 0])
        paid = self.generator.surprise(Padded(read.moves, real.lengths), codes, labels)
        return {self.name: SAID * said, f"{self.name}_likelihood": paid}

    def _foretold(self, generator: FeatureGenerator, real: Padded, labels: Tensor) -> dict[str, Tensor]:
        """What is paid for the surprise at real movements; what was read of them is kept."""
        assert self.bank is not None and self.directions is not None
        content, moves = self.directions.apart(real)
        if self.training:
            self.average.update_parameters(self.generator)
            self.bank.keep(content, self.average.module.read(moves), labels)  # type: ignore[operator]
        codes = generator.alike(generator.draw(len(labels), 1), self.directions(content), moves)
        return {f"{self.name}_surprise": generator.surprise(moves, codes, labels)}

    def _generators_turn(self, real: Padded, labels: Tensor, read: Read | None = None) -> dict[str, Tensor]:
        made = self._played(real, labels)
        with held(self._critic):
            said = self._said(made, real.lengths, labels)
            other = said
            if self.game != "hinge":
                with torch.no_grad():
                    other = self._said(self._side(real, labels, read), real.lengths, labels)
        paid = [generator_loss(self.game, o, s) for o, s in zip(other, said, strict=True)]
        return {self.name: weighed(paid, self.pictures)}

    def _side(self, real: Padded, labels: Tensor, read: Read | None = None) -> Side:
        """What the critic sees of real sequences. read: their codes, where they are known."""
        if self.directions is not None:
            content, moves = self.directions.apart(real)
            return Side(Padded(joined(self.directions(content), moves.data), real.lengths).zeroed().data, None)
        if self.reader is None:
            return Side(real.data, None)
        read = self._read(real) if read is None else read
        pictures = picked(real.data, places(real.lengths, 1))[:, 0] if self.pictures else None
        return Side(self._codes_shown(read.content, read.moves, real.lengths), pictures)

    def _read(self, real: Padded) -> Read:
        """The codes of real clips; those that are foretold are not drawn but the likeliest ones."""
        assert self.reader is not None
        return self.reader(real, is_drawn=self.training and not self.first_frame)

    def _codes_shown(self, content: Tensor, moves: Tensor, lengths: Tensor) -> Tensor:
        """What a critic of codes reads; of what goes on from a frame the differences to the pose there."""
        if self.first_frame:
            moves = moves - moves[:, :1]
        return Padded(joined(content, moves), lengths).zeroed().data

    def _played(self, real: Padded, labels: Tensor) -> Side:
        """What is made for the critic, of drawn codes, as long as the real ones."""
        steps = real.data.shape[1]
        skip = steps * int(torch.randint(self.later + 1, ())) if self.training else 0
        codes = self._given(self.generator.draw(len(labels), skip + steps), real.data[:, 0])
        if isinstance(self.generator, FeatureGenerator):
            assert self.directions is not None
            content, moves = self.directions.apart(real)
            codes = self.generator.alike(codes, self.directions(content), moves)
            moved, _ = self.generator(codes, labels, skip=skip)
            return Side(Padded(joined(codes.content, moved), real.lengths).zeroed().data, None)
        if not isinstance(self.generator, FrameGenerator):
            made, _ = self.generator(codes, labels, skip=skip)
            return Side(Padded(made, real.lengths).zeroed().data, None)
        content, moves, _ = self.generator.imagine(codes, labels, skip=skip)
        pictures = None
        if self.pictures:
            pictures = self.generator.paint(content, picked(moves, places(real.lengths, 1)), codes.given)[:, 0]
        return Side(self._codes_shown(content, moves, real.lengths), pictures)

    def _remade(self, real: Padded) -> dict[str, Tensor]:
        """What is paid for painting a few frames of each clip otherwise than they are, and for what their codes say. Every `BLIND`th clip is painted
        without its first frame: who may always copy learns to do so at once, and its codes say nothing then.
        """
        assert self.reader is not None and isinstance(self.generator, FrameGenerator)
        true = picked(real.data, places(real.lengths, LOOKS, self.reader.by_first))
        read = self.reader(Padded(true, torch.full((len(true),), LOOKS)))
        withheld = torch.arange(len(true), device=true.device) % BLIND == BLIND - 1
        again = self.generator.paint(read.content, read.moves, true[:, 0], withheld)
        return {
            f"{self.name}_remake": self.remake * apart(again, true, SQUARES if self.first_frame else 0.0),
            f"{self.name}_surprise": self.surprise * F.relu(read.surprise.mean() - self.free),
        }

    def _remakes(self, batch: Batch) -> Tensor:
        """Four clips of a batch, each before what is painted of its codes: uint8 (8, T, S, S, 3)."""
        assert self.reader is not None and isinstance(self.generator, FrameGenerator)
        raw = batch.raw[self.sense]
        few = Padded(numbers(raw.data[:4]), raw.lengths[:4])
        read = self.reader(few)
        again = Padded(pixels(self.generator.paint(read.content, read.moves, few.data[:, 0])), raw.lengths[:4])
        return torch.stack([raw.data[:4], again.zeroed().data], dim=1).flatten(0, 1)

    def _said(self, side: Side, lengths: Tensor, labels: Tensor) -> list[Tensor]:
        """The critic's scores (B,) of sequences and, where there are any, of pictures."""
        said = [self._critic(self._shown(side.sequences, lengths), lengths, labels)]
        if side.pictures is not None:
            one = torch.ones(len(labels), dtype=torch.int64)
            said.append(self._critic.of_pictures(self._shown(side.pictures[:, None], one)[:, 0], labels))
        return said

    @property
    def _critic(self) -> Critic:
        assert isinstance(self.opponent, Critic)
        return self.opponent

    def _given(self, codes: Codes, first: Tensor) -> Codes:
        """Codes whose content and beginning come from the first pictures, where it goes on from such; that teaches the reader nothing."""
        with torch.no_grad():
            return self.encode(codes, first) if self.first_frame else codes

    def encode(self, codes: Codes, pictures: Tensor) -> Codes:
        """The same movement with the content and the beginning of given pictures (B, 3, S, S) in [-1, 1]."""
        read = self._read(Padded(pictures[:, None], torch.ones(len(pictures), dtype=torch.int64)))
        return codes._replace(content=read.content, start=read.moves[:, 0], given=pictures)

    def _shown(self, x: Tensor, lengths: Tensor) -> Tensor:
        """What the critic gets to see of it."""
        if not self.training or not self.strength or self.makes == "tokens":
            return x
        return Padded(disguise(x, self.strength), lengths).zeroed().data

    def _labels(self, batch: Batch) -> Tensor:
        target = batch.target(self.name)
        assert isinstance(target, Tensor)
        return target

    @torch.no_grad()
    def make(self, codes: Codes, labels: Tensor, state: State | None = None) -> tuple[Tensor, State | None]:
        """By the averaged generator: frames uint8 (B, T, S, S, 3), features (B, T, D) in their own units, or ids (B, T); and the state
        to go on from.
        """
        if self.directions is not None and self.bank is not None:
            content, manner = self.bank.draw(codes.content, codes.start, labels)
            moves, state = self.average(codes._replace(content=self.directions(content), start=manner), labels, state)
            return self.directions.back(moves, content), state
        made, state = self.average(codes, labels, state)
        return (pixels(made) if self.makes == "frames" else made.argmax(-1)), state

    def observe(self, seen: Seen, memory: None = None) -> None:
        """Nothing: it answers to wishes, not to videos."""

    def answer(self, memory: None) -> list[Any]:
        """Nothing, see `make`."""
        return []

    @torch.no_grad()
    def evidence(self, seen: Seen, batch: Batch) -> list[Evidence]:
        """Each real sequence beside one that is made with its class and length, by the averaged generator and codes that are the same
        for the same rows at every call, and others for others.
        """
        real, labels = self.real(seen), self._labels(batch)
        random = torch.Generator(labels.device)
        random.manual_seed(crc32("\n".join([*batch.sources, *map(str, batch.starts)]).encode()))
        codes = self._given(self.generator.draw(len(labels), real.data.shape[1], random), real.data[:, 0])
        if self.directions is not None:
            shown, made = self.directions(real.data), self.directions(self.make(codes, labels)[0])
        elif self.makes == "frames":
            shown, made = coarse(real.data), coarse(self.average(codes, labels)[0])
        else:
            shown, made = real.data.argmax(-1), self.average(codes, labels)[0].argmax(-1)
        return [
            Evidence(r.cpu().numpy(), m[: len(r)].cpu().numpy())
            for r, m in zip(Padded(shown, real.lengths).unpad(), made, strict=True)
        ]

    def interval(self, evidence: Sequence[Evidence], groups: Sequence[str | None]) -> tuple[float, float]:
        """None: distances of distributions are of all samples together."""
        return float("nan"), float("nan")

    def metrics(self, evidence: Sequence[Evidence]) -> dict[str, Any]:
        """See `scores_of_sequences` and `scores_of_texts`."""
        if self.makes == "tokens":
            words = self.words
            assert words is not None
            real, made = ([tokenize(words.decode(getattr(e, side))) for e in evidence] for side in ("real", "made"))
            return {**scores_of_texts(real, made), "count": len(evidence)}
        return {**scores_of_sequences([e.real for e in evidence], [e.made for e in evidence]), "count": len(evidence)}

    def verdict(self, means: Mapping[str, float]) -> str:
        """Why to go on makes no sense, from the terms' means over the last steps; empty while both players are in the game."""
        return verdict(self.name, self.game, means[f"loss/{self.name}_critic"]) if self.is_playing else ""

    @torch.no_grad()
    def picture(self, batch: Batch) -> np.ndarray | list[str]:
        """Always the same codes, as training sees them now: of frames a sheet of film, a row a sequence, uint8 (H, W, 3), those with a
        first frame that of the batch; of features the same as grey values; of words sentences. Before the game: clips of the batch, each
        above what is painted of its codes.
        """
        if not self.is_playing and self.makes == "frames":
            return film(self._remakes(batch))
        random = torch.Generator(next(self.parameters()).device)
        random.manual_seed(0)
        count = min(8, max(4, len(self.vocabulary.names)))
        labels = torch.arange(count, device=random.device) % max(1, len(self.vocabulary.names))
        codes = self.generator.draw(count, 16, random)
        if self.first_frame:
            first = numbers(batch.raw[self.sense].data[:, 0])
            codes = self.encode(codes, first[torch.arange(count) % len(first)])
        made, _ = self.make(codes, labels)
        if self.makes == "tokens":
            assert self.words is not None
            return [self.words.decode(ids) for ids in made.tolist()]
        if self.makes == "frames":
            return film(made)
        assert self.directions is not None
        return grey(self.directions(made))
