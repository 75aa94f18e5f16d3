"""Promises about text: sentiment, tags, a language model of captions, one of characters, translation.

Each does the work afresh, prints its tables and returns (figure as text, whether the bar holds).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import proof
from proof import pick, show_table

from pipeline.config import load_config
from pipeline.data.manifest import Row
from pipeline.data.words import UNKNOWN
from pipeline.metrics.sequence import token_accuracy
from pipeline.models.ngram import NgramModel
from pipeline.prepare import read_rows, split_rows

Answer = tuple[str, bool | None]


def rows_of(config: str, *settings: str) -> tuple[Row, ...]:
    """The rows of a config with their split."""
    loaded = load_config(proof.REPOSITORY / "configs" / config, settings)
    return split_rows(loaded, read_rows(loaded, lambda text: None), lambda text: None).rows


def parts(rows: tuple[Row, ...], *names: str) -> list[Row]:
    """The rows of some splits."""
    return [row for row in rows if row.split in names]


def sentiment(data: Path, seeds: int) -> Answer:
    """rt_polarity, 10 folds: a GRU over words beside a bag of embeddings and tf-idf with logistic regression."""
    work, watch = proof.fresh("sentiment"), proof.Stopwatch()
    proof.prepare_dataset("rt_polarity", "--folder", data / "text/rt_polarity", "--out", work / "set")
    vectors = data / "weights/glove100d_20k/glove100d_20k.npz"
    common = [f"data.path={work}/set/manifest.jsonl", f"encoder.vectors={vectors}"]
    jobs = [
        [
            *common,
            f"data.fold={fold}",
            f"training.seed={seed}",
            f"run={work}/seed{seed}_fold{fold}",
            f"evaluation.baselines={'true' if seed == 0 else 'false'}",
        ]
        for seed in range(seeds)
        for fold in range(10)
    ]
    reports = proof.train_all("rt_polarity/sentiment.yaml", jobs)
    by_seed = [reports[10 * seed : 10 * seed + 10] for seed in range(seeds)]
    counted = [_tfidf(rows_of("rt_polarity/sentiment.yaml", *common, f"data.fold={fold}")) for fold in range(10)]
    line = sum(right for right, _ in counted) / sum(count for _, count in counted)
    core = [proof.pooled(found) for found in by_seed]
    rows = [("GRU, both directions, from GloVe's vectors", core)]
    rows += [
        (f"{n} (bag of embeddings, GloVe)", [proof.pooled(by_seed[0], n)])
        for n in ("mean-pool linear", "mean-pool MLP")
    ]
    rows += [("tf-idf of 1 and 2 words, logistic regression", [line])]
    note = f"10 folds by text, doubles together; {len(jobs)} trainings with baselines in {watch.seconds:.0f} s"
    show_table("rt_polarity: accuracy", rows, note)
    reached = float(np.mean(core))
    return (
        f"accuracy {reached:.4f} (aim 0.79), tf-idf with logistic regression on the same folds {line:.4f}",
        reached >= line,
    )


def _tfidf(rows: tuple[Row, ...]) -> tuple[int, int]:
    """(right, all) of a fold's test part; it learns from what the network trains and chooses its epoch on."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train, test = parts(rows, "train", "val"), parts(rows, "test")
    cut = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"\S+")
    model = make_pipeline(cut, LogisticRegression(C=10, max_iter=1000))
    model.fit([row.text for row in train], [row.label for row in train])
    said = model.predict([row.text for row in test])
    return sum(a == row.label for a, row in zip(said, test, strict=True)), len(test)


def tags(data: Path, seeds: int) -> Answer:
    """UD English ParTUT: parts of speech; WNUT17: entities; with the CRF and without it."""
    work, watch = proof.fresh("tags"), proof.Stopwatch()
    proof.prepare_dataset("ud_pos", "--folder", data / "text/ud_english_partut", "--out", work / "ud")
    proof.prepare_dataset("wnut17", "--folder", data / "text/wnut17_ner", "--out", work / "wnut")
    found: dict[str, list[dict[str, Any]]] = {}
    for config, name in (("ud_pos/tags.yaml", "tags"), ("wnut17/entities.yaml", "entities")):
        path = f"data.path={work}/{'ud' if name == 'tags' else 'wnut'}/manifest.jsonl"
        jobs = [
            [path, f"heads.{name}.crf={crf}", f"training.seed={s}", f"run={work}/{name}_{crf}_{s}",
             f"evaluation.baselines={'true' if crf == 'true' and s == 0 else 'false'}"]
            for crf in ("true", "false") for s in range(seeds)
        ]  # fmt: skip
        vectors = data / "weights/glove100d_20k/glove100d_20k.npz"
        jobs.append(
            [
                path,
                f"encoder.vectors={vectors}",
                "encoder.lower=true",
                f"run={work}/{name}_vectors",
                "evaluation.baselines=false",
            ]
        )
        reports = proof.train_all(config, jobs)
        found[name] = [pick(r) for r in reports[:seeds]]
        found[f"{name} without"] = [pick(r) for r in reports[seeds : 2 * seeds]]
        found[f"{name} vectors"] = [pick(reports[-1])]
        found[f"{name} mean"] = [pick(reports[0], model) for model in ("mean-pool linear", "mean-pool MLP")]
    right, bare = ([r["frame_accuracy"] for r in found[n]] for n in ("tags", "tags without"))
    majority = _majority_tags(rows_of("ud_pos/tags.yaml", f"data.path={work}/ud/manifest.jsonl"))
    show_table(
        f"UD English ParTUT, test: accuracy a token, {found['tags'][0]['count']} sentences",
        [
            ("BiLSTM over words and characters, CRF", right),
            ("the same without a CRF", bare),
            ("CRF, beginning from GloVe's vectors", [r["frame_accuracy"] for r in found["tags vectors"]]),
            *((r["model"], [r["frame_accuracy"]]) for r in found["tags mean"]),
            ("each word's most frequent tag", [majority]),
        ],
        f"official split; the CRF's gain {np.mean(right) - np.mean(bare):+.4f}",
    )
    named, alone = ([r["span_f1"] for r in found[n]] for n in ("entities", "entities without"))
    show_table(
        f"WNUT17, test (emerging entities): strict F1 of entities, {found['entities'][0]['count']} posts",
        [
            ("BiLSTM over words and characters, CRF", named),
            ("the same without a CRF", alone),
            ("CRF, beginning from GloVe's vectors", [r["span_f1"] for r in found["entities vectors"]]),
            *((r["model"], [r["span_f1"]]) for r in found["entities mean"]),
        ],
        f"official split, type and both borders right; the CRF's gain {np.mean(named) - np.mean(alone):+.4f}; "
        f"all in {watch.seconds:.0f} s",
    )
    accuracy = float(np.mean(right))
    return (
        f"ParTUT accuracy {accuracy:.4f} (bar 0.94; CRF {accuracy - np.mean(bare):+.4f}), WNUT17 strict F1 "
        f"{np.mean(named):.3f} (CRF {np.mean(named) - np.mean(alone):+.3f})"
    ), accuracy >= 0.94


def _majority_tags(rows: tuple[Row, ...]) -> float:
    """Accuracy of each word's most frequent tag in training; what never occurred gets the most frequent tag of all."""
    counts: dict[str, Counter[str]] = {}
    every: Counter[str] = Counter()
    for row in parts(rows, "train"):
        assert row.text is not None
        for word, span in zip(row.text.split(), row.spans, strict=True):
            counts.setdefault(word.lower(), Counter())[span.label] += 1
            every[span.label] += 1
    common = every.most_common(1)[0][0]
    said, true = [], []
    for row in parts(rows, "test"):
        assert row.text is not None
        known = [counts.get(word.lower()) for word in row.text.split()]
        said.append([c.most_common(1)[0][0] if c else common for c in known])
        true.append([span.label for span in row.spans])
    return token_accuracy(said, true)


def msvd(data: Path, seeds: int) -> Answer:
    """A language model of MSVD's captions beside n-grams, both on the same words of videos held out."""
    work, watch = proof.fresh("msvd"), proof.Stopwatch()
    proof.prepare_dataset("msvd", "--folder", data / "captions/msvd", "--out", work / "set")
    common = [f"data.path={work}/set/sentences.jsonl"]
    jobs = [[*common, f"training.seed={seed}", f"run={work}/seed{seed}"] for seed in range(seeds)]
    reports = proof.train_all("msvd/language.yaml", jobs)
    own = [pick(r)["perplexity"] for r in reports]
    rows = rows_of("msvd/language.yaml", *common)
    section = load_config(proof.REPOSITORY / "configs/msvd/language.yaml").encoder
    assert section.kind == "tokens"
    words = section.learn([row.text or "" for row in parts(rows, "train")])

    def cut(chosen: list[Row]) -> list[list[str]]:
        return [[words.names[i] for i in words.encode(row.text or "")] for row in chosen]

    train, test = cut(parts(rows, "train")), cut(parts(rows, "test"))
    grams = {}
    for order in range(1, 6):
        model = NgramModel.fit(train, order=order, vocabulary=words.names[UNKNOWN:])
        grams[order] = model.perplexity(test)
    show_table(
        f"MSVD captions, {len(test):,} sentences of videos held out: perplexity a word, ends counted, {len(words):,} words",
        [("LSTM", own), *((f"{n}-gram, modified Kneser-Ney", [p]) for n, p in grams.items())],
        f"split by film (YouTube video), 80/10/10; unknown words are one word for all; {watch.seconds:.0f} s",
    )
    best = min(grams.values())
    return f"perplexity {np.mean(own):.2f}, best n-gram {best:.2f}", float(np.mean(own)) < best


def shakespeare(data: Path, seeds: int) -> Answer:
    """tinyshakespeare, characters: the last tenth in one carried stream, and with the state reset at every window."""
    work = proof.fresh("shakespeare")
    text = data / "text/tinyshakespeare/input.txt"
    proof.prepare_dataset("text", "--file", text, "--lanes", "64", "--share", "0.1", "--out", work / "set")
    watch = proof.Stopwatch()
    run = work / "run"
    settings = [f"data.path={work}/set/manifest.jsonl", f"run={run}", "tracking.wandb=off"]
    proof.unreel("train", proof.REPOSITORY / "configs/text/characters.yaml", *settings)
    seconds = watch.seconds
    carried = pick(proof.report(run))
    window = load_config(run / "config.yaml").data.window
    again = ["training.carry=false", f"data.window={window}", f"data.stride={window}"]
    proof.unreel("evaluate", run, *again)
    reset = pick(proof.report(run / "evaluation"))
    show_table(
        "tinyshakespeare, the last tenth: nats a character",
        [("state carried through", [carried["nats"]]), (f"state reset every {window} characters", [reset["nats"]])],
        f"trained and measured in {seconds:.0f} s; {carried['bits_per_character']:.3f} bits a character carried",
    )
    for seed in range(2):
        said = proof.unreel("generate", "--model", run, "--prompt", "ROMEO:", "--length", "300", "--seed", str(seed))
        print(f"\n{said.stdout.strip()}")
    nats = carried["nats"]
    figure = f"{nats:.4f} nats carried (bar 1.47), {reset['nats']:.4f} reset, trained in {seconds:.0f} s (bar 900)"
    return figure, nats <= 1.47 and seconds <= 900


def translate(data: Path, seeds: int) -> Answer:
    """multi30k, German to English: BLEU of sacrebleu on test_2016, by beam and greedily. It goes on where it was stopped."""
    import sacrebleu

    work = proof.WORK / "translate"
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "set/manifest.jsonl").is_file():
        proof.prepare_dataset(
            "multi30k", "--folder", data / "text/multi30k", "--from", "de", "--to", "en", "--out", work / "set"
        )
    run, watch = work / "run", proof.Stopwatch()
    settings = [f"data.path={work}/set/manifest.jsonl", f"run={run}", "tracking.wandb=off"]
    if not (run / "report.json").is_file():
        proof.train_on_two("multi30k/translate.yaml", *settings)
    curve = [row for row in proof.json_lines(run / "metrics.jsonl") if row["part"] == "val"]
    test = parts(rows_of("multi30k/translate.yaml", settings[0]), "test")
    (work / "test.txt").write_text("".join(f"{row.text}\n" for row in test), encoding="utf-8")
    proof.unreel("predict", work / "test.txt", "--model", run, "--out", work / "said", "--format", "jsonl")
    said = [row["english"]["sentence"].lower() for row in proof.json_lines(work / "said/predictions.jsonl")]
    true = [row.captions[0].lower() for row in test]
    bleu = sacrebleu.BLEU(lowercase=True)
    score = bleu.corpus_score(said, [true]).score
    copied = bleu.corpus_score([(row.text or "").lower() for row in test], [true]).score
    print(
        "\nlearning curve, validation: "
        + "  ".join(f"{row['time/seconds']:.0f} s {row['bleu_4']:.3f}" for row in curve)
    )
    show_table(
        f"multi30k de -> en, test_2016, {len(test):,} sentences: BLEU",
        [("GRU with attention, beam", [score]), ("the German as it is", [copied])],
        str(bleu.get_signature()),
    )
    for row, text in list(zip(test, said, strict=True))[:3]:
        print(f"  {row.text}\n    {text}\n    ({row.captions[0]})")
    trained = curve[-1]["time/seconds"]
    return (
        f"BLEU {score:.2f} (bar 35), trained in {trained:.0f} s (bar 3,600), here {watch.seconds:.0f} s",
        score >= 35 and trained <= 3600,
    )
