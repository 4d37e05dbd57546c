"""The README's tours, run as they are written: only the address and the credentials are put in."""
import os
import re
import subprocess
import sys
import zipfile

import pytest

from conftest import BINARY, ROOT, Server

README = (ROOT / "README.md").read_text()


def section(title):
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## )", README, re.M | re.S)[1]


def indented(text):
    """The lines of its code blocks."""
    return "".join(line[4:] + "\n" for line in text.splitlines() if line.startswith("    "))


def run(command, folder, **arguments):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, **arguments)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def folder(tmp_path):
    """Where a reader of the README stands, in a folder of the test's own."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    (tmp_path / "build").mkdir()
    (tmp_path / "build/maquette").symlink_to(BINARY)
    return tmp_path


@pytest.fixture
def client(tmp_path):
    server = Server(tmp_path / "data").start()
    yield server.client()
    assert server.stop() == 0


def test_curl_tour(client, folder):
    lines = indented(section("Two minutes with curl")).replace("http://127.0.0.1:8787", client.url)
    lines, found = re.subn(r"export KEY=\S+ +SECRET=\S+", f"export KEY={client.key} SECRET={client.secret}", lines)
    assert found == 1
    printed = run(["bash", "-euo", "pipefail", "-c", lines], folder)
    assert '"success"' in printed and '"status": "trained"' in printed
    names = zipfile.ZipFile(folder / "lora.zip").namelist()
    assert any(name.endswith(".safetensors") for name in names), names


def test_sdk_tour(client, folder):
    code = re.search(r"```python\n(.*?)```", section("With the official SDK"), re.S)[1]
    code = code.replace("http://127.0.0.1:8787", client.url)
    code = code.replace('api_key="api_..."', f'api_key="{client.key}"').replace('api_secret="..."', f'api_secret="{client.secret}"')
    assert run([sys.executable, "-c", code], folder) == "success trained\n"


def test_tour_without_a_server(folder):
    lines = indented(section("Without a server")).replace("--images pictures", f"--images {folder}/pictures")
    (folder / "pictures").mkdir()
    for picture in (ROOT / "docs/example").glob("*.svg"):
        (folder / "pictures" / picture.name).write_bytes(picture.read_bytes())
        (folder / "pictures" / picture.stem).with_suffix(".txt").write_text(picture.stem)
    run(["bash", "-euo", "pipefail", "-c", lines], folder, env={**os.environ})
    assert (folder / "cat.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "job/out/model.safetensors").stat().st_size > 1000
