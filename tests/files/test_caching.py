"""Who may keep what: the URLs of files name neither tenant nor user, so caches must tell callers apart."""

import pytest

from tests.client import Client
from tests.conftest import Tenant
from tests.files.conftest import UNKNOWN, Choose, folder, get, refused, stored


@pytest.mark.parametrize(
    "path",
    ["/api/storage", "/api/storage/a.txt", "/api/storage/absent", "/api/storage/folder-counts", "/api/folders", "/api/uploads"],
)
def test_no_answer_is_kept_for_another_caller(ada: Client, path: str) -> None:
    """F11.8, F15.4: nor is one that says nothing else kept at all without asking again."""
    stored(ada, "a.txt")
    answer = ada("GET", path)
    assert answer.headers["cache-control"].startswith("private")
    assert {"Authorization", "apikey", "Cookie"} <= set(answer.headers["vary"].split(", "))


def test_what_a_browser_is_told_of_other_origins_stays_beside_it(ada: Client, choose: Choose) -> None:
    choose("STOWAGE_CORS_ORIGINS", "https://app.test")
    varies_by = ada("GET", "/api/storage", headers={"Origin": "https://app.test"}).headers["vary"].split(", ")
    assert set(varies_by) == {"Authorization", "apikey", "Cookie", "Origin"}


def test_other_surfaces_are_as_they_were(tenant: Tenant) -> None:
    answer = tenant.service("GET", "/storage/buckets")
    assert not {"vary", "cache-control"} & answer.headers.keys()


# ---- paths that nothing answers --------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/api/folders/x/y", "/api/uploads/x/y/z", "/api/public", "/api/public/x"])
def test_a_path_that_is_none_is_told_so_in_this_surfaces_form(ada: Client, path: str) -> None:
    """F15.1"""
    assert refused(ada("GET", path), 404, "NOT_FOUND")["details"]["reason"] == "RouteNotFound"


def test_other_paths_that_are_none_are_told_so_in_theirs(ada: Client) -> None:
    """F15.1"""
    assert ada("GET", "/api/v1/backups/none/of/these").json().keys() == {"detail"}
    assert ada("GET", "/storage/none/of/these").json()["code"] == "RouteNotFound"
    assert ada("GET", "/").json()["code"] == "RouteNotFound"


# ---- jobs of sessions ------------------------------------------------------------------------------------
def test_a_session_asks_for_a_job_as_its_token_does(tenant: Tenant, ada: Client) -> None:
    """A file that is fetched by a job may have been asked for in a browser."""
    cookie = ada("POST", "/auth/session").headers["set-cookie"].partition(";")[0]
    by_token, by_cookie = ada("GET", f"/jobs/{UNKNOWN}"), tenant.nobody("GET", f"/jobs/{UNKNOWN}", headers={"Cookie": cookie})
    assert (by_token.status, by_cookie.status) == (404, 404)
    assert tenant.nobody("GET", f"/jobs/{UNKNOWN}").status == 401


# ---- keys are shared, what lies under them is not ----------------------------------------------------------
def test_a_key_that_another_has_is_told_so_without_saying_whose(ada: Client, bob: Client) -> None:
    """F8.13"""
    stored(ada, "IMG_0001.jpg")
    told = refused(bob("PUT", "/api/storage/IMG_0001.jpg", b"mine"), 403, "FORBIDDEN")["message"]
    assert "choose another key" in told
    assert get(ada, "IMG_0001.jpg").body == b"bytes"


def test_folders_of_one_name_are_each_their_owners(tenant: Tenant, ada: Client, bob: Client) -> None:
    """F13.1: a private key's folder is told to nobody else."""
    stored(ada, "divorce/lawyer/letter.pdf")
    mine = folder(ada, "shared name")
    assert bob("GET", "/api/folders").json()["data"] == []
    theirs = folder(bob, "shared name")
    assert mine != theirs
    assert [each["name"] for each in tenant.service("GET", "/api/folders").json()["data"]] == ["divorce/lawyer", *["shared name"] * 2]
    refused(bob("PUT", f"/api/storage/b.txt?folderId={mine}", b"b"), 404, "NOT_FOUND")
