"""What the fuzz suites share: one seed, the number of examples, and what an honest answer is.

MAQUETTE_FUZZ_SEED changes the examples (any number; the default is fixed, so that a run repeats), and
MAQUETTE_FUZZ_FACTOR multiplies how many there are: 20 makes a long night of it."""
import json
import os
import re

import hypothesis
import pytest

from conftest import Server, Wire

SEED = int(os.environ.get("MAQUETTE_FUZZ_SEED", "1"))
FACTOR = float(os.environ.get("MAQUETTE_FUZZ_FACTOR", "1"))


def sized(count, **others):
    """Settings of a property test: how many examples, no deadline, nothing kept between runs."""
    return hypothesis.settings(max_examples=max(1, int(count * FACTOR)), deadline=None, database=None,
                               suppress_health_check=list(hypothesis.HealthCheck), **others)


def examples(count):
    """The settings and the seed."""
    return lambda test: hypothesis.seed(SEED)(sized(count)(test))


@pytest.fixture(scope="module")
def server(tmp_path_factory, broken_base):
    """Alive after all that was sent to it, no failure in its log, and no leak at its end."""
    server = Server(tmp_path_factory.mktemp("fuzz") / "data", "--base", str(broken_base), "--quiet").start()
    yield server
    assert server.process.poll() is None and Server.answers(server.url), server.log()[-5000:]
    assert server.stop() == 0
    assert not (failures := re.findall(".*request_failed.*", server.log())), failures[:5]


@pytest.fixture(scope="module")
def client(server):
    return server.client("fuzz")


@pytest.fixture(scope="module")
def wire(server):
    return Wire(server.url)


def answers(received):
    """The statuses and bodies in what a connection has received, each checked: no 5xx, JSON that says why."""
    found = []
    while received:
        head, separator, rest = received.partition(b"\r\n\r\n")
        status = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
        assert status and separator, received[:200]
        code = int(status[1])
        assert code < 500 or code == 505, received[:500]  # 505: another version of HTTP
        length = re.search(rb"\r\nContent-Length: (\d+)", head)
        size = int(length[1]) if length else len(rest)
        if b"\r\nX-Request-Id: " not in head:  # of libmicrohttpd's own making, its last word; 0.9.75 may say its header twice
            assert b"\r\nConnection: close" in head, received[:500]
            size = len(rest)
        body, received = rest[:size], rest[size:]
        if code >= 400 and b"\r\nContent-Type: application/json" in head and body:
            assert json.loads(body)["reason"]
        found.append((code, body))
    return found
