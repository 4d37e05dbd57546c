"""Hostile bytes on the socket: each is refused or honestly answered, and nothing takes the server down."""
import base64
import json

import pytest
from hypothesis import given, strategies as st

from fuzzing import answers, client, examples, server, wire  # noqa: F401 (fixtures)

HOST = b"Host: here\r\n"
CHUNKED = b"POST /v1/models HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n"
LENGTH = b"POST /v1/models HTTP/1.1\r\n" + HOST + b"Content-Length: "

# Refused by libmicrohttpd before there is a request of ours: in its own HTML, and the connection is closed.
BROKEN = {
    "a header larger than the limit": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 30000 + b"\r\n\r\n"),
    "three thousand headers": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 3000 + b"\r\n"),
    "cookies without end": (431, b"GET / HTTP/1.1\r\n" + HOST + b"Cookie: " + b"a=b;" * 4000 + b"\r\n\r\n"),
    "a path larger than the limit": (414, b"GET /" + b"a" * 30000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a query larger than the limit": (414, b"GET /?" + b"a=b&" * 7000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a chunk size that is no number": (400, CHUNKED + b"\r\nzz\r\nabc\r\n0\r\n\r\n"),
    "a chunk size beyond 64 bits": (413, CHUNKED + b"\r\nffffffffffffffffff\r\n"),
    "a chunk longer than it says": (400, CHUNKED + b"\r\n1\r\nabc\r\n0\r\n\r\n"),
    "a negative length": (400, LENGTH + b"-1\r\n\r\n"),
    "a length beyond 64 bits": (413, LENGTH + b"9" * 30 + b"\r\n\r\n"),
    "HTTP/2 without asking": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/0.9 with a version": (505, b"GET / HTTP/0.9\r\n" + HOST + b"\r\n"),
    "HTTP/0.9": (400, b"GET /\r\n\r\n"),
    "every byte there is": (400, bytes(range(256)) * 4 + b"\r\n\r\n"),
    "a header without a colon": (400, b"GET / HTTP/1.1\r\n" + HOST + b"Xyz\r\n\r\n"),
}


@pytest.mark.parametrize("title", BROKEN)
def test_broken_framing_is_refused_and_ends_the_connection(wire, title):
    status, sent = BROKEN[title]
    received = wire.ask(sent + b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
    # A socket that is closed with bytes still unread is reset, and the answer may be lost with them.
    if received or len(sent) < 10000:
        assert received.startswith(b"HTTP/1.1 %d " % status) and b"\r\nConnection: close\r\n" in received
    # What follows must not be read as a request, nobody knows where it begins; and nothing of it is echoed.
    assert b"200 OK" not in received and b"aaa" not in received


# Refused by us, in JSON: what two programs on the way could read differently.
AMBIGUOUS = {
    "two lengths": LENGTH + b"2\r\nContent-Length: 3\r\n\r\n{}",
    "a length and chunks": LENGTH + b"2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown encoding": b"POST /v1/models HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"POST /v1/models HTTP/1.1\r\n" + HOST + b"Content-Length : 2\r\n\r\n{}",
    "a tab before the colon": b"POST /v1/models HTTP/1.1\r\n" + HOST + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "a name that is no token": b"POST /v1/models HTTP/1.1\r\n" + HOST + b"(Content-Length): 2\r\n\r\n{}",
    "a method that is no token": b"G\x80T /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "dot segments": b"GET /v1/../healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "encoded dot segments": b"GET /v1/%2e%2e/healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "an encoded NUL": b"GET /healthz%00 HTTP/1.1\r\n" + HOST + b"\r\n",
    "half an escape": b"GET /healthz%f HTTP/1.1\r\n" + HOST + b"\r\n",
    "a path that is not UTF-8": b"GET /%ff%fe HTTP/1.1\r\n" + HOST + b"\r\n",
    "an overlong slash": b"GET /v1%c0%afmodels HTTP/1.1\r\n" + HOST + b"\r\n",
    "an authority": b"CONNECT here:1 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a star": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "a hundred parameters": b"GET /healthz?" + b"a=b&" * 100 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
}


@pytest.mark.parametrize("title", AMBIGUOUS)
def test_what_can_be_read_in_two_ways_is_refused(wire, title):
    found = answers(wire.ask(AMBIGUOUS[title]))
    assert [status for status, _ in found] == [400], found
    assert json.loads(found[0][1])["reason"]


def request(method, target, client, body=b"", headers=b""):
    login = base64.b64encode(f"{client.key}:{client.secret}".encode())
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return b"%s %s HTTP/1.1\r\n%sAuthorization: Basic %s\r\n%s%s\r\n%s" % (method, target, HOST, login, length, headers, body)


def chunked(pieces):
    return b"".join(b"%x;x=y\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nTrailer: z\r\n\r\n"


@examples(40)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=20))
def test_a_body_is_the_same_however_it_is_cut(wire, client, pieces):
    name = "x" + b"".join(pieces).hex()[:60]
    body = json.dumps({"name": name}).encode()
    cut = [body[i:i + 1 + len(pieces)] for i in range(0, len(body), 1 + len(pieces))]
    sent = request(b"POST", b"/v1/models", client, headers=b"Transfer-Encoding: chunked\r\n") + chunked(cut)
    (status, answer), = answers(wire.ask(sent))
    assert status == 200 and json.loads(answer)["model"]["name"] == name


# A mutation is (kind, where, what): `where` is a fraction of the length, so that shrinking keeps it meaningful.
MUTATIONS = st.lists(st.tuples(st.sampled_from(["replace", "insert", "delete", "repeat", "cut"]),
                               st.floats(0, 1), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4)


def mutated(text, mutations):
    for kind, where, what in mutations:
        at = int(where * len(text))
        if kind == "replace":
            text = text[:at] + what + text[at + len(what):]
        elif kind == "insert":
            text = text[:at] + what + text[at:]
        elif kind == "delete":
            text = text[:at] + text[at + len(what):]
        elif kind == "repeat":
            text = text[:at] + text[max(0, at - 16):at] * len(what) + text[at:]
        else:
            text = text[:at]
    return text


TARGETS = [(b"GET", b"/v1/models?pageSize=2&status=new", b""), (b"PUT", b"/v1/models/model_x?originalAssets=true", b'{"name":"a"}'),
           (b"POST", b"/v1/models", b'{"name":"a","concepts":[{"modelId":"b","scale":0.5}]}'),
           (b"PUT", b"/v1/models/model_x/tags", b'{"add":["a","b"],"delete":[],"strict":true}'),
           (b"POST", b"/v1/assets", b'{"name":"a","image":"aGVsbG8="}'), (b"GET", b"/assets-transform/a?p=1&Policy=b&width=3", b""),
           (b"GET", b"/downloads/job_x?Policy=e30&Signature=a", b""), (b"GET", b"/openapi.json", b"")]


@examples(300)
@given(st.sampled_from(TARGETS), MUTATIONS)
def test_damaged_requests_are_answered_or_dropped(wire, client, target, mutations):
    answers(wire.send(mutated(request(target[0], target[1], client, target[2]), mutations)))


@examples(60)
@given(st.binary(max_size=400))
def test_noise_is_answered_or_dropped(wire, noise):
    answers(wire.send(noise))


@examples(60)
@given(st.one_of(st.binary(max_size=60).map(base64.b64encode), st.binary(max_size=60)), st.sampled_from([b"Basic ", b"basic ", b"Bearer ", b""]))
def test_credentials_of_any_kind_are_a_401(wire, credentials, scheme):
    clean = bytes(byte for byte in credentials if byte not in b"\r\n\0")
    found = answers(wire.ask(b"GET /v1/models HTTP/1.1\r\n" + HOST + b"Authorization: " + scheme + clean + b"\r\n\r\n"))
    assert [status for status, _ in found] == [401]


SEGMENT = st.one_of(st.binary(max_size=12), st.sampled_from([b"models", b"v1", b"..", b".", b"%2f", b"pairs", b"\xf0\x9f\x98\x80", b"a" * 200]))


@examples(150)
@given(st.sampled_from([b"/v1/models/", b"/v1/assets/", b"/assets/", b"/assets-transform/", b"/downloads/", b"/", b"/v1/jobs/"]), st.lists(SEGMENT, max_size=5))
def test_any_path_is_answered(wire, client, root, segments):
    escaped = b"/".join(b"".join(b"%%%02x" % byte for byte in segment) for segment in segments)
    (status, _), = answers(wire.ask(request(b"GET", root + escaped, client)))
    assert status in (200, 400, 403, 404, 405)


@examples(150)
@given(st.sampled_from([b"models", b"jobs", b"tags", b"models/model_x"]),
       st.lists(st.tuples(st.one_of(st.sampled_from(["pageSize", "paginationToken", "privacy", "status", "type", "types[]", "sortBy",
                                                     "createdAfter", "tags", "projectId", "originalAssets"]), st.text(max_size=6)),
                          st.one_of(st.text(max_size=20), st.integers().map(str), st.floats().map(str), st.sampled_from(["public", "createdAt", "true"]))),
                max_size=5))
def test_any_query_is_answered(wire, client, noun, pairs):
    def escaped(text):
        return b"".join(b"%%%02x" % byte for byte in text.encode("utf-8", "surrogatepass"))
    query = b"&".join(escaped(name) + b"=" + escaped(value) for name, value in pairs)
    (status, _), = answers(wire.ask(request(b"GET", b"/v1/" + noun + b"?" + query, client)))
    assert status in (200, 400, 403, 404)


# What a body can hold that no honest client sends; the deepest and largest stay under the limit of 12 MB.
HOSTILE_JSON = {
    "deep arrays": b'{"name":' + b"[" * 100000,
    "deep objects": b'{"a":' * 20000 + b"1" + b"}" * 20000,
    "deep and whole": b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "a number beyond doubles": b'{"parameters":{"rank":1e999}}',
    "a number of a million digits": b'{"parameters":{"rank":' + b"9" * 1000000 + b"}}",
    "a small exponent": b'{"parameters":{"learningRate":1e-999999999}}',
    "minus nothing": b'{"parameters":{"rank":-}}',
    "NaN": b'{"parameters":{"rank":NaN}}',
    "hexadecimal": b'{"parameters":{"rank":0x10}}',
    "a lone surrogate": b'{"name":"\\ud800"}',
    "surrogates swapped": b'{"name":"\\udc00\\ud800"}',
    "overlong UTF-8": b'{"name":"\xc0\xaf"}',
    "surrogates in UTF-8": b'{"name":"\xed\xa0\x80"}',
    "beyond Unicode": b'{"name":"\xf5\x80\x80\x80"}',
    "a raw NUL": b'{"name":"\0"}',
    "a NUL escaped": b'{"name":"\\u0000"}',
    "a NUL in a key": b'{"na\\u0000me":"x"}',
    "UTF-16": '{"name":"x"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"name":"x"}',
    "comments": b'{/* c */"name":"x"}',
    "single quotes": b"{'name':'x'}",
    "a comma too many": b'{"name":"x",}',
    "two documents": b'{"name":"x"}{"name":"y"}',
    "half a document": b'{"name":"x',
    "a million keys": b"{" + b'"a":1,' * 1000000 + b'"b":2}',
    "a field a million times": b"{" + b'"name":"x",' * 1000000 + b'"name":"y"}',
    "arrays a million times": b"{" + b'"concepts":[{"modelId":"a","scale":1}],' * 100000 + b'"name":"y"}',
    "an array a million long": b'{"collectionIds":[' + b'"a",' * 1000000 + b'"b"]}',
    "a key of a megabyte": b'{"' + b"k" * 1000000 + b'":1}',
    "only spaces": b" " * 1000000,
    "null": b"null",
    "a string": b'"name"',
}


@pytest.mark.parametrize("title", HOSTILE_JSON)
@pytest.mark.parametrize("method, target", [(b"POST", b"/v1/models"), (b"PUT", b"/v1/models/model_x")])
def test_hostile_json_is_read_or_refused(wire, client, method, target, title):
    (status, _), = answers(wire.ask(request(method, target, client, HOSTILE_JSON[title])))
    assert status in ((200, 400) if method == b"POST" else (400, 404))


def test_half_a_request_leaves_nothing_behind(wire, client):
    whole = request(b"POST", b"/v1/models", client, b'{"name":"never whole"}')
    for length in range(0, len(whole), 3):
        assert b"200 OK" not in wire.send(whole[:length])
    names = [model.get("name") for model in client.ok("GET", "/models", params={"pageSize": 500})["models"]]
    assert "never whole" not in names
