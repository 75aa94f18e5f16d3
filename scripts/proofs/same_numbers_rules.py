"""The rules from the names in state dicts of the new tree to those of the old tree.

They are applied one after another by re.sub, each to what the one before has left. A name that no rule meets is the
same in both trees. The comparison prints a rule for each part that differs.
"""

from __future__ import annotations

Rules = tuple[tuple[str, str], ...]
"""Pairs of a regular expression over a new name and what it becomes in old names."""

STATE_RULES: Rules = (
    # generate heads and adversarial forecasts
    (r"^(heads\.\w+\.(?:generator|average\.module))\.pose_generator\.", r"\1."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.decoder\.", r"\1.maker."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.independent_motion\.", r"\1.instead."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.content_net\.", r"\1.content."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.condition\.embedding\.", r"\1.wish."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.condition\.to_state\.", r"\1.begin."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.frame_decoder\.background\.", r"\1.painter.still."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.frame_decoder\.foreground\.", r"\1.painter.moving."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.frame_decoder\.local\.", r"\1.painter.here."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.frame_decoder\.key_value\.", r"\1.painter.there."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.frame_decoder\.query\.", r"\1.painter.ask."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.frame_decoder\.query_position$", r"\1.painter.where_here"),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.frame_decoder\.key_position$", r"\1.painter.where_there"),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.frame_decoder\.join_local\.", r"\1.painter.join_here."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.frame_decoder\.output\.", r"\1.painter.paint."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.frame_decoder\.", r"\1.painter."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.core_input\.", r"\1.reads."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.gaussian\.", r"\1.tells."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.style_encoder\.conv1\.", r"\1.reads.one."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.style_encoder\.conv2\.", r"\1.reads.two."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.style_encoder\.project\.", r"\1.reads.join."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.persistence\.", r"\1.follow."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.log_deviation\.", r"\1.spread."),
    (r"^(heads\.\w+\.(?:generator|average\.module))\.token_embedding\.", r"\1.words."),
    (r"^(heads\.\w+)\.opponent\.convolutions\.", r"\1.opponent.steps."),
    (r"^(heads\.\w+)\.opponent\.image_encoder\.", r"\1.opponent.picture."),
    (r"^(heads\.\w+)\.opponent\.sequence_score\.", r"\1.opponent.judge."),
    (r"^(heads\.\w+)\.opponent\.image_score\.", r"\1.opponent.judge_picture."),
    (r"^(heads\.\w+)\.opponent\.(judge|judge_picture)\.linear\.", r"\1.opponent.\2.score."),
    (r"^(heads\.\w+)\.opponent\.(judge|judge_picture)\.class_embedding\.", r"\1.opponent.\2.of."),
    (r"^(heads\.\w+)\.frame_encoder\.image_encoder\.", r"\1.reader.look."),
    (r"^(heads\.\w+)\.frame_encoder\.pose\.", r"\1.reader.moves."),
    (r"^(heads\.\w+)\.frame_encoder\.", r"\1.reader."),
    (r"^(heads\.\w+)\.pca\.residual_deviation$", r"\1.directions.moving"),
    (r"^(heads\.\w+)\.pca\.", r"\1.directions."),
    (r"^(heads\.\w+)\.content_bank\.styles$", r"\1.bank.manners"),
    (r"^(heads\.\w+)\.content_bank\.capacity$", r"\1.bank.room"),
    (r"^(heads\.\w+)\.content_bank\.num_stored$", r"\1.bank.written"),
    (r"^(heads\.\w+)\.content_bank\.", r"\1.bank."),
    # other heads
    (r"^(heads\.[^.]+)\.attention_score\.(weight|bias)$", r"\1.score.\2"),
    (r"^(heads\.[^.]+)\.confidence\.(temperature|threshold)$", r"\1.trust.\2"),
    (r"^(heads\.[^.]+)\.confidence\.mahalanobis\.components$", r"\1.trust.nearest.directions"),
    (r"^(heads\.[^.]+)\.confidence\.mahalanobis\.residual_precision$", r"\1.trust.nearest.precision"),
    (r"^(heads\.[^.]+)\.confidence\.mahalanobis\.(means|precisions)$", r"\1.trust.nearest.\2"),
    (r"^(heads\.[^.]+)\.output_layer\.(weight|bias)$", r"\1.change.\2"),
    (r"^(heads\.[^.]+)\.decoder_core\.", r"\1.again."),
    (r"^(heads\.[^.]+)\.emission\.(weight|bias)$", r"\1.emit.\2"),
    (r"^(heads\.[^.]+)\.span_pooling\.position_embedding\.weight$", r"\1.place.weight"),
    # the attention decoder
    (r"^(heads\.\w+\.decoder)\.bridge\.", r"\1.start."),
    (r"^(heads\.\w+\.decoder)\.query\.", r"\1.ask."),
    (r"^(heads\.\w+\.decoder)\.score\.", r"\1.weigh."),
    (r"^(heads\.\w+\.decoder)\.location_conv\.", r"\1.trail."),
    # the encoder of tokens
    (r"^encoder\.character_embedding\.", r"encoder.letters."),
    (r"^encoder\.character_encoder\.", r"encoder.speller."),
)
