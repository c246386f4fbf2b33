"""Descriptor pools and message classes from protobuf's implementation in C.

protobuf's public modules for both, `descriptor_pool` and `message_factory`, also import the text format and messages in
pure Python. That takes a twelfth of the server's start, and all that the modules then do is to call the implementation
in C. Where there is none, or where it has changed, the public modules do it.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor
from google.protobuf.message import Message

_native: Any = getattr(descriptor, "_message", None)
_is_native = all(hasattr(_native, name) for name in ("DescriptorPool", "MessageMeta"))


def new_pool() -> Any:
    """An empty `google.protobuf.descriptor_pool.DescriptorPool`."""
    if _is_native:
        return _native.DescriptorPool()
    from google.protobuf import descriptor_pool

    return descriptor_pool.DescriptorPool()


def message_class(found: Any) -> Any:
    """The class of a message's descriptor, the same one each time."""
    if _is_native:
        # The classes of its fields come with their first use.
        return _native.MessageMeta(found.name, (Message,), {"DESCRIPTOR": found, "__module__": None})
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(found)
