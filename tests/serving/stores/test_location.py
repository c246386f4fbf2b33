"""Base paths in object stores: what is accepted, and what a refused one says."""

from __future__ import annotations

import pytest

from ladle.serving.errors import InvalidArgument
from ladle.serving.stores.location import is_remote, parse


@pytest.mark.parametrize("url", ["s3://bucket/models", "gs://bucket/a/b", "az://container", "https://host:8443/models"])
def test_a_location_is_named_by_its_url_without_a_last_slash(url: str) -> None:
    assert str(parse(f"{url}/")) == url
    assert is_remote(url)


def test_folders_of_this_machine_are_not_remote() -> None:
    assert not any(map(is_remote, ("/models", "file:///models", "models")))


def test_two_locations_never_share_a_folder_of_the_cache() -> None:
    assert parse("s3://bucket/a-b").folder_name != parse("s3://bucket/a/b").folder_name


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("hdfs://node/models", "got hdfs://"),
        ("ftp://host/models", "copy or mount the models"),
        ("https://user:secret@host/models", "credentials come from the environment"),
        ("https://host/models?sig=secret", "credentials come from the environment"),
        ("s3://", "expected s3://BUCKET/FOLDER"),
        ("s3://bucket/../models", "expected s3://BUCKET/FOLDER"),
    ],
)
def test_other_locations_are_refused_in_one_sentence_without_secrets(url: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse(url)
    assert words in refused.value.message
    assert "secret" not in refused.value.message
    assert "\n" not in refused.value.message
