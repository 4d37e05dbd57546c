"""A real server on a free port with a data folder of its own, and clients for it."""
import base64
import contextlib
import io
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import time

import pytest
import requests
from PIL import Image

import contract

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = os.environ.get("MAQUETTE_BINARY", str(ROOT / "build/maquette"))


class Client:
    """Plain HTTP with Basic credentials; paths are below /v1."""

    def __init__(self, url, key, secret):
        self.url, self.key, self.secret = url, key, secret
        self.session = requests.Session()
        self.session.auth = (key, secret) if key else None

    @classmethod
    def with_public_token(cls, url):
        client = cls(url, None, None)
        client.session.headers["Authorization"] = "public-auth-token"
        return client

    def call(self, method, path, **arguments):
        answer = self.session.request(method, self.url + "/v1" + path, timeout=60, **arguments)
        contract.check(answer, "/v1" + path)
        return answer

    def ok(self, method, path, **arguments):
        answer = self.call(method, path, **arguments)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def refused(self, status, method, path, **arguments):
        answer = self.call(method, path, **arguments)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()["reason"]

    def create_model(self, **fields):
        return self.ok("POST", "/models", json={"name": "a model", "type": "sd-1_5-lora", **fields})["model"]

    def add_image(self, model_id, data_url, name="image.png"):
        body = {"data": data_url, "name": name}
        return self.ok("POST", f"/models/{model_id}/training-images", json=body)["trainingImage"]

    def job(self, job_id):
        return self.ok("GET", f"/jobs/{job_id}")["job"]

    def wait_for_job(self, job_id, statuses=("success", "failure", "canceled"), seconds=120):
        deadline = time.monotonic() + seconds
        while True:
            job = self.job(job_id)
            if job["status"] in statuses:
                return job
            assert time.monotonic() < deadline, f"job {job_id} is still {job['status']} after {seconds} s: {job}"
            time.sleep(0.1)


class Server:
    """`maquette serve` as a child process. start() again after stop() or kill() keeps the data folder."""

    def __init__(self, data, *arguments):
        self.data, self.arguments, self.process = pathlib.Path(data), list(arguments), None
        self.log_path = self.data.parent / (self.data.name + ".log")
        self.url = None

    def start(self):
        log = open(self.log_path, "ab")
        offset = log.tell()
        command = [BINARY, "serve", "--data", str(self.data), "--listen", "127.0.0.1:0", *self.arguments]
        self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 30
        while True:
            text = self.log_path.read_bytes()[offset:].decode(errors="replace")
            found = re.search(r"http://127\.0\.0\.1:(\d+)", text)
            if found and self.answers(found[0]):
                self.url = found[0]
                return self
            assert self.process.poll() is None, f"the server ended with {self.process.returncode}:\n{text}"
            assert time.monotonic() < deadline, f"the server did not start:\n{text}"
            time.sleep(0.02)

    @staticmethod
    def answers(url):
        try:
            return requests.get(url + "/healthz", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    def stop(self):
        """The exit code; what a sanitizer has found on the way is an error even where it let the server go on."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=30)
        found = re.search(r"(AddressSanitizer|LeakSanitizer|runtime error:).*", self.log(), re.S)
        assert not found, found[0][:5000]
        return status

    def kill(self):
        self.process.kill()
        self.process.wait()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def keys(self, *arguments):
        out = subprocess.run([BINARY, "keys", *arguments, "--data", str(self.data), "--json"], capture_output=True, text=True)
        assert out.returncode == 0, out.stderr
        return json.loads(out.stdout)

    def client(self, project="default", *arguments):
        made = self.keys("create", "--project", project, *arguments)
        client = Client(self.url, made["key"], made["secret"])
        client.project_id, client.team_id = made["projectId"], made["teamId"]
        return client


class Wire:
    """Raw bytes to a server, and what comes back until it has no more to say."""

    def __init__(self, url):
        host, port = url.removeprefix("http://").split(":")
        self.address = (host, int(port))

    def ask(self, sent):
        """The answer to a request that is whole, or is refused before that."""
        return self.send(sent, patience=30)

    def send(self, sent, patience=0.03):
        """Sends, says that no more will come, and takes what is answered: b"" when the server hangs up without a word.

        The end is said a moment later, or after the first bytes of an answer: libmicrohttpd overlooks an end that arrives
        with the last bytes of half a request, and takes one that comes before the answer for a client that has gone."""
        answered = b""
        with socket.create_connection(self.address, timeout=30) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                connection.sendall(sent)
                select.select([connection], [], [], patience)
                connection.shutdown(socket.SHUT_WR)
                while chunk := connection.recv(1 << 16):
                    answered += chunk
                    connection.settimeout(3)
            except TimeoutError:
                assert answered or patience < 1, "no answer in 30 s"  # else its end was overlooked
            except OSError:
                pass  # refused while we were still sending
        return answered


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "data").start()
    yield server
    assert server.stop() == 0, server.log()[-3000:]


@pytest.fixture(scope="module")
def client(server):
    return server.client()


def make_trained(server, client, name, epochs=None, privacy="private"):
    """A trained model of a type that has no trainer here: its row is changed in the database."""
    model = client.create_model(type=name)
    with contextlib.closing(sqlite3.connect(server.data / "maquette.db", timeout=30)) as database, database:
        database.execute("UPDATE model SET status = 'trained', privacy = ?, epochs = ?, concepts = ? WHERE id = ?",
                         (privacy, epochs, f'[{{"modelId":"{model["id"]}","scale":0.8}}]', model["id"]))
    return client.ok("PUT", f"/models/{model['id']}", json={"name": "a trained LoRA"})["model"]


@pytest.fixture(scope="session")
def broken_base(tmp_path_factory):
    """A base model that cannot be read: a training that is started on it fails at once and costs no time."""
    broken = tmp_path_factory.mktemp("base") / "broken"
    shutil.copytree(ROOT / "base-models/tiny", broken)
    for weights in broken.rglob("*.safetensors"):
        weights.write_bytes(b"not weights")
    return broken


def png(width=128, height=128, seed=0):
    """A picture of its own for every seed: a coloured disc on white."""
    image = Image.new("RGB", (width, height), "white")
    colour = ((seed * 67) % 200, (seed * 131) % 200, (seed * 29) % 200)
    for y in range(height):
        for x in range(width):
            if (x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(width, height) * (0.25 + seed % 4 * 0.05)) ** 2:
                image.putpixel((x, y), colour)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def data_url(content, mime="image/png"):
    return f"data:{mime};base64," + base64.b64encode(content).decode()
