"""Checkpoints: finding a model's files, reading their formats, and preparing them once.

Everything comes out in one canonical form (see `layout` and `prepared`), so that nothing above
this package knows where a model came from. No tensor library is used here, only numpy.
"""

from headway.checkpoint.inventory import (
    Source,
    StoredModel,
    find,
    list_models,
    pull_model,
    remove_model,
)
from headway.checkpoint.manifest import damaged_files
from headway.checkpoint.prepare import prepare, prepare_tokenizer
from headway.checkpoint.prepared import Prepared, load_prepared
from headway.checkpoint.storage import Storage, native_format, native_storage
from headway.types.model import ModelConfig, RopeScaling

__all__ = [
    "ModelConfig",
    "Prepared",
    "RopeScaling",
    "Source",
    "Storage",
    "StoredModel",
    "damaged_files",
    "find",
    "list_models",
    "load_prepared",
    "native_format",
    "native_storage",
    "prepare",
    "prepare_tokenizer",
    "pull_model",
    "remove_model",
]
