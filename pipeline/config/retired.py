"""The names of unreel 0.1 that version 0.2 replaced: settings, keys of rows and files, classes and modules.

In: nothing. Out: the tables, and `renamed`, which a message about an unknown setting uses. The check
`make show P=house` uses the tables as well. This file imports nothing of the package.
"""

from __future__ import annotations

SINCE = "0.2"
"""The version that has the new names."""

SETTINGS: dict[str, str] = {
    "training.start": "training.init_from",
    "training.clip": "training.grad_clip",
    "training.carry": "training.tbptt",
    "training.opponent_lr": "training.critic_lr_factor",
    "training.backbone_lr": "training.backbone_lr_factor",
    "training.show_every": "training.sample_every",
    "data.test": "data.test_share",
    "data.validation": "data.validation_share",
    "data.failed": "data.on_error",
    "data.features": "data.feature_store",
    "evaluation.orders": "evaluation.order_controls",
    "evaluation.unknown": "evaluation.unknown_classes",
    "core.memory_steps": "core.chrono_steps",
    "encoder(frames).fit": "encoder(frames).resize",
    "encoder(series).from_last": "encoder(series).subtract_last",
    "encoder(tokens).vocabulary": "encoder(tokens).vocabulary_size",
    "encoder(tokens).minimum": "encoder(tokens).min_count",
    "encoder(tokens).cut": "encoder(tokens).pre_tokenizer",
    "encoder(tokens).lower": "encoder(tokens).lowercase",
    "encoder(tokens).ends": "encoder(tokens).add_bos_eos",
    "encoder(tokens).vectors": "encoder(tokens).pretrained_vectors",
    "encoder(tokens).token_dropout": "encoder(tokens).embedding_dropout",
    "encoder(tokens).characters": "encoder(tokens).character_hidden",
    "heads.*(classify).step_loss": "heads.*(classify).step_loss_share",
    "heads.*(segment).step_loss": "heads.*(segment).step_loss_weight",
    "heads.*(segment).minimum_seconds": "heads.*(segment).min_seconds",
    "heads.*(forecast).steps": "heads.*(forecast).horizon",
    "heads.*(forecast).segment": "heads.*(forecast).segment_steps",
    "heads.*(forecast).from_last": "heads.*(forecast).subtract_last",
    "heads.*(forecast).adversary": "heads.*(forecast).adversarial",
    "heads.*(forecast).adversary.directions": "heads.*(forecast).adversarial.pca_components",
    "heads.*(forecast).adversary.game": "heads.*(forecast).adversarial.gan_loss",
    "heads.*(forecast).adversary.penalty": "heads.*(forecast).adversarial.gradient_penalty",
    "heads.*(forecast).adversary.critic.spectral": "heads.*(forecast).adversarial.critic.spectral_norm",
    "heads.*(forecast).adversary.critic.core.memory_steps": "heads.*(forecast).adversarial.critic.core.chrono_steps",
    "heads.*(caption).over": "heads.*(caption).attend_to",
    "heads.*(caption).feed": "heads.*(caption).input_feeding",
    "heads.*(caption).vocabulary": "heads.*(caption).vocabulary_size",
    "heads.*(caption).minimum": "heads.*(caption).min_count",
    "heads.*(caption).cut": "heads.*(caption).pre_tokenizer",
    "heads.*(caption).lower": "heads.*(caption).lowercase",
    "heads.*(caption).sampling": "heads.*(caption).scheduled_sampling",
    "heads.*(caption).length_power": "heads.*(caption).length_penalty",
    "heads.*(caption).no_repeated": "heads.*(caption).no_repeat_ngram",
    "heads.*(caption).describes": "heads.*(caption).segment_head",
    "heads.*(caption).watch": "heads.*(caption).monitor",
    "heads.*(language).tied": "heads.*(language).tie_weights",
    "heads.*(generate).labels": "heads.*(generate).class_conditional",
    "heads.*(generate).averaging": "heads.*(generate).ema_decay",
    "heads.*(generate).game": "heads.*(generate).gan_loss",
    "heads.*(generate).penalty": "heads.*(generate).gradient_penalty",
    "heads.*(generate).penalty_share": "heads.*(generate).gradient_penalty_share",
    "heads.*(generate).disguise": "heads.*(generate).diff_augment",
    "heads.*(generate).remake": "heads.*(generate).reconstruction_weight",
    "heads.*(generate).surprise": "heads.*(generate).kl_weight",
    "heads.*(generate).free": "heads.*(generate).free_nats",
    "heads.*(generate).pictures": "heads.*(generate).image_critic_weight",
    "heads.*(generate).later": "heads.*(generate).max_skip",
    "heads.*(generate).alone": "heads.*(generate).pretrain_share",
    "heads.*(generate).directions": "heads.*(generate).pca_components",
    "heads.*(generate).manner_size": "heads.*(generate).style_size",
    "heads.*(generate).core.memory_steps": "heads.*(generate).core.chrono_steps",
    "heads.*(generate).critic.spectral": "heads.*(generate).critic.spectral_norm",
    "heads.*(generate).critic.core.memory_steps": "heads.*(generate).critic.core.chrono_steps",
}
"""Old dotted setting -> new dotted setting.

`*` is the name of a head. A kind in parentheses belongs to the section before it: encoder(tokens) is an encoder of the
kind tokens. A section without a kind in parentheses has no kinds, or the setting is the same for each kind.
"""

VALUES: dict[str, str] = {
    "encoder(tokens).level=piece": "encoder(tokens).level=subword",
    "heads.*(caption).level=piece": "heads.*(caption).level=subword",
}
"""Old value of a setting -> new value, in the notation of SETTINGS."""

KEYS: dict[str, str] = {
    "part": "split",
    "watched": "monitor",
    "interval": "confidence_interval",
    "early": "early_accuracy",
    "settled_share": "decision_share",
    "unknown": "open_set",
    "closeness": "frechet_change_score",
    "closeness_pooled": "frechet_mean_score",
    "saturated/*": "gate_saturation/*",
    "loss/*_remake": "loss/*_reconstruction",
    "loss/*_surprise": "loss/*_kl of frames, loss/*_nll of features",
    "loss/*_likelihood": "loss/*_nll",
    "loss/*_penalty": "loss/*_gradient_penalty",
    "loss/*_judged": "loss/*_adversarial",
    "movers": "optimizers",
    "recipe": "architecture",
}
"""Old key -> new key, in metrics.jsonl, the report, resume.pt (movers) and model.json (recipe).

`*` is the name of a head or of a gate. The columns of an answer keep their names, `unknown` too.
"""

NAMES: dict[str, str] = {
    # modules of the package
    "pipeline.run": "pipeline.commands.train",
    "pipeline.prepare": "pipeline.commands.prepare_data",
    "pipeline.measure": "pipeline.evaluation.test_evaluation",
    "pipeline.attention": "pipeline.commands.attention_pictures",
    "pipeline.check": "pipeline.commands.check",
    "pipeline.watch": "pipeline.commands.watch",
    "pipeline.generate": "pipeline.commands.generate",
    "pipeline.section": "pipeline.config.base",
    "pipeline.config": "pipeline.config.run",
    "pipeline.recipe": "pipeline.config.architecture and pipeline.config.encoders",
    "pipeline.cores": "pipeline.config.core",
    "pipeline.questions": "pipeline.config.heads",
    "pipeline.sayings": "pipeline.config.text_heads",
    "pipeline.makings": "pipeline.config.generative_heads",
    "pipeline.around": "pipeline.config.head_context",
    "pipeline.whole": "pipeline.atomic",
    "pipeline.data.captioned": "pipeline.data.captioned_videos",
    "pipeline.data.features": "pipeline.data.feature_store",
    "pipeline.data.prepared": "pipeline.data.dataset_tools",
    "pipeline.data.rows": "pipeline.data.manifest_rows",
    "pipeline.data.text": "pipeline.data.texts",
    "pipeline.data.vectors": "pipeline.data.word_vectors",
    "pipeline.data.words": "pipeline.data.tokenizer",
    "pipeline.training.augment": "pipeline.data.augment",
    "pipeline.encoders.adapt": "pipeline.encoders.adapter",
    "pipeline.encoders.runtime": "pipeline.encoders.cnn_runtime",
    "pipeline.heads.judged_forecast": "pipeline.heads.adversarial_forecast",
    "pipeline.heads.tags": "pipeline.heads.tag_schemes",
    "pipeline.heads.trust": "pipeline.heads.confidence",
    "pipeline.heads.generate": "pipeline.heads.generate_frames, generate_features and generate_tokens",
    "pipeline.inference.batch": "pipeline.inference.engine",
    "pipeline.inference.create": "pipeline.inference.generate_sequences",
    "pipeline.inference.generate": "pipeline.inference.generate_text",
    "pipeline.inference.extract": "pipeline.inference.extract_features",
    "pipeline.inference.watch": "pipeline.inference.live_stream",
    "pipeline.media.feed": "pipeline.media.worker",
    "pipeline.media.source": "pipeline.media.stream_source",
    "pipeline.metrics.controls": "pipeline.metrics.negative_controls",
    "pipeline.metrics.early": "pipeline.metrics.early_recognition",
    "pipeline.metrics.made": "pipeline.metrics.generation_report",
    "pipeline.metrics.probes": "pipeline.metrics.generation_probes",
    "pipeline.metrics.quantile": "pipeline.metrics.quantile_loss",
    "pipeline.models.core": "pipeline.models.recurrent.core",
    "pipeline.models.loop": "pipeline.models.recurrent.stepwise",
    "pipeline.models.minimal": "pipeline.models.recurrent.min_gru",
    "pipeline.models.mean": "pipeline.models.recurrent.mean_pool",
    "pipeline.models.saturation": "pipeline.models.recurrent.gate_saturation",
    "pipeline.models.crf": "pipeline.models.crf.crf",
    "pipeline.models.viterbi": "pipeline.models.crf.viterbi",
    "pipeline.models.forward_backward": "pipeline.models.crf.forward_backward",
    "pipeline.models.fixed_lag": "pipeline.models.crf.fixed_lag",
    "pipeline.models.lagged_marginals": "pipeline.models.crf.fixed_lag_marginals",
    "pipeline.models.decoder": "pipeline.models.text.attention_decoder",
    "pipeline.models.beam": "pipeline.models.text.beam_search",
    "pipeline.models.sampling": "pipeline.models.text.sampling",
    "pipeline.models.ctc": "pipeline.models.text.ctc",
    "pipeline.models.ngram": "pipeline.models.text.ngram",
    "pipeline.models.adversary": "pipeline.models.gan.losses",
    "pipeline.models.critic": "pipeline.models.gan.critic",
    "pipeline.models.disguise": "pipeline.models.gan.diff_augment",
    "pipeline.models.bank": "pipeline.models.gan.content_bank",
    "pipeline.models.directions": "pipeline.models.gan.pca",
    "pipeline.models.generator": "pipeline.models.gan.generator",
    "pipeline.models.mover": "pipeline.models.gan.autoregressive_features",
    "pipeline.models.onward": "pipeline.models.gan.image_to_video",
    "pipeline.models.painter": "pipeline.models.gan.frame_decoder",
    "pipeline.models.reader": "pipeline.models.gan.frame_encoder",
    "pipeline.models.film": "pipeline.models.gan.frame_tensors",
    "pipeline.models.seen": "pipeline.models.core_output",
    "pipeline.training.contest": "pipeline.training.adversarial",
    "pipeline.training.optimize": "pipeline.training.optimizer",
    "pipeline.training.runtime": "pipeline.training.distributed",
    "pipeline.training.track": "pipeline.training.tracking",
    "pipeline.training.evaluate": "pipeline.evaluation.evaluate_dataset",
    "pipeline.training.calibrate": "pipeline.evaluation.calibrate",
    "pipeline.training.report": "pipeline.evaluation.report",
    "pipeline.writers.flat": "pipeline.writers.table_rows",
    "pipeline.writers.made": "pipeline.writers.generated",
    "pipeline.writers.names": "pipeline.writers.output_names",
    "pipeline.writers.attention": "pipeline.writers.attention_image",
    # modules of the proofs
    "scripts.brute_crf": "scripts.proofs.brute_crf",
    "scripts.gan_judge": "scripts.proofs.gan_judge",
    "scripts.gan_series": "scripts.proofs.gan_series",
    "scripts.loop_source": "scripts.proofs.loop_source",
    "scripts.made_series": "scripts.proofs.made_series",
    "scripts.probe_tasks": "scripts.proofs.probe_tasks",
    "scripts.proof": "scripts.proofs.proof_tools",
    "scripts.show_beam": "scripts.proofs.beam_oracle",
    "scripts.show_captions": "scripts.proofs.captioning",
    "scripts.show_core": "scripts.proofs.core_contract",
    "scripts.show_crf": "scripts.proofs.crf_oracle",
    "scripts.show_folder": "scripts.proofs.folder_job",
    "scripts.show_forecast": "scripts.proofs.forecasts",
    "scripts.show_fresh": "scripts.proofs.fresh_clone",
    "scripts.show_gan": "scripts.proofs.gan_training",
    "scripts.show_gan_features": "scripts.proofs.gan_features",
    "scripts.show_gan_frames": "scripts.proofs.gan_frames",
    "scripts.show_gan_tokens": "scripts.proofs.gan_tokens",
    "scripts.show_pose": "scripts.proofs.tennis_pose",
    "scripts.show_probes": "scripts.proofs.recurrent_probes",
    "scripts.show_recognise": "scripts.proofs.recognition",
    "scripts.show_splits": "scripts.proofs.official_splits",
    "scripts.show_stream": "scripts.proofs.streams",
    "scripts.show_timeline": "scripts.proofs.timelines",
    "scripts.show_training": "scripts.proofs.resume_and_wandb",
    "scripts.show_unknown": "scripts.proofs.unknown_classes",
    "scripts.show_words": "scripts.proofs.text_tasks",
    "scripts.show_writers": "scripts.proofs.writer_formats",
    "scripts.timed_readers": "scripts.proofs.subtitle_readers",
    "scripts.trainings": "scripts.proofs.interrupted_trainings",
    "scripts.wandb_file": "scripts.proofs.wandb_file",
    # classes that are retired in one module, because the name is in use elsewhere
    "pipeline.metrics.sequence.Span": "TagSpan",
    "pipeline.models.crf.fixed_lag.Memory": "ViterbiMemory",
    "pipeline.models.crf.fixed_lag_marginals.Memory": "MarginalsMemory",
    "pipeline.heads.anticipate.Memory": "AnticipateMemory",
    "pipeline.heads.caption.Memory": "CaptionMemory",
    "pipeline.heads.classify.Memory": "ClassifyMemory",
    "pipeline.heads.forecast.Memory": "ForecastMemory",
    "pipeline.heads.language.Memory": "LanguageMemory",
    "pipeline.heads.segment.Memory": "SegmentMemory",
    "pipeline.heads.transcribe.Memory": "TranscribeMemory",
    # classes
    "AdversarySection": "AdversarialSection",
    "Around": "HeadContext",
    "Bank": "ContentBank",
    "Bigrams": "BigramModel",
    "Codes": "LatentCodes",
    "Contest": "AdversarialHead",
    "Crf": "CRF",
    "Decided": "OnlineLabels",
    "Decoded": "CTCHypothesis",
    "Decoder": "AttentionDecoder",
    "Describer": "SpanDescriber",
    "Directions": "FeaturePCA",
    "Evidence": "Result",
    "FeatureGenerator": "AutoregressiveFeatureGenerator",
    "FeatureMaker": "FeatureDecoder",
    "Feed": "DecodeWorker",
    "FixedLag": "FixedLagViterbi",
    "Follower": "StreamingHead",
    "Following": "StreamMemory",
    "Found": "InputFile",
    "FrameMaker": "FrameDecoder",
    "Game": "GanLoss",
    "Generate": "GenerateFrames, GenerateFeatures or GenerateTokens",
    "GenerateSection": "GenerateFramesSection, GenerateFeaturesSection or GenerateTokensSection",
    "Glimpse": "AttentionMemory",
    "Judged": "Evaluation",
    "JudgedForecast": "AdversarialForecast",
    "LaggedMarginals": "FixedLagMarginals",
    "LaneSampler": "TbpttSampler",
    "Live": "LiveSource",
    "Look": "FeatureExtractor",
    "Made": "GeneratedSequence",
    "Maker": "SequenceDecoder",
    "Makes": "GeneratedKind",
    "MannerReader": "StyleEncoder",
    "MeanCore": "MeanPoolCore",
    "Mover": "PlayerOptimizer",
    "Notes": "DecodeWarnings",
    "Onward": "FirstFrameDecoder",
    "OnwardGenerator": "ImageToVideoGenerator",
    "Plan": "TrainingSection",
    "Prepared": "RunData",
    "Read": "EncodedFrames",
    "Reader": "FrameReader of media, FrameEncoder of models or FitsRows of heads",
    "Recipe": "Architecture",
    "Runtime": "CnnRuntime of encoders or DistributedContext of training",
    "Say": "Log",
    "Seen": "CoreOutput",
    "Sentences": "Hypotheses",
    "Side": "CriticInput",
    "Source": "RowSource of data or StreamSource of media",
    "Spans": "ScoredSpans",
    "Speller": "CharacterEncoder",
    "Step": "StepFunction",
    "Track": "Tracker",
    "Trust": "Confidence",
    "Watcher": "CoreProtocol",
    "Words": "Tokenizer",
    "WriterCell": "DecoderCell",
    # functions and attributes with a name that nothing else has
    "build_look": "build_feature_extractor",
    "critics_turn": "critic_terms",
    "is_blind": "skips_core",
    "is_playing": "is_adversarial",
    "make_sequences": "generate_sequences",
    "watched_size": "feature_size",
}
"""Old name -> new name of modules (dotted), of classes, and of some functions and attributes.

A dotted name that ends in a class is retired in that module only.
"""


def renamed(place: str, word: str) -> str | None:
    """The present name of the retired setting `word` in the section `place`, or None where the setting is not retired.

    place: the section as people write it, such as "training", "heads.clip" or "heads.clip.critic". It says the kind of
    an encoder or a head in parentheses: "heads.clip(generate)". Without the kind all kinds count, and several names
    are joined by "or". The result is dotted and without kinds: renamed("training", "start") is "training.init_from".
    """
    return " or ".join(_found(SETTINGS, place, word)) or None


def renamed_value(place: str, word: str, value: object) -> str | None:
    """The present form of a retired value, such as "encoder.level=subword", or None where the value is not retired."""
    return " or ".join(_found(VALUES, place, f"{word}={value}")) or None


def _found(table: dict[str, str], place: str, word: str) -> list[str]:
    """All new names of a word in a section. The section may have its old name or its new name."""
    here = [_split(part) for part in place.split(".")]
    found = []
    for old, new in table.items():
        *old_place, old_word = old.split(".")
        *new_place, new_word = new.split(".")
        patterns = [[_split(part) for part in parts] for parts in (old_place, new_place)]
        if old_word == word and any(_fits(here, pattern) for pattern in patterns):
            names = [name if known == "*" else known for (name, _), (known, _) in zip(here, patterns[1], strict=True)]
            found.append(".".join([*names, new_word]))
    return list(dict.fromkeys(found))


def _split(part: str) -> tuple[str, str]:
    """The name and the kind of a part of a place: "clip(generate)" is ("clip", "generate")."""
    name, _, kind = part.partition("(")
    return name, kind.rstrip(")")


def _fits(place: list[tuple[str, str]], pattern: list[tuple[str, str]]) -> bool:
    """Whether a place is the place of a setting. A missing kind fits each kind."""
    return len(place) == len(pattern) and all(
        known in ("*", name) and (kind == known_kind or not (kind and known_kind))
        for (name, kind), (known, known_kind) in zip(place, pattern, strict=True)
    )
