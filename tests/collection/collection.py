"""The whole collection: small SavedModels of the kinds that people bring."""

from __future__ import annotations

import dataclasses

from tests.collection.formats import FORMATS
from tests.collection.found import FOUND
from tests.collection.images import IMAGES
from tests.collection.second import SECOND
from tests.collection.sequences import SEQUENCES
from tests.collection.tables import TABLES

NOT_YET = {
    "unknown rank reduced": "tf2onnx cannot convert it",
}
"""Models that stay on TensorFlow, and words of the reason."""

CASES = [
    dataclasses.replace(case, refused=NOT_YET.get(case.name, case.refused))
    for case in (*IMAGES, *SEQUENCES, *TABLES, *FORMATS, *FOUND, *SECOND)
]
