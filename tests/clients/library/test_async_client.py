"""The awaited twin: the same methods, and many questions open at once."""

from __future__ import annotations

import asyncio
import inspect
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ladle.clients import errors
from ladle.clients.library.async_client import AsyncClient
from ladle.clients.library.client import Client

GREY = np.full((4, 4), 128, np.uint8)


@pytest.fixture(params=["grpc", "rest"])
def target(request: pytest.FixtureRequest, server: Any) -> str:
    return f"grpc://{server.grpc}" if request.param == "grpc" else str(server.rest)


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    def methods(kind: type) -> dict[str, Any]:
        return {
            name: inspect.signature(method)
            for name, method in vars(kind).items()
            if (callable(method) and not name.startswith("__")) or name == "__init__"
        }

    ours, twin = methods(Client), methods(AsyncClient)
    assert ours.keys() == twin.keys()
    for name in ours:
        there = str(twin[name]).replace("AsyncTransport", "Transport")
        assert str(ours[name]) == there, name


def test_every_method_answers_as_the_blocking_one_does(target: str, tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    Image.fromarray(GREY).save(path)
    questions: list[tuple[str, tuple[Any, ...]]] = [
        ("status", ("lenet5",)),
        ("metadata", ("lenet5",)),
        ("models", (["lenet5", "nobody", "unet"],)),
        ("predict", ("echo_DT_INT8", {"x": [1, 2]})),
        ("classify", ("lenet5", path)),
        ("classify_many", ("lenet5", [GREY, GREY])),
        ("segment", ("unet", path)),
        ("reconstruct", ("vae", path)),
        ("filter", ("filters", path)),
        ("encode", ("vae", path)),
        ("decode", ("vae", [0.5, 1.5])),
        ("interpolate", ("vae", GREY, path, 5)),
        ("generate", ("vae", 2, 7)),
        ("sentiment", ("sentiment_lstm", "good")),
        ("sentiment", ("sentiment_lstm", ["good", "dull"])),
        ("sentiment_many", ("sentiment_lstm", ["good", "dull"])),
        ("neighbours", ("sentiment_lstm", "good", 2)),
        ("regress", ("linear_regression", [[2.0]])),
        ("minimise", ("bowl", [0.0, 2.0])),
    ]

    async def ask() -> list[Any]:
        async with AsyncClient(target) as client:
            return await asyncio.gather(*(getattr(client, name)(*given) for name, given in questions))

    answers = asyncio.run(ask())
    with Client(target) as client:
        for (name, given), answer in zip(questions, answers, strict=True):
            assert repr(getattr(client, name)(*given)) == repr(answer), name


def test_many_requests_run_at_once_and_one_can_be_cancelled(target: str, server: Any) -> None:
    async def ask() -> None:
        async with AsyncClient(target) as client:
            x = np.zeros(1, np.float32)
            await client.metadata("slow")
            waiting = [asyncio.create_task(client.predict("slow", {"x": x})) for _ in range(5)]
            while server.predictions < 5:
                await asyncio.sleep(0.001)
            waiting[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting[0]
            server.release.set()
            assert [answer["y"].tolist() for answer in await asyncio.gather(*waiting[1:])] == [[0.0]] * 4
            with pytest.raises(errors.NotFound):
                await client.status("nobody")

    asyncio.run(ask())


def test_a_client_outlives_its_event_loop_and_says_when_it_is_closed(target: str) -> None:
    client = AsyncClient(target)
    for _ in range(2):
        assert asyncio.run(client.status("lenet5"))[0].version == 3
    asyncio.run(client.close())
    with pytest.raises(errors.Cancelled, match="is closed; make another"):
        asyncio.run(client.status("lenet5"))


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_late_answer_and_a_missing_server_are_different_errors(scheme: str, server: Any) -> None:
    target = f"grpc://{server.grpc}" if scheme == "grpc" else server.rest

    async def late() -> None:
        async with AsyncClient(target) as client:
            await client.predict("slow", {"x": np.zeros(1, np.float32)}, timeout_s=0.3)

    with pytest.raises(errors.DeadlineExceeded, match=r"no answer from 127.0.0.1:\d+ within 0.3 s"):
        asyncio.run(late())
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]

        async def missing() -> None:
            async with AsyncClient(f"{scheme}://127.0.0.1:{port}") as client:
                await client.status("lenet5")

        with pytest.raises(errors.Unavailable, match=f"nothing answers at 127.0.0.1:{port}; start it with"):
            asyncio.run(missing())
