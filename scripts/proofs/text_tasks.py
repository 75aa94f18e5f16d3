"""Promises about texts: sentiment, tags, a language model of captions, one of characters, translation.

Each function does the work afresh, prints its tables and returns (result as text, whether the bar holds).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import proof_tools
from proof_tools import print_table, report_row

from pipeline.checkpoint import load_model, save_model
from pipeline.commands.prepare_data import read_rows, split_rows
from pipeline.config.run import load_config
from pipeline.data.manifest_rows import Row
from pipeline.data.tokenizer import UNKNOWN
from pipeline.metrics.sequence import token_accuracy
from pipeline.models.text.ngram import NgramModel

Answer = tuple[str, bool | None]
GLOVE = "weights/glove100d_20k/glove100d_20k.npz"
MEAN_POOLS = ("mean-pool linear", "mean-pool MLP")
FOLDS = proof_tools.SIZE.pick(10, 2)


def rows_of(config: str, *settings: str) -> tuple[Row, ...]:
    """The rows of a config with their splits."""
    loaded = proof_tools.load_proof_config(config, settings)
    return split_rows(loaded, read_rows(loaded, lambda text: None), lambda text: None).rows


def rows_in(rows: Sequence[Row], *splits: str) -> list[Row]:
    """The rows of some splits."""
    return [row for row in rows if row.split in splits]


def sentiment(data: Path, seeds: int) -> Answer:
    """rt_polarity, 10 folds: a GRU over words, beside a bag of embeddings and tf-idf with logistic regression."""
    work, watch = proof_tools.fresh_folder("sentiment"), proof_tools.Stopwatch()
    proof_tools.prepare_dataset("rt_polarity", "--folder", data / "text/rt_polarity", "--out", work / "set")
    common = [f"data.path={work}/set/manifest.jsonl", f"encoder.pretrained_vectors={data / GLOVE}"]
    config = "rt_polarity/sentiment.yaml"
    jobs = [
        [
            *common,
            f"data.fold={fold}",
            f"training.seed={seed}",
            f"run={work}/seed{seed}_fold{fold}",
            f"evaluation.baselines={'true' if seed == 0 else 'false'}",
        ]
        for seed in range(seeds)
        for fold in range(FOLDS)
    ]
    reports = proof_tools.train_all(config, jobs)
    by_seed = [reports[FOLDS * seed : FOLDS * (seed + 1)] for seed in range(seeds)]
    counts = [_count_tfidf(rows_of(config, *common, f"data.fold={fold}")) for fold in range(FOLDS)]
    tfidf = sum(num_correct for num_correct, _ in counts) / sum(total for _, total in counts)
    gru = [proof_tools.pooled_accuracy(fold_reports) for fold_reports in by_seed]
    pooled = [(model, [proof_tools.pooled_accuracy(by_seed[0], model)]) for model in MEAN_POOLS]
    table = [
        ("bidirectional GRU, initialised with GloVe", gru),
        *((f"{model} (bag of embeddings, GloVe)", values) for model, values in pooled),
        ("tf-idf of 1-grams and 2-grams, logistic regression", [tfidf]),
    ]
    note = f"{FOLDS} folds by text, duplicates together; {len(jobs)} trainings with baselines in {watch.seconds:.0f} s"
    print_table("rt_polarity: accuracy", table, note)
    accuracy = float(np.mean(gru))
    result = f"accuracy {accuracy:.4f} (aim 0.79), tf-idf with logistic regression on the same folds {tfidf:.4f}"
    return result, accuracy >= tfidf


def _count_tfidf(rows: tuple[Row, ...]) -> tuple[int, int]:
    """(correct, all) of a fold's test split. The training rows are those of the network, with its validation rows."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train, test = rows_in(rows, "train", "val"), rows_in(rows, "test")
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"\S+")
    model = make_pipeline(vectorizer, LogisticRegression(C=10, max_iter=1000))
    model.fit([row.text for row in train], [row.label for row in train])
    predictions = model.predict([row.text for row in test])
    return sum(label == row.label for label, row in zip(predictions, test, strict=True)), len(test)


def tags(data: Path, seeds: int) -> Answer:
    """UD English ParTUT: parts of speech. WNUT17: entities. Both with and without the CRF."""
    work, watch = proof_tools.fresh_folder("tags"), proof_tools.Stopwatch()
    proof_tools.prepare_dataset("ud_pos", "--folder", data / "text/ud_english_partut", "--out", work / "ud")
    proof_tools.prepare_dataset("wnut17", "--folder", data / "text/wnut17_ner", "--out", work / "wnut")
    paths = {
        name: f"data.path={work}/{folder}/manifest.jsonl" for name, folder in (("tags", "ud"), ("entities", "wnut"))
    }
    speech = _train_taggers("ud_pos/tags.yaml", "tags", paths["tags"], work, data / GLOVE, seeds)
    entities = _train_taggers("wnut17/entities.yaml", "entities", paths["entities"], work, data / GLOVE, seeds)
    majority = _majority_accuracy(rows_of("ud_pos/tags.yaml", paths["tags"]))
    accuracy, gain = _crf_gain(speech, "frame_accuracy")
    print_table(
        f"UD English ParTUT, test: accuracy a token, {speech['crf'][0]['count']} sentences",
        [*_tagger_lines(speech, "frame_accuracy"), ("each word's most frequent tag", [majority])],
        f"official split; gain of the CRF {gain:+.4f}",
    )
    f1, f1_gain = _crf_gain(entities, "span_f1")
    print_table(
        f"WNUT17, test (emerging entities): strict F1 of entities, {entities['crf'][0]['count']} posts",
        _tagger_lines(entities, "span_f1"),
        f"official split, correct type and both boundaries; gain of the CRF {f1_gain:+.4f}; "
        f"all in {watch.seconds:.0f} s",
    )
    result = (
        f"ParTUT accuracy {accuracy:.4f} (bar 0.94; CRF {gain:+.4f}), WNUT17 strict F1 {f1:.3f} (CRF {f1_gain:+.3f})"
    )
    return result, accuracy >= 0.94


Taggers = dict[str, list[dict[str, Any]]]
"""Rows of reports by model: with and without CRF (one row for each seed), with GloVe, mean-pool."""


def _train_taggers(config: str, head: str, path: str, work: Path, vectors: Path, seeds: int) -> Taggers:
    """Train with and without CRF, and once with pretrained vectors."""
    jobs = [
        [
            path,
            f"heads.{head}.crf={crf}",
            f"training.seed={seed}",
            f"run={work}/{head}_{crf}_{seed}",
            f"evaluation.baselines={'true' if crf == 'true' and seed == 0 else 'false'}",
        ]
        for crf in ("true", "false")
        for seed in range(seeds)
    ]
    glove = [f"encoder.pretrained_vectors={vectors}", "encoder.lowercase=true", "evaluation.baselines=false"]
    jobs.append([path, *glove, f"run={work}/{head}_vectors"])
    reports = proof_tools.train_all(config, jobs)
    rows = [report_row(report) for report in reports]
    mean_pool = [report_row(reports[0], model) for model in MEAN_POOLS]
    return {"crf": rows[:seeds], "no crf": rows[seeds:-1], "glove": rows[-1:], "mean-pool": mean_pool}


def _tagger_lines(taggers: Taggers, key: str) -> list[tuple[str, list[float]]]:
    names = {
        "crf": "BiLSTM over words and characters, CRF",
        "no crf": "the same without a CRF",
        "glove": "CRF, initialised with GloVe",
    }
    lines = [(name, [row[key] for row in taggers[model]]) for model, name in names.items()]
    return [*lines, *((row["model"], [row[key]]) for row in taggers["mean-pool"])]


def _crf_gain(taggers: Taggers, key: str) -> tuple[float, float]:
    """The mean over seeds with the CRF, and its difference to that without."""
    with_crf, without_crf = (float(np.mean([row[key] for row in taggers[model]])) for model in ("crf", "no crf"))
    return with_crf, with_crf - without_crf


def _majority_accuracy(rows: tuple[Row, ...]) -> float:
    """The accuracy of each word's most frequent training tag. A new word gets the most frequent tag of all words."""
    by_word: dict[str, Counter[str]] = {}
    all_tags: Counter[str] = Counter()
    for row in rows_in(rows, "train"):
        for word, span in zip((row.text or "").split(), row.spans, strict=True):
            by_word.setdefault(word.lower(), Counter())[span.label] += 1
            all_tags[span.label] += 1
    predicted, true = [], []
    for row in rows_in(rows, "test"):
        counts = [by_word.get(word.lower(), all_tags) for word in (row.text or "").split()]
        predicted.append([count.most_common(1)[0][0] for count in counts])
        true.append([span.label for span in row.spans])
    return token_accuracy(predicted, true)


def msvd(data: Path, seeds: int) -> Answer:
    """A language model of MSVD's captions beside n-grams, both over the same words, on videos held out."""
    work, watch = proof_tools.fresh_folder("msvd"), proof_tools.Stopwatch()
    proof_tools.prepare_dataset("msvd", "--folder", data / "captions/msvd", "--out", work / "set")
    common = [f"data.path={work}/set/sentences.jsonl"]
    jobs = [[*common, f"training.seed={seed}", f"run={work}/seed{seed}"] for seed in range(seeds)]
    reports = proof_tools.train_all("msvd/language.yaml", jobs)
    lstm = [report_row(report)["perplexity"] for report in reports]
    rows = rows_of("msvd/language.yaml", *common)
    section = proof_tools.load_proof_config("msvd/language.yaml", common).encoder
    assert section.kind == "tokens"
    tokenizer = section.train_tokenizer([row.text or "" for row in rows_in(rows, "train")])

    def tokenized(split: str) -> list[list[str]]:
        return [[tokenizer.names[i] for i in tokenizer.encode(row.text or "")] for row in rows_in(rows, split)]

    train, test = tokenized("train"), tokenized("test")
    ngrams = {}
    for order in range(1, 6):
        model = NgramModel.fit(train, order=order, vocabulary=tokenizer.names[UNKNOWN:])
        ngrams[order] = model.perplexity(test)
    print_table(
        f"MSVD captions, {len(test):,} sentences of held-out videos: perplexity a word, with ends, "
        f"{len(tokenizer):,} words",
        [("LSTM", lstm), *((f"{n}-gram, modified Kneser-Ney", [p]) for n, p in ngrams.items())],
        f"split by film (YouTube video), 80/10/10; all unknown words are one word; {watch.seconds:.0f} s",
    )
    best = min(ngrams.values())
    return f"perplexity {np.mean(lstm):.2f}, best n-gram {best:.2f}", float(np.mean(lstm)) < best


def shakespeare(data: Path, seeds: int) -> Answer:
    """tinyshakespeare, characters: the last tenth with carried state, and with a reset at every window."""
    work = proof_tools.fresh_folder("shakespeare")
    text = data / "text/tinyshakespeare/input.txt"
    proof_tools.prepare_dataset("text", "--file", text, "--lanes", "64", "--share", "0.1", "--out", work / "set")
    watch = proof_tools.Stopwatch()
    run = work / "run"
    settings = [f"data.path={work}/set/manifest.jsonl", f"run={run}", "tracking.wandb=off"]
    proof_tools.unreel("train", proof_tools.REPOSITORY / "configs/text/characters.yaml", *settings)
    seconds = watch.seconds
    carried = report_row(proof_tools.read_report(run))
    window = load_config(run / "config.yaml").data.window
    proof_tools.unreel("evaluate", run, "training.tbptt=false", f"data.window={window}", f"data.stride={window}")
    reset = report_row(proof_tools.read_report(run / "evaluation"))
    print_table(
        "tinyshakespeare, the last tenth: nats a character",
        [("state carried", [carried["nats"]]), (f"state reset every {window} characters", [reset["nats"]])],
        f"trained and measured in {seconds:.0f} s; {carried['bits_per_character']:.3f} bits a character with carried "
        "state",
    )
    for seed in range(2):
        options = ["--prompt", "ROMEO:", "--length", "300", "--seed", str(seed)]
        print(f"\n{proof_tools.unreel('generate', '--model', run, *options).stdout.strip()}")
    nats = carried["nats"]
    result = f"{nats:.4f} nats carried (bar 1.47), {reset['nats']:.4f} reset, trained in {seconds:.0f} s (bar 900)"
    return result, nats <= 1.47 and seconds <= 900


def translate(data: Path, seeds: int) -> Answer:
    """multi30k, German to English: BLEU of sacrebleu on test_2016, by beam search. A training is resumed."""
    import sacrebleu

    work = proof_tools.kept_folder("translate")
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "set/manifest.jsonl").is_file():
        options = ["--folder", data / "text/multi30k", "--from", "de", "--to", "en", "--out", work / "set"]
        proof_tools.prepare_dataset("multi30k", *options)
    run, watch = work / "run", proof_tools.Stopwatch()
    settings = [f"data.path={work}/set/manifest.jsonl", f"run={run}", "tracking.wandb=off"]
    proof_tools.train_with_two_processes("multi30k/translate.yaml", *settings)
    rows = proof_tools.read_json_lines(run / "metrics.jsonl")
    curve, trained = [row for row in rows if row["split"] == "val"], proof_tools.training_seconds(rows)
    test = rows_in(rows_of("multi30k/translate.yaml", settings[0]), "test")
    (work / "test.txt").write_text("".join(f"{row.text}\n" for row in test), encoding="utf-8")
    sentences, greedy = (_translations(work, model) for model in (run, _greedy_copy(run, work / "greedy")))
    references = [row.captions[0].lower() for row in test]
    bleu = sacrebleu.BLEU(lowercase=True)
    score, greedy_score = (bleu.corpus_score(some, [references]).score for some in (sentences, greedy))
    copied = bleu.corpus_score([(row.text or "").lower() for row in test], [references]).score
    points = "  ".join(f"{row['time/seconds']:.0f} s {row['bleu_4']:.3f}" for row in curve)
    print(f"\nlearning curve, validation: {points}")
    print_table(
        f"multi30k de -> en, test_2016, {len(test):,} sentences: BLEU",
        [
            ("GRU with attention, beam search", [score]),
            ("the same, greedy (a beam of 1)", [greedy_score]),
            ("the German text, copied", [copied]),
        ],
        str(bleu.get_signature()),
    )
    for row, sentence in list(zip(test, sentences, strict=True))[:3]:
        print(f"  {row.text}\n    {sentence}\n    (reference: {row.captions[0]})")
    result = (
        f"BLEU {score:.2f} (bar 35), greedy {greedy_score:.2f}, trained in {trained:.0f} s over all legs (bar "
        f"3,600), here {watch.seconds:.0f} s"
    )
    return result, score >= 35 and trained <= 3600


def _translations(work: Path, model: Path) -> list[str]:
    """The translations of test.txt by a model, in lower case."""
    out = work / f"predicted_{model.name}"
    proof_tools.unreel("predict", work / "test.txt", "--model", model, "--out", out, "--format", "jsonl")
    return [row["english"]["sentence"].lower() for row in proof_tools.read_json_lines(out / "predictions.jsonl")]


def _greedy_copy(run: Path, folder: Path) -> Path:
    """A copy of a translator whose beam has one hypothesis."""
    checkpoint = load_model(run)
    heads = checkpoint.architecture.heads
    heads = {**heads, "english": heads["english"].model_copy(update={"beam": 1})}
    architecture = checkpoint.architecture.model_copy(update={"heads": heads})
    save_model(folder, replace(checkpoint, architecture=architecture))
    return folder
