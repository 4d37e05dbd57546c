"""Keys: who gets in, and who no longer does."""
import time

import requests


def test_no_key_and_a_wrong_key_are_401(server, client):
    assert requests.get(server.url + "/v1/models", timeout=10).status_code == 401
    for auth in ((client.key, "wrong"), ("api_none", client.secret), ("", ""), (client.key, client.secret + "x")):
        answer = requests.get(server.url + "/v1/models", auth=auth, timeout=10)
        assert answer.status_code == 401 and answer.json()["reason"]
    for header in ("Basic !!!", "Basic", "Digest x", "Basic " + "A" * 9000):
        answer = requests.get(server.url + "/v1/models", headers={"Authorization": header}, timeout=10)
        assert answer.status_code in (401, 431)


def test_a_revoked_key_is_refused_within_two_seconds(server):
    client = server.client("revoked")
    client.ok("GET", "/models")
    server.keys("revoke", client.key)
    deadline = time.monotonic() + 2
    while client.call("GET", "/models").status_code != 401:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_keys_are_listed_without_their_secrets(server):
    client = server.client("listed")
    listed = server.keys("list")
    assert client.key in str(listed) and client.secret not in str(listed)


def test_no_secret_is_logged(server, client):
    client.ok("GET", "/models")
    assert client.secret not in server.log()
