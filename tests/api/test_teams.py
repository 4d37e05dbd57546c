"""maquette teams: what a team allows."""
import json
import subprocess

import pytest

from conftest import BINARY


@pytest.fixture(scope="module")
def teams(server):
    for name in ("artists", "tools"):
        server.keys("create", "--team", name, "--project", name)

    def run(*arguments):
        command = [BINARY, "teams", *arguments, "--data", str(server.data), "--json"]
        return subprocess.run(command, capture_output=True, text=True, timeout=30)
    return run


def accepted(teams):
    return {team["team"]: team["acceptsFrom"] for team in json.loads(teams("list").stdout)}


def test_a_team_accepts_and_revokes_another(teams):
    ids = {team["team"]: team["teamId"] for team in json.loads(teams("list").stdout)}
    assert accepted(teams)["artists"] == []
    for names in (("artists", "tools"), ("artists", "tools"), (ids["artists"], ids["tools"])):
        assert teams("accept", "--team", names[0], "--from", names[1]).returncode == 0
        assert accepted(teams)["artists"] == ["tools"] and accepted(teams)["tools"] == []
    assert teams("revoke", "--team", "artists", "--from", "tools").returncode == 0
    assert accepted(teams)["artists"] == []


@pytest.mark.parametrize("arguments, code, text", [
    (["revoke", "--team", "artists", "--from", "tools"], 1, "did not accept"),
    (["accept", "--team", "artists", "--from", "nobody"], 1, "Team nobody not found"),
    (["accept", "--team", "artists", "--from", "artists"], 2, "from is the team itself"),
    (["accept", "--team", "artists"], 2, "say whose models"),
    (["dance"], 2, "say what to do"),
    ([], 2, "say what to do"),
])
def test_what_makes_no_sense_is_refused(teams, arguments, code, text):
    out = teams(*arguments)
    assert out.returncode == code and text in out.stderr
