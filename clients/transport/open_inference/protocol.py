"""What the Open Inference Protocol's REST and gRPC have in common: metadata, signatures, states of versions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ladle.clients.errors import Internal, InvalidArgument, NotFound, Unimplemented
from ladle.clients.transport.metadata import INDEX_STATES, Metadata, VersionStatus
from ladle.clients.transport.open_inference.described import DEFAULT, Described, metadata_from
from ladle.clients.transport.operation import Operation
from ladle.clients.transport.protocol import Deadline, Protocol, one_of
from ladle.clients.wire.arrays import Array

ABSENT = (NotFound, Unimplemented, InvalidArgument, Internal)
"""What servers answer to a method that they do not have."""
_NOT_READY = "the server says that it is not ready"


class OpenInferenceProtocol(Protocol):
    """The part of both. Extensions that a server lacks are noticed and not asked for again."""

    cannot_list = "a server of the Open Inference Protocol need not have a method for it"
    _has_config = True
    _has_index = True

    # What differs between gRPC and REST

    @abstractmethod
    def _describe(self, name: str, version: str, deadline: Deadline) -> Operation[Mapping[str, Any]]:
        """The answer of ModelMetadata."""

    @abstractmethod
    def _index(self, deadline: Deadline) -> Operation[Sequence[Mapping[str, Any]]]:
        """The rows of RepositoryIndex, which the extension `model_repository` has."""

    @abstractmethod
    def _is_ready(self, name: str, version: str, deadline: Deadline) -> Operation[bool]:
        """The answer of ModelReady."""

    @abstractmethod
    def _names(self, deadline: Deadline) -> Operation[Sequence[str] | None]:
        """The names of the models; None: the server cannot list them."""

    # What is the same

    def _metadata(self, name: str, version: int | None, label: str | None, deadline: Deadline) -> Operation[Metadata]:
        path = version_text(name, version, label)
        document = yield from self._describe(name, path, deadline)
        parameters: dict[str, str] = {}
        if self._has_config:
            try:
                parameters = yield from self._parameters(name, path, deadline)
            except ABSENT as error:
                self._has_config = isinstance(error, Internal)  # which may pass
        try:
            return metadata_from(name, version, document, parameters)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Internal(f"{self.address} sent unreadable metadata of {name}: {error}") from None

    def _status(self, name: str, version: int | None, deadline: Deadline) -> Operation[list[VersionStatus]]:
        listed = yield from self._listed(deadline)
        if listed is not None:
            found = [status for status in listed.get(name, ()) if version in (None, status.version)]
            if not found:
                which = "model" if name not in listed else f"version {version}"
                raise NotFound(f"{name}: {self.address} has no such {which}")
            return found
        path = version_text(name, version, None)
        document = yield from self._describe(name, path, deadline)
        is_ready = yield from self._is_ready(name, path, deadline)
        numbers = [int(text) for text in document.get("versions") or () if str(text).isdigit()] or [0]
        said = ("AVAILABLE", "OK", "") if is_ready else ("END", "", _NOT_READY)
        chosen = numbers if version is None else [version]
        return [VersionStatus(number, *said) for number in sorted(chosen, reverse=True)]

    def _models(self, deadline: Deadline) -> Operation[dict[str, list[VersionStatus]] | None]:
        listed = yield from self._listed(deadline)
        if listed is not None:
            return listed
        names = yield from self._names(deadline)
        if names is None:
            return None
        found = {}
        for name in sorted(names):
            found[name] = yield from self._status(name, None, deadline)
        return found

    def _listed(self, deadline: Deadline) -> Operation[dict[str, list[VersionStatus]] | None]:
        """The versions of all models by the repository's index; None: the server has none."""
        if not self._has_index:
            return None
        try:
            rows = yield from self._index(deadline)
            return _statuses(rows)
        except ABSENT as error:
            self._has_index = isinstance(error, Internal)
            return None

    def run_signature(
        self,
        name: str,
        arrays: Mapping[str, Array],
        signature: str,
        version: int | None,
        label: str | None,
        deadline: Deadline,
        outputs: Sequence[str] | None = None,
    ) -> Operation[dict[str, Array]]:
        yield from self.cached_metadata(name, version, label, deadline)  # `chosen` looks there
        return (yield from super().run_signature(name, arrays, signature, version, label, deadline, outputs))

    def chosen(self, name: str, signature: str, version: int | None, label: str | None) -> str:
        """The signature to name in a request; "" for the model's only function.

        InvalidArgument: the server names no such signature. It would run another one without a word.
        """
        cached = self._metadata_cache.get((name, version, label))
        described = cached[1] if cached is not None else None
        named = described.named if isinstance(described, Described) else frozenset()
        if signature in named:
            return signature
        if (described is not None and signature in described.signatures) or (not named and signature == DEFAULT):
            return ""
        known = ", ".join(sorted(named)) or f"one function a model, here called {DEFAULT}"
        raise InvalidArgument(f'{name}: has no signature "{signature}"; {self.address} names {known}')

    def _fitted(
        self,
        name: str,
        inputs: Any,
        signature: str,
        version: int | None,
        label: str | None,
        deadline: Deadline,
    ) -> Operation[dict[str, Array]]:
        one_of(name, version, label)
        metadata = yield from self.cached_metadata(name, version, label, deadline)
        if not isinstance(metadata, Described) or not metadata.is_silent:
            return (yield from super()._fitted(name, inputs, signature, version, label, deadline))
        if not isinstance(inputs, Mapping):
            raise InvalidArgument(
                f"{name}: got an input without a name, and the server declares none; expected a mapping by name"
            )
        return {key: np.asarray(value) for key, value in inputs.items()}


def version_text(name: str, version: int | None, label: str | None) -> str:
    """The version as the protocol has it, a text; "" for the one that the server chooses.

    A label is such a text, too: Ladle's server knows it by its labels.
    """
    if version is None:
        return label or ""
    if isinstance(version, bool) or not isinstance(version, int | np.integer):
        raise InvalidArgument(f"{name}: got version {version!r}; expected a whole number")
    return str(int(version))


def _statuses(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[VersionStatus]]:
    """The states of versions by model, highest first. Internal: the rows are not what the protocol has."""
    found: dict[str, list[VersionStatus]] = {}
    try:
        for row in rows:
            state = row.get("state") or "UNAVAILABLE"  # Triton leaves it out for a model that it has not loaded
            text = str(row.get("version") or "0")
            code = "OK" if state == "READY" else ""  # the protocol has no codes
            status = VersionStatus(
                int(text) if text.isdigit() else 0, INDEX_STATES.get(state, state), code, row.get("reason") or ""
            )
            found.setdefault(str(row["name"]), []).append(status)
    except (AttributeError, KeyError, TypeError):
        raise Internal("the index of the repository is unreadable") from None
    return {name: sorted(found[name], key=lambda status: -status.version) for name in sorted(found)}
