"""A client that floods the server holds up nobody else: a watching client gets its health answers meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.chaos import flood_kinds, floods

QUICK = ("rest_not_found", "rest_bad_post", "rest_ragged", "window_update", "empty_data", "settings", "rapid_reset")
MORE = [pytest.param(name, marks=pytest.mark.slow) for name in flood_kinds.FLOODS if name not in QUICK]
WAIT_S = 0.3
TIMES_QUIET = 5
ATTEMPTS = 4  # other processes may hold up one; a server that is held up by the flood fails all
CUT_OFF = {"window_update", "connection_window", "empty_data", "priority", "unknown_frame", "ping", "settings"}
CUT_OFF |= {"setting_lists", "table_resizes", "rst_stream", "continuations"}


@pytest.mark.parametrize("name", [*QUICK, *MORE])
def test_a_flood_holds_up_no_other_client(name: str, tiny_server: Any) -> None:
    seen = []
    for _ in range(ATTEMPTS):
        held = floods.measure(name, tiny_server.grpc_port, tiny_server.rest_port, "half_plus_two", 0.5)
        seen.append(floods.row(held))
        assert held.sent_mb > 0
        quiet_s = max(waits.worst_s for waits in held.quiet.values())
        if held.worst_s < max(WAIT_S, TIMES_QUIET * quiet_s) and (name not in CUT_OFF or held.connections > 1):
            return
    pytest.fail("\n".join([floods.HEAD, *seen]))
