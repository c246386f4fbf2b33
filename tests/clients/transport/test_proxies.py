"""Proxy variables, which Docker and shells set for every program: who is asked through a real proxy, and who is not."""

from __future__ import annotations

import asyncio
import base64
import pickle
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest

from ladle.clients import errors
from ladle.clients.cli.__main__ import main
from ladle.clients.library.async_client import AsyncClient
from ladle.clients.library.client import Client
from ladle.clients.transport import base
from ladle.clients.transport.access import Access
from ladle.clients.transport.proxies import Proxy, is_local, route
from ladle.clients.web.app import create_app
from ladle.clients.web.config import Config
from ladle.clients.web.service import PrometheusEndpoint
from tests.clients.conftest import Server, grpc_server
from tests.clients.recording_proxy import RecordingProxy
from tests.clients.transport.test_resilience import Http, Status

VARIABLES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "grpc_proxy", "all_proxy", "ALL_PROXY")
EVERY = {*VARIABLES, "GRPC_PROXY", "no_proxy", "NO_PROXY", "no_grpc_proxy", "NO_GRPC_PROXY", "LADLE_PROXY"}


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingProxy]:
    for name in EVERY:
        monkeypatch.delenv(name, raising=False)
    made = RecordingProxy()
    yield made
    made.close()


@pytest.fixture(scope="module")
def unix_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("unix") / "socket"
    made = grpc_server(Server())
    made.add_insecure_port(f"unix:{path}")
    made.start()
    yield f"grpc://unix:{path}"
    made.stop(None).wait()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries do not wait."""
    monkeypatch.setattr(base.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(base.asyncio, "sleep", lambda seconds, sleep=asyncio.sleep: sleep(0))


def blocking(target: str, **options: Any) -> Any:
    with Client(target, **options) as client:
        return client.status("lenet5")[0].state


def awaited(target: str, **options: Any) -> Any:
    async def ask() -> Any:
        async with AsyncClient(target, **options) as client:
            return (await client.status("lenet5"))[0].state

    return asyncio.run(ask())


CLIENTS = {"blocking": blocking, "awaited": awaited}
LOOPBACK = ("grpc", "rest", "unix")


def address(server: Server, unix_server: str, kind: str, host: str = "127.0.0.1") -> str:
    """The address of the server over a protocol, by a name."""
    if kind == "unix":
        return unix_server
    return (f"grpc://{server.grpc}" if kind == "grpc" else server.rest).replace("127.0.0.1", host)


@pytest.mark.parametrize("variable", VARIABLES)
def test_servers_of_this_machine_are_asked_directly_whatever_variable_is_set(
    steady_server: Server, unix_server: str, proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, proxy.url)
    for ask in CLIENTS.values():
        for kind in LOOPBACK:
            assert ask(address(steady_server, unix_server, kind)) == "AVAILABLE"
    assert proxy.asked == []


@pytest.mark.parametrize("variable", VARIABLES)
def test_other_hosts_are_asked_as_the_variables_say(
    steady_server: Server, proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch, at_once: None, variable: str
) -> None:
    monkeypatch.setenv(variable, proxy.url)
    for kind in ("grpc", "rest"):
        target = address(steady_server, "", kind, "224.0.0.1")
        followed = kind == "grpc" or not variable.lower().startswith(("https", "grpc"))
        for ask in CLIENTS.values():
            proxy.asked.clear()
            if followed:
                assert ask(target) == "AVAILABLE"
                place = urlsplit(target).netloc
                assert proxy.asked[0] in (f"CONNECT {place}", f"GET http://{place}/v1/models/lenet5")
            else:
                with pytest.raises(errors.Unavailable):
                    ask(target)
                assert proxy.asked == []
            monkeypatch.setenv("no_proxy", "elsewhere.example.com, 224.0.0.0/4")
            proxy.asked.clear()
            with pytest.raises(errors.Unavailable) as caught:  # a network address: no connection can be made
                ask(target)
            assert proxy.asked == []
            assert not followed or f"{variable} is set, but no_proxy names this host" in str(caught.value)
            monkeypatch.delenv("no_proxy")


@pytest.mark.parametrize("kind", ["grpc", "rest"])
@pytest.mark.parametrize("ask", CLIENTS.values(), ids=CLIENTS)
def test_the_option_proxy_counts_before_variables(
    steady_server: Server, proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch, ask: Any, kind: str
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    target = address(steady_server, "", kind)
    assert ask(target, proxy=proxy.url.replace("//", "//me:p%40ss@")) == "AVAILABLE"
    assert len(proxy.asked) == 1
    assert proxy.authorization == f"Basic {base64.b64encode(b'me:p@ss').decode()}"
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("all_proxy", proxy.url)
    assert ask(target, proxy="") == "AVAILABLE"
    assert len(proxy.asked) == 1
    with pytest.raises(errors.InvalidArgument, match=r"got the proxy 'socks5://…@x:1'; expected http://HOST:PORT"):
        ask(target, proxy="socks5://me:secret@x:1")


@pytest.mark.parametrize("ask", CLIENTS.values(), ids=CLIENTS)
def test_tls_ends_at_the_server_behind_the_proxy(certificates: Path, proxy: RecordingProxy, ask: Any) -> None:
    pair = ((certificates / "server.key").read_bytes(), (certificates / "server.crt").read_bytes())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    with Status(credentials=grpc.ssl_server_credentials([pair])) as over_grpc, Http(context=context) as over_http:
        for target in (f"grpcs://127.0.0.1:{over_grpc.port}", f"https://127.0.0.1:{over_http.port}"):
            assert ask(target, proxy=proxy.url, ca=certificates / "ca.crt") == "AVAILABLE"
            assert f"CONNECT {urlsplit(target).netloc}" in proxy.asked
            with pytest.raises(errors.Unavailable, match=r"not signed by a CA .*, asked through the proxy http://127"):
                ask(target, proxy=proxy.url, ca=certificates / "other.crt")
            with pytest.raises(errors.Unavailable, match="its certificate is for another host name"):
                ask(target.replace("127.0.0.1", "127.0.0.2"), proxy=proxy.url, ca=certificates / "ca.crt")


@pytest.mark.parametrize("kind", ["grpc", "rest"])
@pytest.mark.parametrize("ask", CLIENTS.values(), ids=CLIENTS)
def test_errors_name_the_variable_and_what_to_do(
    steady_server: Server,
    proxy: RecordingProxy,
    monkeypatch: pytest.MonkeyPatch,
    at_once: None,
    closed_port: int,
    ask: Any,
    kind: str,
) -> None:
    scheme = "grpc" if kind == "grpc" else "http"
    there = address(steady_server, "", kind, "224.0.0.1")

    def said(target: str, kind: type[errors.LadleError] = errors.Unavailable, **options: Any) -> str:
        with pytest.raises(kind) as caught:
            ask(target, **options)
        return str(caught.value)

    local = f"{scheme}://127.0.0.1:{closed_port}"
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    assert said(local) == (
        f"nothing answers at 127.0.0.1:{closed_port}; start it with `ladle serve`; HTTP_PROXY is set, but local hosts"
        " are asked directly; to ask through a proxy, give the option `proxy`"
    )
    assert proxy.asked == []
    proxy.status = 403
    refused = said(there, errors.Unavailable if kind == "grpc" else errors.PermissionDenied)
    assert "403" in refused
    assert f", asked through the proxy {proxy.url} of HTTP_PROXY; correct it, or add 224.0.0.1 to no_proxy" in refused
    gone = f"http://127.0.0.1:{closed_port}"
    assert said(there, proxy=gone).endswith(
        f", asked through the proxy {gone}; correct the option `proxy`, or leave it out"
    )
    monkeypatch.setenv("HTTP_PROXY", "socks5://me:secret@127.0.0.1:1")
    unusable = said(there)
    assert "HTTP_PROXY is set, but not to http://HOST:PORT, so it is not followed; correct it" in unusable
    assert "secret" not in unusable


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port where nothing listens, taken so that nothing else can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_verbs_take_the_option_and_the_variable_of_ladle(
    steady_server: Server,
    proxy: RecordingProxy,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    target = address(steady_server, "", kind)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    ask = ["status", "lenet5", "--address", target]

    def is_proxied(*options: str) -> bool:
        proxy.asked.clear()
        assert main([*ask, *options]) == 0
        return bool(proxy.asked)

    assert not is_proxied()
    assert is_proxied("--proxy", proxy.url)
    monkeypatch.setenv("LADLE_PROXY", proxy.url)
    assert is_proxied()
    assert not is_proxied("--proxy", "")
    assert main([*ask, "--proxy", "ftp://x"]) == 2
    assert "got the proxy 'ftp://x'; expected http://HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_the_gateway_asks_a_local_server_and_its_metrics_directly(
    steady_server: Server, proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, proxy.url)
    target = address(steady_server, "", kind)

    def shown(**settings: Any) -> Any:
        client = create_app(Config(server=target, models=("lenet5",), **settings)).test_client()
        return client.get("/api/v1/models").json

    assert [model["name"] for model in shown()["models"]] == ["lenet5"]
    with Http() as metrics:
        url = f"http://127.0.0.1:{metrics.port}/metrics"
        assert "AVAILABLE" in PrometheusEndpoint(url, Access()).text()
        assert proxy.asked == []
        assert "AVAILABLE" in PrometheusEndpoint(url, Access(), proxy.url).text()
        public = url.replace("127.0.0.1", "224.0.0.1")
        assert "AVAILABLE" in PrometheusEndpoint(public, Access()).text()
        assert proxy.asked == [f"GET {url}", f"GET {public}"]
    assert [model["name"] for model in shown(server_proxy=proxy.url)["models"]] == ["lenet5"]
    assert len(proxy.asked) > 2


def test_a_pickled_client_keeps_its_proxy(steady_server: Server, proxy: RecordingProxy) -> None:
    with Client(f"grpc://{steady_server.grpc}", proxy=proxy.url) as client, pickle.loads(pickle.dumps(client)) as copy:
        assert copy.status("lenet5")[0].state == "AVAILABLE"
    assert len(proxy.asked) == 1


LOCAL = (
    "localhost 127.0.0.1 ::1 0.0.0.0 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254"
    " fe80::1 fd00::8 ::ffff:10.0.0.1 server model-server SERVER. gpu-box.local host.docker.internal x.localhost"
    " models.default.svc.cluster.local"
)
PUBLIC = (
    "example.com models.example.com. 8.8.8.8 172.32.0.1 192.0.2.1 100.64.0.1 2001:4860:4860::8888 local.example.com"
)


@pytest.mark.parametrize(("names", "local"), [(LOCAL, True), (PUBLIC, False)], ids=["local", "public"])
def test_local_hosts_are_told_by_their_names(names: str, local: bool) -> None:
    assert {name: is_local(name) for name in names.split()} == dict.fromkeys(names.split(), local)


P = {"https_proxy": "http://p:1"}
NAMED = Proxy("p", 1)
TABLE: dict[str, tuple[str, str, dict[str, str], Proxy | None]] = {
    "none": ("grpc", "a.example.com:8500", {}, None),
    "empty": ("grpc", "a.example.com:8500", {"https_proxy": "", "http_proxy": ""}, None),
    "grpc first": ("grpcs", "a.example.com:8500", {"http_proxy": "http://q:2", "grpc_proxy": "http://p:1"}, NAMED),
    "https": ("https", "a.example.com:443", {"http_proxy": "http://q:2", **P}, NAMED),
    "http": ("http", "a.example.com:80", P, None),
    "all": ("https", "a.example.com:80", {"all_proxy": "p:1"}, NAMED),
    "lower case first": ("https", "a.example.com:80", {"HTTPS_PROXY": "http://q:2", **P}, NAMED),
    "CGI": ("http", "a.example.com:80", {"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, None),
    "IPv6 proxy": (
        "https",
        "a.example.com:80",
        {"https_proxy": "http://[2001:db8::1]:3128/"},
        Proxy("2001:db8::1", 3128),
    ),
    "no_proxy star": ("grpc", "a.example.com:8500", {**P, "no_proxy": "*"}, None),
    "no_proxy host": ("grpc", "a.example.com:8500", {**P, "no_proxy": "x, A.example.com"}, None),
    "no_proxy port": ("grpc", "a.example.com:8500", {**P, "no_proxy": "a.example.com:8500"}, None),
    "no_proxy other port": ("grpc", "a.example.com:8500", {**P, "no_proxy": "a.example.com:8501"}, NAMED),
    "no_proxy domain": ("grpc", "a.example.com:8500", {**P, "NO_PROXY": ".example.com"}, None),
    "no_proxy pattern": ("grpc", "a.example.com:8500", {**P, "no_proxy": "*.example.com"}, None),
    "no_proxy ending": ("grpc", "notexample.com:8500", {**P, "no_proxy": "example.com,,"}, NAMED),
    "no_proxy network": ("grpc", "8.8.4.4:8500", {**P, "no_proxy": "8.8.0.0/16"}, None),
    "no_proxy other network": ("grpc", "8.8.4.4:8500", {**P, "no_proxy": "9.0.0.0/8,x/y"}, NAMED),
    "no_proxy IPv6": ("grpc", "[2001:4860::8]:8500", {**P, "no_proxy": "2001:4860::8"}, None),
    "no_grpc_proxy": ("grpc", "a.example.com:8500", {**P, "no_grpc_proxy": "a.example.com"}, None),
    "no_grpc_proxy over REST": ("https", "a.example.com:443", {**P, "no_grpc_proxy": "a.example.com"}, NAMED),
}


@pytest.mark.parametrize(("scheme", "host", "environment", "wanted"), TABLE.values(), ids=TABLE)
def test_variables_choose_the_proxy(scheme: str, host: str, environment: dict[str, str], wanted: Proxy | None) -> None:
    assert route(scheme, host, None, environment).proxy == wanted
