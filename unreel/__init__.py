"""unreel: a video recogniser. A CNN extracts features of frames, one recurrent core reads them in order, heads answer.

    import unreel
    model = unreel.load("runs/videos")
    answer = model("clip.mp4")
    print(answer.label, answer.score)

Every name below is imported when it is first used, so `import unreel` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline import __version__ as __version__

_MODULES = {
    "pipeline.api": ("load", "train", "evaluate", "Recogniser", "Run"),
    "pipeline.inference.predictor": ("Answer",),
    "pipeline.inference.stream": ("Stream",),
    "pipeline.checkpoint": ("ModelError", "load_model", "save_model"),
    "pipeline.config.base": ("ConfigError",),
    "pipeline.config.run": ("Config", "load_config"),
    "pipeline.data.manifest": ("Manifest", "read_manifest", "write_manifest"),
    "pipeline.data.tokenizer": ("Tokenizer",),
    "pipeline.data.vocabulary": ("Vocabulary",),
    "pipeline.padded": ("Padded", "stack"),
    "pipeline.media.clip": ("Clip",),
    "pipeline.media.clock": ("Clock",),
    "pipeline.media.decode": ("decode",),
    "pipeline.media.probe": ("MediaError", "probe"),
    "pipeline.media.transform": ("Transform",),
    "pipeline.models.model": ("Model",),
    "pipeline.models.core_output": ("CoreOutput",),
    "pipeline.models.recurrent.core": ("Core",),
    "pipeline.models.recurrent.mean_pool": ("MeanPoolCore",),
    "pipeline.models.crf.crf": ("CRF",),
    "pipeline.models.text.beam_search": ("beam_search",),
    "pipeline.heads.classify": ("Classify",),
    "pipeline.heads.segment": ("Segment",),
    "pipeline.heads.caption": ("Caption",),
    "pipeline.heads.transcribe": ("Transcribe",),
    "pipeline.heads.forecast": ("Forecast",),
    "pipeline.heads.anticipate": ("Anticipate",),
    "pipeline.heads.language": ("Language",),
    "pipeline.metrics.classification": ("classification",),
    "pipeline.metrics.segmentation": ("segmentation",),
    "pipeline.metrics.captions": ("bleu", "rouge_l", "CiderD"),
    "pipeline.metrics.sequence": ("word_error_rate", "span_f1", "perplexity"),
    "pipeline.metrics.calibration": ("expected_calibration_error", "auroc"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "CRF",
    "Answer",
    "Anticipate",
    "Caption",
    "CiderD",
    "Classify",
    "Clip",
    "Clock",
    "Config",
    "ConfigError",
    "Core",
    "CoreOutput",
    "Forecast",
    "Language",
    "Manifest",
    "MeanPoolCore",
    "MediaError",
    "Model",
    "ModelError",
    "Padded",
    "Recogniser",
    "Run",
    "Segment",
    "Stream",
    "Tokenizer",
    "Transcribe",
    "Transform",
    "Vocabulary",
    "__version__",
    "auroc",
    "beam_search",
    "bleu",
    "classification",
    "decode",
    "evaluate",
    "expected_calibration_error",
    "load",
    "load_config",
    "load_model",
    "perplexity",
    "probe",
    "read_manifest",
    "rouge_l",
    "save_model",
    "segmentation",
    "span_f1",
    "stack",
    "train",
    "word_error_rate",
    "write_manifest",
]

if TYPE_CHECKING:
    from pipeline.api import Recogniser as Recogniser
    from pipeline.api import Run as Run
    from pipeline.api import evaluate as evaluate
    from pipeline.api import load as load
    from pipeline.api import train as train
    from pipeline.checkpoint import ModelError as ModelError
    from pipeline.checkpoint import load_model as load_model
    from pipeline.checkpoint import save_model as save_model
    from pipeline.config.base import ConfigError as ConfigError
    from pipeline.config.run import Config as Config
    from pipeline.config.run import load_config as load_config
    from pipeline.data.manifest import Manifest as Manifest
    from pipeline.data.manifest import read_manifest as read_manifest
    from pipeline.data.manifest import write_manifest as write_manifest
    from pipeline.data.tokenizer import Tokenizer as Tokenizer
    from pipeline.data.vocabulary import Vocabulary as Vocabulary
    from pipeline.heads.anticipate import Anticipate as Anticipate
    from pipeline.heads.caption import Caption as Caption
    from pipeline.heads.classify import Classify as Classify
    from pipeline.heads.forecast import Forecast as Forecast
    from pipeline.heads.language import Language as Language
    from pipeline.heads.segment import Segment as Segment
    from pipeline.heads.transcribe import Transcribe as Transcribe
    from pipeline.inference.predictor import Answer as Answer
    from pipeline.inference.stream import Stream as Stream
    from pipeline.media.clip import Clip as Clip
    from pipeline.media.clock import Clock as Clock
    from pipeline.media.decode import decode as decode
    from pipeline.media.probe import MediaError as MediaError
    from pipeline.media.probe import probe as probe
    from pipeline.media.transform import Transform as Transform
    from pipeline.metrics.calibration import auroc as auroc
    from pipeline.metrics.calibration import expected_calibration_error as expected_calibration_error
    from pipeline.metrics.captions import CiderD as CiderD
    from pipeline.metrics.captions import bleu as bleu
    from pipeline.metrics.captions import rouge_l as rouge_l
    from pipeline.metrics.classification import classification as classification
    from pipeline.metrics.segmentation import segmentation as segmentation
    from pipeline.metrics.sequence import perplexity as perplexity
    from pipeline.metrics.sequence import span_f1 as span_f1
    from pipeline.metrics.sequence import word_error_rate as word_error_rate
    from pipeline.models.core_output import CoreOutput as CoreOutput
    from pipeline.models.crf.crf import CRF as CRF
    from pipeline.models.model import Model as Model
    from pipeline.models.recurrent.core import Core as Core
    from pipeline.models.recurrent.mean_pool import MeanPoolCore as MeanPoolCore
    from pipeline.models.text.beam_search import beam_search as beam_search
    from pipeline.padded import Padded as Padded
    from pipeline.padded import stack as stack


def __getattr__(name: str) -> Any:
    """Import the module of a public name, and keep the name."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'unreel' has no attribute '{name}'")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Every public name, imported or not."""
    return list(__all__)
