"""Starting the gateway."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ladle.clients.web.__main__ import main
from ladle.clients.web.config import Config, from_environment


def test_a_taken_port_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port), "--models", "lenet5"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"ladle gateway: 127.0.0.1:{port}: Address already in use")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "option",
    [
        "--timeout=0",
        "--port=99999",
        "--max-pixels=0",
        "--max-body-mib=0",
        "--workers=0",
        "--threads=-1",
        "--proxies=-1",
    ],
)
def test_a_number_that_means_nothing_is_misuse(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([option, "--models", "lenet5"])
    assert stopped.value.code == 2
    assert option.partition("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--server", "nonsense"], 'got "nonsense", which is not an address'),
        (["--server-proxy", "socks5://p:1"], "got the proxy 'socks5://p:1'; expected http://HOST:PORT"),
        (["--server", "grpcs://a:1", "--ca", "no-such-file"], "cannot read no-such-file"),
    ],
    ids=["address", "proxy", "CA"],
)
def test_a_model_server_that_cannot_be_asked_is_misuse(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--port", "0", *options]) == 2
    assert f"ladle gateway: the model server: {said}" in capsys.readouterr().err


def test_the_environment_says_what_options_say() -> None:
    variables = {
        "LADLE_ADDRESS": "grpc://there:8500",
        "LADLE_GATEWAY_REPOSITORY": "/models",
        "LADLE_GATEWAY_KEYS": "ann first, bob second",
        "LADLE_GATEWAY_TIMEOUT_S": "2.5",
        "LADLE_GATEWAY_MAX_IMAGES": "8",
        "LADLE_GATEWAY_ACCESS_LOG": "true",
        "HOME": "/root",
    }
    assert from_environment(variables) == Config(
        server="grpc://there:8500",
        repository=Path("/models"),
        keys=("ann first", "bob second"),
        timeout_s=2.5,
        max_images=8,
        access_log=True,
    )
    assert from_environment({}) == Config()


@pytest.mark.parametrize(("name", "value"), [("MAX_IMAGES", "many"), ("ACCESS_LOG", "perhaps")])
def test_a_variable_that_cannot_be_read_is_named(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"LADLE_GATEWAY_{name}: got '{value}'; expected"):
        from_environment({f"LADLE_GATEWAY_{name}": value})
