"""What a crash, a cancel or a broken world leaves: nothing acknowledged is lost, and a failed job says why."""
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

from conftest import ROOT, Server, data_url, png

LONG = {"maxTrainSteps": 4000, "rank": 4, "seed": 1}
SHORT = {"maxTrainSteps": 60, "rank": 4, "seed": 1}


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "data").start()
    yield server
    if server.process.poll() is None:
        server.stop()
    for pid in trainers(server.data):
        os.kill(pid, signal.SIGKILL)


def trainers(data):
    """Pids of the trainers whose job folder lies in this data folder."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if len(words) > 2 and words[1] == b"train" and str(data).encode() in words[2]:
            found.append(int(entry.name))
    return found


def start_training(client, parameters):
    model = client.create_model(name="crash")
    for seed in range(2):
        client.add_image(model["id"], data_url(png(64, 64, seed)), f"disc {seed}.png")
    answer = client.ok("PUT", f"/models/{model['id']}/train", json={"parameters": parameters})
    return model["id"], answer["job"]["jobId"]


def wait(condition, seconds=60, what="it"):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s"
        time.sleep(0.05)
    return value


def wait_until_running(client, job_id):
    client.wait_for_job(job_id, ("in-progress", "success", "failure"), 60)
    wait(lambda: client.job(job_id)["progress"] > 0, what="progress")


def test_a_queued_training_is_canceled_at_once_and_positions_are_right(server):
    client = server.client()
    running = start_training(client, LONG)
    queued = [start_training(client, LONG) for _ in range(3)]
    wait_until_running(client, running[1])
    positions = [client.ok("GET", f"/models/{model}")["model"]["trainingProgress"] for model, _ in queued]
    assert [p["stage"] for p in positions] == ["queued-for-train"] * 3
    first = positions[0]["position"]
    assert [p["position"] for p in positions] == [first, first + 1, first + 2]
    model = client.ok("POST", f"/models/{queued[0][0]}/train/action", json={"action": "cancel"})["model"]
    assert model["status"] == "training-canceled" and client.job(queued[0][1])["status"] == "canceled"
    assert client.ok("GET", f"/models/{queued[1][0]}")["model"]["trainingProgress"]["position"] == first
    assert client.refused(400, "PUT", f"/models/{running[0]}/train", json={}) == "Model is already training"
    for model_id, _ in queued[1:] + [running]:
        client.ok("POST", f"/models/{model_id}/train/action", json={"action": "cancel"})


def test_a_running_training_is_canceled_within_two_seconds(server):
    client = server.client()
    model, job = start_training(client, LONG)
    wait_until_running(client, job)
    started = time.monotonic()
    client.ok("POST", f"/models/{model}/train/action", json={"action": "cancel"})
    client.wait_for_job(job, ("canceled",), 10)
    wait(lambda: not trainers(server.data), what="the end of the trainer")
    assert time.monotonic() - started < 3  # 2 s and the polling of this test
    assert client.ok("GET", f"/models/{model}")["model"]["status"] == "training-canceled"


def test_trainers_outlive_a_killed_server_and_are_found_again(server):
    client = server.client()
    model, job = start_training(client, SHORT)
    wait_until_running(client, job)
    before = client.job(job)["progress"]
    pids = trainers(server.data)
    server.kill()
    assert pids and trainers(server.data) == pids
    server.start()
    client.url = server.url
    assert client.job(job)["progress"] >= before
    done = client.wait_for_job(job)
    assert done["status"] == "success", done
    fetched = client.ok("GET", f"/models/{model}")["model"]
    assert fetched["status"] == "trained" and fetched["trainingImagesNumber"] == 2


def test_a_killed_trainer_goes_on_from_its_last_state(server):
    client = server.client()
    _, job = start_training(client, {**LONG, "maxTrainSteps": 150})
    wait_until_running(client, job)
    victim = trainers(server.data)[0]
    os.kill(victim, signal.SIGKILL)
    wait(lambda: any(pid != victim for pid in trainers(server.data)) or client.job(job)["status"] == "success", what="a restart")
    assert client.wait_for_job(job)["status"] == "success"


def test_a_trainer_that_keeps_dying_fails_with_a_hint(server):
    client = server.client()
    model, job = start_training(client, LONG)
    deadline = time.monotonic() + 60
    killed = set()
    while client.job(job)["status"] not in ("failure", "success"):
        for pid in trainers(server.data):
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        assert time.monotonic() < deadline
        time.sleep(0.05)
    failed = client.job(job)
    assert failed["status"] == "failure" and failed["metadata"]["error"] and failed["metadata"]["hint"]
    assert 2 <= len(killed) <= 4  # the first start and at most three more
    assert client.ok("GET", f"/models/{model}")["model"]["status"] == "failed"


def test_a_missing_base_model_fails_and_says_so(tmp_path):
    base = tmp_path / "base"
    shutil.copytree(ROOT / "base-models/tiny", base)
    server = Server(tmp_path / "data", "--base", str(base)).start()
    client = server.client()
    (base / "unet").rename(base / "gone")
    model, job = start_training(client, SHORT)
    failed = client.wait_for_job(job)
    assert failed["status"] == "failure" and "unet" in failed["metadata"]["error"] and failed["metadata"]["hint"]
    assert client.ok("GET", f"/models/{model}")["model"]["status"] == "failed"
    server.stop()


def test_an_unreadable_image_fails_and_says_so(server):
    client = server.client()
    blocking = start_training(client, LONG)
    wait_until_running(client, blocking[1])
    _, job = start_training(client, SHORT)
    for blob in (server.data / "blobs").rglob("*"):
        if blob.is_file():
            blob.write_bytes(b"not a picture any more")
    client.ok("POST", f"/models/{blocking[0]}/train/action", json={"action": "cancel"})
    failed = client.wait_for_job(job)
    assert failed["status"] == "failure" and failed["metadata"]["error"] and failed["metadata"]["hint"]


def test_a_full_disk_fails_and_says_so(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        server = Server(disk / "data")
        server.log_path = tmp_path / "server.log"
        server.start()
        client = server.client()
        model, job = start_training(client, {**SHORT, "rank": 64})
        failed = client.wait_for_job(job)
        assert failed["status"] == "failure" and "space" in failed["metadata"]["error"].lower(), failed
        assert failed["metadata"]["hint"]
        assert client.ok("GET", f"/models/{model}")["model"]["status"] == "failed"
        server.stop()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_acknowledged_models_survive_a_kill(server):
    client = server.client()
    made = [client.create_model(name=f"kept {i}")["id"] for i in range(50)]
    server.kill()
    server.start()
    client.url = server.url
    for model_id in made:
        client.ok("GET", f"/models/{model_id}")
