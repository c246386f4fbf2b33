"""What each verb that asks a server does, in a line: for `ladle --help` and the verb's own. Imports nothing."""

from __future__ import annotations

SUMMARIES = {
    "status": "list the models of a server with version and state",
    "metadata": "show the signatures of a model",
    "predict": "run any signature on numbers, text or files",
    "classify": "name what an image shows",
    "sentiment": "say whether a text is positive or negative",
    "neighbours": "list the words nearest to a word in a learnt embedding",
    "generate": "draw new images from a seed",
    "segment": "find the class of each pixel of an image",
    "reconstruct": "pass an image through an auto-encoder",
    "filter": "sharpen and blur an image and find its edges",
    "interpolate": "blend one image into another by their codes",
    "encode": "print an auto-encoder's code of an image",
    "decode": "draw the image of an auto-encoder's code",
    "regress": "predict a number for each row of features",
    "minimise": "descend from a start to a minimum of a function",
    "replay": "send logged requests again and compare the answers",
    "bench": "measure how fast a running server answers",
}
