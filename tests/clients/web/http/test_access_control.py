"""API keys, rate limits and origins of the gateway."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ladle.clients.transport.access import Access
from ladle.clients.web import Config, create_app
from ladle.clients.web.http import wrong_keys
from ladle.clients.web.http.access_control import Keys

PAGE = "https://lab.example"
MODELS = "/api/v1/models"


def gateway(config: Config, **changes: Any) -> FlaskClient:
    return create_app(replace(config, **changes)).test_client()


@pytest.fixture
def locked(config: Config) -> FlaskClient:
    """A gateway with two keys, one of them known by its digest alone."""
    digest = hashlib.sha256(b"second").hexdigest()
    return gateway(config, keys=("# keys of the lab", "ann first", f"bob sha256:{digest}"))


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Authorization": "Bearer first"}, id="bearer"),
        pytest.param({"X-API-Key": "first"}, id="header"),
        pytest.param({"Authorization": "bearer second"}, id="digest"),
    ],
)
def test_a_key_opens_the_api(locked: FlaskClient, headers: dict[str, str]) -> None:
    assert locked.get(MODELS, headers=headers).status_code == 200
    assert locked.get("/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        pytest.param({}, "Got no API key", id="none"),
        pytest.param({"X-API-Key": "third"}, "Got an unknown API key", id="wrong"),
        pytest.param({"X-API-Key": ""}, "Got no API key", id="empty"),
        pytest.param({"Authorization": "Basic Zmlyc3Q="}, "Got no API key", id="basic"),
        pytest.param(
            {"X-API-Key": hashlib.sha256(b"second").hexdigest()}, "Got an unknown API key", id="the-digest-itself"
        ),
    ],
)
@pytest.mark.parametrize("path", [MODELS, "/api/v1/service", "/metrics", "/api/v1/nothing"])
def test_without_a_key_every_protected_path_is_401(
    locked: FlaskClient, path: str, headers: dict[str, str], said: str
) -> None:
    response = locked.get(path, headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.mimetype == "application/problem+json"
    assert said in response.json["detail"]


def test_without_a_key_nothing_is_asked(locked: FlaskClient, server: Any) -> None:
    assert locked.post(f"{MODELS}/lenet5:classify", data=b"x", content_type="image/png").status_code == 401
    assert locked.post(f"{MODELS}/lenet5:frobnicate").status_code == 401
    assert server.predictions == 0


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/healthz", "/readyz", "/static/app.js"])
def test_page_documents_and_health_need_no_key(locked: FlaskClient, path: str) -> None:
    assert locked.get(path).status_code == 200


def test_the_document_says_that_a_key_is_required(locked: FlaskClient, web: FlaskClient) -> None:
    operation = locked.get("/openapi.json").json["paths"][MODELS]["get"]
    assert operation["security"] == [{"bearer": []}, {"key": []}]
    assert "401" in operation["responses"]
    assert "security" not in web.get("/openapi.json").json["paths"][MODELS]["get"]


def test_keys_are_kept_as_digests_alone() -> None:
    keys = Keys(["ann first"])
    assert keys.owner("first") == "ann"
    assert b"first" not in repr(vars(keys)).encode()


@pytest.mark.parametrize("lines", [[""], ["# keys", " "]])
def test_a_list_without_a_key_does_not_let_everybody_in(config: Config, lines: list[str]) -> None:
    with pytest.raises(ValueError, match="got no key"):
        create_app(replace(config, keys=tuple(lines)))


@pytest.mark.parametrize("line", ["alone", "ann first second", "ann sha256:abc"])
def test_a_line_that_holds_no_key_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="line 1 of the keys"):
        Keys([line])


def test_a_rate_is_counted_for_each_key(config: Config) -> None:
    web = gateway(config, keys=("ann first", "bob second"), rate="3/minute")
    answers = [web.get(MODELS, headers={"X-API-Key": "first"}) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
    refused = answers[-1]
    assert refused.headers["RateLimit-Limit"] == "3"
    assert 1 <= int(refused.headers["Retry-After"]) <= 61
    assert refused.mimetype == "application/problem+json"
    assert web.get(MODELS, headers={"X-API-Key": "second"}).status_code == 200
    assert web.get("/healthz").status_code == 200


def test_without_keys_a_rate_is_counted_for_each_address(config: Config) -> None:
    web = gateway(config, rate="1/minute")
    here, there = {"REMOTE_ADDR": "10.0.0.1"}, {"REMOTE_ADDR": "10.0.0.2"}
    assert [web.get(MODELS, environ_base=base).status_code for base in (here, here, there)] == [200, 429, 200]


@pytest.mark.parametrize(
    ("callers", "statuses"),
    [
        pytest.param(["2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"], [200, 429, 200], id="network"),
        pytest.param(["::ffff:10.0.0.1", "10.0.0.1", "::ffff:10.0.0.2"], [200, 429, 200], id="ipv4-in-ipv6"),
        pytest.param(["fe80::1%eth0", "fe80::2%eth0"], [200, 429], id="link-local"),
        pytest.param(["somebody", "somebody", "else"], [200, 429, 200], id="no-address"),
    ],
)
def test_all_addresses_of_an_ipv6_network_count_as_one_caller(
    config: Config, callers: list[str], statuses: list[int]
) -> None:
    web = gateway(config, rate="1/minute")
    assert [web.get(MODELS, environ_base={"REMOTE_ADDR": caller}).status_code for caller in callers] == statuses


def tried(web: FlaskClient, key: str, address: str) -> TestResponse:
    return web.get(MODELS, headers={"X-API-Key": key}, environ_base={"REMOTE_ADDR": address})


def test_after_wrong_keys_an_address_waits_whatever_key_it_sends(locked: FlaskClient) -> None:
    statuses = [tried(locked, f"guess {number}", "10.0.0.1").status_code for number in range(wrong_keys.FREE)]
    assert statuses == [401] * wrong_keys.FREE
    refused = tried(locked, "guess", "10.0.0.1")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert refused.mimetype == "application/problem+json"
    assert "too many wrong API keys" in refused.json["detail"]
    # The wait would be of no use if it did not hold for the right key too.
    assert tried(locked, "first", "10.0.0.1").status_code == 429
    assert tried(locked, "first", "10.0.0.2").status_code == 200


def test_a_request_without_a_key_is_no_wrong_key(locked: FlaskClient) -> None:
    for _ in range(3 * wrong_keys.FREE):
        assert tried(locked, "", "10.0.0.1").status_code == 401
    assert tried(locked, "first", "10.0.0.1").status_code == 200


def test_wrong_keys_of_an_ipv6_network_count_together(locked: FlaskClient) -> None:
    for number in range(wrong_keys.FREE):
        assert tried(locked, "guess", f"2001:db8:0:1::{number}").status_code == 401
    assert tried(locked, "guess", "2001:db8:0:1:ffff::1").status_code == 429
    assert tried(locked, "guess", "2001:db8:0:2::1").status_code == 401


def test_wrong_keys_sent_at_once_are_counted_before_they_are_checked(locked: FlaskClient) -> None:
    with ThreadPoolExecutor(16) as threads:
        answers = threads.map(
            lambda number: tried(locked.application.test_client(), f"{number}", "10.0.0.1"), range(64)
        )
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(401) <= wrong_keys.FREE + 2  # a busy machine may take longer than the first wait
    assert set(statuses) == {401, 429}


def test_each_wrong_key_doubles_the_wait_up_to_a_minute_and_ten_quiet_minutes_clear_it() -> None:
    now = 0.0
    attempts = wrong_keys.WrongKeys(lambda: now)
    waits = []
    for _ in range(wrong_keys.FREE + 8):
        assert attempts.checked("here", lambda: None) == (None, 0.0)
        _, wait_s = attempts.checked("here", lambda: "ann")
        waits.append(wait_s)
        now += wait_s
        # A right key after the wait is taken, and does not clear the count.
        assert attempts.checked("here", lambda: "ann") == ("ann", 0.0)
    assert waits == [0.0] * (wrong_keys.FREE - 1) + [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    now += wrong_keys.FORGET_S + 1
    assert attempts.checked("here", lambda: None) == (None, 0.0)
    assert attempts.checked("here", lambda: "ann") == ("ann", 0.0)


def test_the_callers_that_are_remembered_are_limited() -> None:
    attempts = wrong_keys.WrongKeys(lambda: 0.0)
    for caller in ("first", *map(str, range(wrong_keys.MAX_CALLERS))):
        for _ in range(wrong_keys.FREE):
            attempts.checked(caller, lambda: None)
    assert attempts.checked("first", lambda: "ann") == ("ann", 0.0)
    assert attempts.checked(str(wrong_keys.MAX_CALLERS - 1), lambda: "ann") == (None, 1.0)


def test_no_repr_shows_a_key() -> None:
    config = Config(server_key="server-secret", keys=("ann secret",))
    assert "secret" not in repr(config)
    assert "secret" not in repr(Access(api_key="secret"))


def test_behind_a_proxy_the_address_is_the_callers(config: Config) -> None:
    web = gateway(config, rate="1/minute", proxies=1)
    callers = ["10.0.0.1", "10.0.0.2", "made-up, 10.0.0.1"]
    statuses = [web.get(MODELS, headers={"X-Forwarded-For": caller}).status_code for caller in callers]
    assert statuses == [200, 200, 429]


def test_there_is_no_rate_without_keys_and_one_with_them(config: Config) -> None:
    assert config.limit == ""
    assert replace(config, keys=("ann first",)).limit == "1200/minute"
    assert "RateLimit-Limit" not in gateway(config).get(MODELS).headers


def test_a_rate_that_cannot_be_read_is_refused(config: Config) -> None:
    with pytest.raises(ValueError, match="often"):
        create_app(replace(config, rate="often"))


def test_pages_of_an_allowed_origin_may_ask(config: Config) -> None:
    web = gateway(config, origins=(PAGE,), keys=("ann first",))
    asked = web.options(f"{MODELS}/lenet5:classify", headers={"Origin": PAGE, "Access-Control-Request-Method": "POST"})
    assert asked.status_code == 204
    assert asked.headers["Access-Control-Allow-Origin"] == PAGE
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert "X-API-Key" in asked.headers["Access-Control-Allow-Headers"]
    answer = web.get(MODELS, headers={"Origin": PAGE, "X-API-Key": "first"})
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert answer.headers["Vary"] == "Origin"
    assert "X-Request-ID" in answer.headers["Access-Control-Expose-Headers"]
    refused = web.get(MODELS, headers={"Origin": PAGE})
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, PAGE)


def test_an_origin_is_one_as_browsers_send_it(config: Config) -> None:
    web = gateway(config, origins=("HTTPS://Lab.example/",))
    assert web.get(MODELS, headers={"Origin": PAGE}).headers["Access-Control-Allow-Origin"] == PAGE
    for origin in ("*", "lab.example", f"{PAGE}/page"):
        with pytest.raises(ValueError, match="expected https://HOST"):
            gateway(config, origins=(origin,))


@pytest.mark.parametrize("origin", ["https://evil.example", f"{PAGE}.evil.example", "null"])
def test_pages_of_another_origin_may_not(config: Config, origin: str) -> None:
    web = gateway(config, origins=(PAGE,))
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    assert web.options(f"{MODELS}/lenet5:classify", headers=headers).status_code == 403
    assert "Access-Control-Allow-Origin" not in web.get(MODELS, headers={"Origin": origin}).headers


def test_keys_and_rates_come_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ladle.clients.web.__main__ import main

    assert main(["--port", "0", "--models", "lenet5", "--api-keys", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "keys").write_text("alone\n")
    assert main(["--port", "0", "--models", "lenet5", "--api-keys", str(tmp_path / "keys")]) == 2
    assert 'expected "NAME KEY"' in capsys.readouterr().err
    for content, said in ((b"", "got no key"), (b"\xff\xfe", "expected UTF-8")):
        (tmp_path / "keys").write_bytes(content)
        given = ["--port", "0", "--models", "lenet5", "--rate", "which would end it as well"]
        assert main([*given, "--api-keys", str(tmp_path / "keys")]) == 2
        assert said in capsys.readouterr().err
