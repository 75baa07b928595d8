"""Streams of events: loading, checking, splitting, generating, features by id, and drawing negatives."""

from typing import TYPE_CHECKING

from pyg_mspipe._lazy import lazy

if TYPE_CHECKING:
    from pyg_mspipe.data.convert import append_stream, convert_stream
    from pyg_mspipe.data.errors import StreamError
    from pyg_mspipe.data.event_groups import EventGroups
    from pyg_mspipe.data.feature_file import write_features
    from pyg_mspipe.data.feature_store import FeatureStore, MappedFeatures, TensorFeatures
    from pyg_mspipe.data.generator import synthetic
    from pyg_mspipe.data.labels import Labels, read_labels
    from pyg_mspipe.data.negatives import DrawNegatives, Negatives, NegativeSampler, Positives
    from pyg_mspipe.data.splits import StreamSplit, split_stream
    from pyg_mspipe.data.stream_folder import StreamFolder
    from pyg_mspipe.data.streams import load_stream
    from pyg_mspipe.data.summary import DegreeSketch, StreamSummary, summarize
    from pyg_mspipe.data.validation import check_stream, find_problems
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "convert": ["append_stream", "convert_stream"],
            "errors": ["StreamError"],
            "event_groups": ["EventGroups"],
            "feature_file": ["write_features"],
            "feature_store": ["FeatureStore", "MappedFeatures", "TensorFeatures"],
            "labels": ["Labels", "read_labels"],
            "negatives": ["DrawNegatives", "Negatives", "NegativeSampler", "Positives"],
            "splits": ["StreamSplit", "split_stream"],
            "stream_folder": ["StreamFolder"],
            "streams": ["load_stream"],
            "summary": ["DegreeSketch", "StreamSummary", "summarize"],
            "generator": ["synthetic"],
            "validation": ["check_stream", "find_problems"],
        },
    )

__all__ = [
    "DegreeSketch",
    "DrawNegatives",
    "EventGroups",
    "FeatureStore",
    "Labels",
    "MappedFeatures",
    "NegativeSampler",
    "Negatives",
    "Positives",
    "StreamError",
    "StreamFolder",
    "StreamSplit",
    "StreamSummary",
    "TensorFeatures",
    "append_stream",
    "check_stream",
    "convert_stream",
    "find_problems",
    "load_stream",
    "read_labels",
    "split_stream",
    "summarize",
    "synthetic",
    "write_features",
]
