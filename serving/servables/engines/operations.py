"""Operations that a graph needs and TensorFlow itself lacks.

TensorFlow Serving links the operations of two packages: TensorFlow Text and TensorFlow Decision Forests. A Python
process has them once the package is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ladle.serving.errors import MissingOperation

log = logging.getLogger(__name__)

# Operations by package. Most of TensorFlow Text's are older than its prefix `TFText>`.
_PACKAGES = {
    "tensorflow_text": re.compile(
        r"TFText>.*|Sentencepiece.*Op|SentenceFragments(V2)?|(CaseFold|Normalize)UTF8(WithOffsetsMap)?"
        r"|FindSourceOffsets|(Wordpiece|Whitespace|UnicodeScript|SplitMerge)TokenizeWithOffsets|RegexSplitWithOffsets"
        r"|ConstrainedSequence|TokenizerFromLogits|MaxSpanningTree|RougeL"
    ),
    "tensorflow_decision_forests": re.compile(r"SimpleML.*"),
}


_PYTHON = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})
CALLS_PYTHON = (
    "calls Python code (tf.py_function or tf.numpy_function), which no SavedModel contains; rebuild it with "
    "TensorFlow's operations"
)


def calling_python(meta_graph: Any) -> set[str]:
    """The signatures of a MetaGraphDef that call Python functions of the process that exported it."""
    graph = meta_graph.graph_def
    functions = {function.signature.name: function.node_def for function in graph.library.function}
    python = {node.name for node in graph.node if _PYTHON.intersection(_of_nodes([node], functions))}
    if not python:
        return set()
    nodes = {node.name: node for node in graph.node}
    found = set()
    for name, signature in meta_graph.signature_def.items():
        waiting = [info.name.partition(":")[0] for info in signature.outputs.values()]
        seen: set[str] = set()
        while waiting:
            reached = waiting.pop()
            if reached in nodes and reached not in seen:
                seen.add(reached)
                waiting += [text.removeprefix("^").partition(":")[0] for text in nodes[reached].input]
        if seen & python:
            found.add(name)
    return found


def provide(graph: Any, is_registered: Callable[[str], bool]) -> None:
    """Import the installed packages whose operations a GraphDef uses.

    is_registered  whether TensorFlow knows an operation of this name now

    MissingOperation names the first operation that is still unknown, and its package if that is known.
    """
    functions = {function.signature.name: function.node_def for function in graph.library.function}
    missing = [operation for operation in _of_nodes(graph.node, functions) if not is_registered(operation)]
    for operation in missing:
        package = _package_of(operation)
        if package is None:
            raise MissingOperation(f"Op type not registered '{operation}'; the server's TensorFlow does not have it")
        if importlib.util.find_spec(package) is None:
            raise MissingOperation(
                f"Op type not registered '{operation}'; it comes from the package {package}: install "
                f"{package.replace('_', '-')} where the server runs, and start it again"
            )
        try:
            importlib.import_module(package)
        except Exception as error:  # most often a package built for another version of TensorFlow
            log.error("%s cannot be imported: %s", package, error)
        if not is_registered(operation):
            raise MissingOperation(
                f"Op type not registered '{operation}'; the installed {package} does not provide it: install the "
                "version that fits the server's TensorFlow"
            )


def _package_of(operation: str) -> str | None:
    return next((package for package, names in _PACKAGES.items() if names.fullmatch(operation)), None)


def _of_nodes(nodes: Iterable[Any], functions: Mapping[str, Iterable[Any]]) -> Iterator[str]:
    """The operations of nodes and of the functions that they call, each once; unused functions may hold any."""
    seen: set[str] = set()
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():
            called = [value.func.name for value in node.attr.values()]
            called += [function.name for value in node.attr.values() for function in value.list.func]
            for name in {node.op, *called} - seen:
                seen.add(name)
                if name in functions:
                    waiting.append(functions[name])
                elif name == node.op:
                    yield name
