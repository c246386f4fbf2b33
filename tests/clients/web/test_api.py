"""The GET routes: models, cards, samples, health, the page and its headers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from ladle.clients.web import Config, create_app

NOWHERE = "grpc://localhost:1"


@pytest.fixture
def alone(config: Config) -> FlaskClient:
    """A gateway whose model server is not there."""
    return create_app(replace(config, server=NOWHERE, timeout_s=0.5)).test_client()


def test_the_list_has_what_the_gallery_shows(web: FlaskClient) -> None:
    answer = web.get("/api/v1/models").json
    assert answer["ready"] is True
    models = {model["name"]: model for model in answer["models"]}
    assert list(models) == ["lenet5", "sentiment_lstm", "unet", "vae"]
    assert models["lenet5"] == {
        "name": "lenet5",
        "state": "AVAILABLE",
        "version": 3,
        "error": None,
        "task": "classify",
        "verbs": ["classify"],
        "description": "Three brightnesses.",
        "headline": {"name": "accuracy", "value": 0.9, "split": "test", "count": None},
        "data": {"name": "fashion_mnist", "source": None, "origin": None, "synthetic": False},
        "image": {"height": 4, "width": 4, "channels": 1},
        "latent": None,
        "samples": 3,
        "reports": ["curves.png"],
    }
    assert models["vae"]["verbs"] == ["generate", "reconstruct", "interpolate"]
    assert models["vae"]["latent"] == {"dim": 2}
    assert models["unet"]["data"]["synthetic"] is True


def test_the_list_stands_when_the_model_server_is_away(alone: FlaskClient) -> None:
    answer = alone.get("/api/v1/models").json
    assert answer["ready"] is False
    assert {model["state"] for model in answer["models"]} == {"UNREACHABLE"}
    assert answer["models"][0]["verbs"] == ["classify"]


def test_a_model_that_the_server_lacks_is_listed_as_missing(web: FlaskClient, repository: Path) -> None:
    (repository / "newcomer" / "1").mkdir(parents=True)
    models = {model["name"]: model["state"] for model in web.get("/api/v1/models").json["models"]}
    assert models["newcomer"] == "MISSING"
    assert web.get("/api/v1/models/newcomer").status_code == 404


def test_the_servers_own_models_are_listed_where_no_folder_has_them(tiny_server: Any, tmp_path: Path) -> None:
    config = Config(server=f"grpc://127.0.0.1:{tiny_server.grpc_port}", repository=tmp_path / "model_repository")
    web = create_app(config).test_client()
    answer = web.get("/api/v1/models").json
    models = {model["name"]: model for model in answer["models"]}
    assert answer["ready"] is True
    assert models["classifier"]["state"] == "AVAILABLE"
    assert models["classifier"]["verbs"] == ["classify"]
    assert web.get("/api/v1/models/classifier").json["card"] is None
    assert web.get("/api/v1/models/classifier/reports").json == {"reports": []}
    # A folder adds a model that the server does not have yet.
    (config.repository / "newcomer" / "1").mkdir(parents=True)  # type: ignore[operator]
    names = {model["name"]: model["state"] for model in web.get("/api/v1/models").json["models"]}
    assert names == {**dict.fromkeys(models, "AVAILABLE"), "newcomer": "MISSING"}


def test_models_stay_listed_while_the_server_is_away(tiny_server: Any) -> None:
    app = create_app(Config(server=f"grpc://127.0.0.1:{tiny_server.grpc_port}", timeout_s=2))
    listed = [model["name"] for model in app.test_client().get("/api/v1/models").json["models"]]
    app.extensions["ladle"].client.close()
    answer = app.test_client().get("/api/v1/models").json
    assert answer["ready"] is False
    assert [(model["name"], model["state"]) for model in answer["models"]] == [(n, "UNREACHABLE") for n in listed]


def test_without_a_repository_the_signatures_tell_what_a_model_does(config: Config) -> None:
    web = create_app(replace(config, repository=None, models=("vae", "lenet5"))).test_client()
    models = web.get("/api/v1/models").json["models"]
    assert [(model["name"], model["verbs"], model["task"]) for model in models] == [
        ("vae", ["generate", "reconstruct", "interpolate"], "generate"),
        ("lenet5", ["classify"], "classify"),
    ]
    assert models[1]["image"] == {"height": 4, "width": 4, "channels": 1}
    assert web.get("/api/v1/models/lenet5").json["card"] is None
    assert web.get("/api/v1/models/lenet5/samples").status_code == 404


def test_a_model_has_versions_signatures_and_card(web: FlaskClient) -> None:
    answer = web.get("/api/v1/models/lenet5").json
    assert answer["versions"] == [{"version": 3, "state": "AVAILABLE", "error": None}]
    assert answer["signatures"]["serving_bytes"]["inputs"]["image_bytes"]["dtype"] == "string"
    assert answer["card"]["labels"] == ["boot", "coat", "shirt"]


def test_samples_are_listed_and_served(web: FlaskClient) -> None:
    samples = web.get("/api/v1/models/lenet5/samples").json["samples"]
    assert [sample["label"] for sample in samples] == ["boot", "coat", "shirt"]
    for sample in samples:
        response = web.get(f"/api/v1/models/lenet5/samples/{sample['file']}")
        assert response.mimetype == "image/png"
        assert response.data.startswith(b"\x89PNG")
        answer = web.post("/api/v1/models/lenet5:classify", data=response.data, content_type="image/png").json
        assert answer["results"][0]["label"] == sample["label"]


def test_a_sample_whose_file_is_gone_is_not_there(web: FlaskClient, repository: Path) -> None:
    (repository / "lenet5" / "3" / "assets.extra" / "samples" / "boot.png").unlink()
    assert web.get("/api/v1/models/lenet5/samples/boot.png").status_code == 404
    assert web.post("/api/v1/models/lenet5:classify", json={"sample": "boot.png"}).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/models/lenet5/samples/secret.txt",
        "/api/v1/models/lenet5/samples/samples.json",
        "/api/v1/models/lenet5/samples/..%2Fcard.json",
        "/api/v1/models/..%2Flenet5/samples",
        "/api/v1/models/../samples/boot.png",
        "/api/v1/models/vae/samples",
        "/api/v1/models/lenet5/reports/notes.png",
        "/api/v1/models/lenet5/reports/card.json",
        "/api/v1/models/unet/reports/curves.png",
        "/api/v1/models/nobody",
        "/static/../app.py",
        "/nothing",
    ],
)
def test_nothing_else_is_served(web: FlaskClient, path: str) -> None:
    response = web.get(path)
    assert response.status_code == 404
    assert response.mimetype == "application/problem+json"


def test_health_is_the_gateways_own_and_readiness_the_model_servers(web: FlaskClient, alone: FlaskClient) -> None:
    assert web.get("/healthz").json == {"status": "ok"}
    assert web.get("/readyz").json == {"status": "ready"}
    assert alone.get("/healthz").status_code == 200
    response = alone.get("/readyz")
    assert response.status_code == 503
    assert response.headers["Retry-After"]


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/v1/models", "/nothing", "/api/v1/models/nobody"])
def test_every_answer_carries_security_headers(web: FlaskClient, path: str) -> None:
    headers = web.get(path).headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_the_page_needs_no_other_host_and_no_inline_code(web: FlaskClient) -> None:
    page = web.get("/").get_data(as_text=True)
    names = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert {name.rpartition("/")[2] for name in names} >= {"app.js", "style.css", "icon.svg", "theme.js"}
    assert "<style" not in page
    assert not re.search(r"<script(?![^>]* src=)", page)
    assert not re.search(r'\son\w+="|\sstyle="', page)
    static = Path(create_app().static_folder or "")
    for file in [*static.glob("*.js"), *static.glob("*.css")]:
        source = web.get(f"/static/{file.name}")
        assert source.status_code == 200
        hosts = set(re.findall(rb"https?://([\w.]*)", source.data)) - {
            b"",
            b"www.w3.org",
        }
        assert not hosts, file.name
    assert not re.search(r"https?://", page)


def test_a_browser_checks_the_page_before_it_shows_a_cached_one(config: Config) -> None:
    web = create_app(replace(config, proxies=1)).test_client()
    page = web.get("/")
    assert page.headers["Cache-Control"] == "no-cache"
    again = web.get("/", headers={"If-None-Match": page.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert "default-src 'none'" in again.headers["Content-Security-Policy"]
    # Below another prefix its links differ.
    below = web.get("/", headers={"If-None-Match": page.headers["ETag"], "X-Forwarded-Prefix": "/ladle"})
    assert below.status_code == 200
    assert below.headers["ETag"] != page.headers["ETag"]


def test_behind_a_proxy_with_a_prefix_every_link_has_the_prefix(config: Config) -> None:
    web = create_app(replace(config, proxies=1)).test_client()
    page = web.get("/", headers={"X-Forwarded-Prefix": "/ladle"}).text
    links = re.findall(r'(?:href|src)="([^"#]+)"', page)
    assert "/ladle/docs" in links
    assert [link for link in links if not link.startswith("/ladle/")] == []


def test_an_internal_error_is_logged_and_its_reason_is_not_sent(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(config)

    @app.get("/fault")
    def fault() -> str:
        raise RuntimeError("a secret")

    response = app.test_client().get("/fault")
    assert response.status_code == 500
    assert b"secret" not in response.data
    assert "a secret" in caplog.text
