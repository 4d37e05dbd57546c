#!/usr/bin/env python3
"""Measures what docs/PERFORMANCE.md states. Standard library only; wrk and nginx do the loading and the comparing."""
import argparse
import base64
import http.client
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import bench_torch
from pictures import png, variant
from seed import copy_assets, copy_jobs, copy_models

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("MAQUETTE_BINARY", str(ROOT / "build/maquette"))
TICKS = os.sysconf("SC_CLK_TCK")
PARTS = ["start", "get", "page", "lists", "asset_lists", "bulk", "copy", "ingest", "create", "train"]
LISTS = [  # what tests/bench/seed.py made: common things and rare ones
    "privacy=private", "sortBy=createdAt&sortDirection=asc", "status=trained", "status=copying", "status=deleted",
    "collectionId=col_half", "collectionId=col_rare", "collectionId=col_half&status=copying",
    "privacy=private&status=trained&sortBy=score", "sortBy=createdAt&createdBefore=2999-01-01&createdAfter=2000-01-01",
    "privacy=public", "privacy=public&sortBy=createdAt", "privacy=public&sortBy=updatedAt&sortDirection=asc",
    "privacy=public&sortBy=updatedAt&updatedBefore=2999-01-01&updatedAfter=2000-01-01", "privacy=public&status=trained",
    "privacy=public&status=copying", "privacy=public&type=custom", "privacy=public&types=sd-1_5-lora,flux.1-lora,zimage-lora",
    "privacy=public&tags=common", "privacy=public&tags=rare", "privacy=public&tags=common,often,some,few,rare",
    "privacy=public&tags=common&type=custom", "privacy=public&tags=common,often&status=copying",
    "privacy=public&collectionIds=col_half", "privacy=public&collectionIds=col_half&tags=common",
    "privacy=public&collectionIds=col_half,col_some&tags=rare,few&types=sd-1_5-lora,flux.1-lora,custom&status=trained&sortBy=updatedAt",
]

ASSET_LISTS = [
    "", "sortBy=createdAt&sortDirection=asc", "sortBy=updatedAt", "authorId=rare", "authorId=rare&sortBy=updatedAt", "type=uploaded",
    "type=upscale", "types=upscale,uploaded,inference-txt2img&sortBy=updatedAt&sortDirection=asc", "modelId=model_common",
    "modelId=model_common&sortBy=updatedAt", "modelId=model_rare", "inferenceId=inf_500", "parentAssetId=asset_common",
    "parentAssetId=asset_rare&sortBy=updatedAt", "rootAssetId=asset_common&sortBy=updatedAt", "rootAssetId=asset_rare",
    "collectionId=col_half", "collectionId=col_half&sortBy=updatedAt", "collectionId=col_rare",
    "sortBy=createdAt&createdBefore=2999-01-01&createdAfter=2000-01-01", "privacy=public",
]
JOB_LISTS = ["", "status=success", "status=failure", "type=model-download", "type=upload&status=failure", "types=upload,model-download",
             "type=model-download&status=failure", "authorId=rare", "types=upload,model-download,upscale&status=success"]


def cpu_seconds(pid):
    """User and system time of a process, its threads included."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Server:
    def __init__(self, data):
        self.data, self.log = data, data.with_suffix(".log")

    def start(self):
        """Seconds from the start of the process to its first 200."""
        begun = time.perf_counter()
        with open(self.log, "wb") as log:
            command = [BINARY, "serve", "--data", str(self.data), "--listen", "127.0.0.1:0"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        while not (found := re.search(rb"http://127\.0\.0\.1:(\d+)", self.log.read_bytes())):
            if self.process.poll() is not None or time.perf_counter() - begun > 30:
                sys.exit(f"the server did not start: {self.log.read_text()}")
            time.sleep(0.001)
        self.port = int(found[1])
        while self.call("GET", "/healthz")[0] != 200:
            time.sleep(0.001)
        return time.perf_counter() - begun

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)

    def make_key(self):
        command = [BINARY, "keys", "create", "--data", str(self.data), "--project", "bench", "--json"]
        key = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        self.authorization = "Basic " + base64.b64encode(f"{key['key']}:{key['secret']}".encode()).decode()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def call(self, method, path, body=None, connection=None):
        connection = connection or self.connect()
        headers = {"Authorization": getattr(self, "authorization", "")}
        connection.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def ok(self, method, path, body=None, connection=None):
        status, text = self.call(method, path, body, connection)
        if status != 200:
            sys.exit(f"{method} {path}: {status} {text[:500]}")
        return json.loads(text)


class Nginx:
    """One worker that serves one static file, kept in its cache of open files."""

    def __init__(self, folder, body):
        (folder / "root").mkdir()
        (folder / "root/model").write_bytes(body)
        folder.chmod(0o755)
        config = folder / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        temporary = "".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config.write_text(f"""{user} worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
            events {{ worker_connections 1024; }}
            http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; open_file_cache max=10; {temporary}
                types {{ }} default_type application/json;
                server {{ listen 127.0.0.1:{free_port()}; root {folder}/root; }} }}""")
        self.port = int(re.search(r"127\.0\.0\.1:(\d+)", config.read_text())[1])
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        self.master = subprocess.Popen([program, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        children = pathlib.Path(f"/proc/{self.master.pid}/task/{self.master.pid}/children")
        deadline = time.monotonic() + 10
        while not children.read_text().split():
            if self.master.poll() is not None or time.monotonic() > deadline:
                sys.exit("nginx did not start: " + (folder / "error.log").read_text())
            time.sleep(0.02)
        self.pid = int(children.read_text().split()[0])

    def stop(self):
        self.master.send_signal(signal.SIGQUIT)
        self.master.wait(timeout=20)


def free_port():
    import socket
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wrk(url, seconds, *arguments, clients=64):
    """Requests a second, requests in all, and what a script printed."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}", "--latency", *arguments, url]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60).stdout
    if "Non-2xx" in text:
        sys.exit(f"wrk got errors: {text}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]), int(re.search(r"(\d+) requests in", text)[1]), text


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.server = Server(folder / "data")
        self.rows = []
        self.load = os.getloadavg()[0]

    def row(self, what, value, target=""):
        self.rows.append((what, value, target))
        print(f"{what:<58} {value:<44} {target}", flush=True)

    def prepare(self):
        """One model with three training images, and copies of it up to the number wanted."""
        server = self.server
        server.start()
        server.make_key()
        self.model = server.ok("POST", "/v1/models", {"name": "model 0", "type": "sd-1_5-lora"})["model"]["id"]
        for number in range(3):
            data = "data:image/png;base64," + base64.b64encode(png(64, number)).decode()
            server.ok("POST", f"/v1/models/{self.model}/training-images", {"data": data, "name": f"{number}.png"})
        server.stop()
        copy_models(server.data / "maquette.db", self.model, self.options.models)

    def start(self):
        times = []
        for _ in range(10):
            times.append(self.server.start() * 1000)
            self.idle_mb = resident_mb(self.server.process.pid)
            self.server.stop()
        self.row("start to the first 200, median of 10", f"{statistics.median(times):.0f} ms", "< 100 ms")
        self.row("resident when idle", f"{self.idle_mb:.1f} MB", "< 30 MB")

    def get(self):
        """Same bytes from nginx and from us, in turn; the ratio of CPU time a request is what counts."""
        server, seconds = self.server, self.options.seconds
        status, body = server.call("GET", f"/v1/models/{self.model}")
        assert status == 200 and b"Signature" in body or b"downloadUrl" in body, body
        nginx_folder = self.folder / "nginx"
        nginx_folder.mkdir()
        nginx = Nginx(nginx_folder, body)
        targets = {"nginx": (nginx.pid, f"http://127.0.0.1:{nginx.port}/model"),
                   "maquette": (server.process.pid, f"http://127.0.0.1:{server.port}/v1/models/{self.model}")}
        cost, rate = {name: [] for name in targets}, {name: [] for name in targets}
        for _ in range(3):
            for name, (pid, url) in targets.items():
                before = cpu_seconds(pid)
                persecond, count, _ = wrk(url, seconds, "-H", "Authorization: " + server.authorization)
                cost[name].append((cpu_seconds(pid) - before) / count * 1e6)
                rate[name].append(persecond)
        nginx.stop()
        middle = {name: statistics.median(values) for name, values in cost.items()}
        for name in targets:
            self.row(f"GET one model, {len(body)} bytes, {name}",
                     f"{statistics.median(rate[name]):,.0f} a second, {middle[name]:.1f} us of CPU each")
        self.row("GET one model: CPU compared with nginx", f"{middle['maquette'] / middle['nginx']:.2f} times", "<= 3 times")

    def page(self):
        server, connection = self.server, self.server.connect()
        paths, times, path = [], [], "/v1/models?pageSize=100"
        while True:
            begun = time.perf_counter()
            status, text = server.call("GET", path, connection=connection)
            times.append((time.perf_counter() - begun) * 1000)
            assert status == 200, text
            paths.append(path)
            token = json.loads(text).get("nextPaginationToken")
            if not token:
                break
            path = "/v1/models?pageSize=100&paginationToken=" + urllib.parse.quote(token, safe="")
        full = paths[-2] if len(paths) > 1 else paths[-1]
        for name, path in (("first", paths[0]), ("last full", full)):
            taken = []
            for _ in range(300):
                begun = time.perf_counter()
                server.call("GET", path, connection=connection)
                taken.append((time.perf_counter() - begun) * 1000)
            self.row(f"page of 100 of {self.options.models + 1:,} models, {name}",
                     f"p50 {percentile(taken, .5):.2f} ms, p99 {percentile(taken, .99):.2f} ms", "< 5 ms")
        self.row(f"all {len(paths):,} pages in turn", f"p50 {percentile(times, .5):.2f} ms, p99 {percentile(times, .99):.2f} ms")

    def pages_of(self, query, connection, of="models", size=500):
        """Paths of the first page of 100 and of the last full one, found by walking the list in larger pages."""
        base, tokens, token = f"/v1/{of}?" + query, [None], None
        while True:
            path = f"{base}&pageSize={size}" + (f"&paginationToken={urllib.parse.quote(token, safe='')}" if token else "")
            token = self.server.ok("GET", path, connection=connection).get("nextPaginationToken")
            if not token:
                break
            tokens.append(token)
        last = tokens[-2] if len(tokens) > 1 else None
        first = f"{base}&pageSize=100"
        return first, first + (f"&paginationToken={urllib.parse.quote(last, safe='')}" if last else "")

    def timed(self, method, path, connection, body=None, count=200, of="models"):
        """Milliseconds of each call, of the server's own CPU for one, and the rows of the last answer."""
        taken, before = [], cpu_seconds(self.server.process.pid)
        for _ in range(count):
            begun = time.perf_counter()
            status, text = self.server.call(method, path, body, connection)
            taken.append((time.perf_counter() - begun) * 1000)
            assert status == 200, text
        cpu = (cpu_seconds(self.server.process.pid) - before) / count * 1000
        return taken, cpu, json.loads(text)[of]

    def lists(self):
        """Every filter alone, and the worst that can be combined; a page of 100 from the beginning and from the end."""
        connection = self.server.connect()
        worst, worst_cpu = 0, 0
        for query in LISTS:
            cells = []
            for path in self.pages_of(query, connection):
                taken, cpu, models = self.timed("GET", path, connection)
                worst, worst_cpu = max(worst, percentile(taken, .5)), max(worst_cpu, cpu)
                cells.append(f"p50 {percentile(taken, .5):.2f} ms, CPU {cpu:.2f} ms")
            self.row(f"list `{query}`, {len(models)} rows", f"first page {cells[0]}; near the end {cells[1]}")
        self.row(f"the slowest of these {len(LISTS)} lists of {self.options.models:,} models", f"p50 {worst:.2f} ms, CPU {worst_cpu:.2f} ms", "< 5 ms")

    def asset_lists(self):
        """The same of as many assets, and of as many jobs."""
        server, count = self.server, self.options.models
        body = {"name": "a disc", "image": base64.b64encode(png(64, 1)).decode()}
        asset = server.ok("POST", "/v1/assets", body)["asset"]["id"]
        self.make_job()
        job = server.ok("GET", "/v1/jobs?pageSize=1")["jobs"][0]["jobId"]
        server.stop()
        copy_assets(server.data / "maquette.db", asset, count)
        copy_jobs(server.data / "maquette.db", job, count)
        server.start()
        connection = server.connect()
        for of, queries, size in (("assets", ASSET_LISTS, 100), ("jobs", JOB_LISTS, 200)):
            worst, worst_cpu = 0, 0
            for query in queries:
                cells = []
                for path in self.pages_of(query, connection, of, size):
                    taken, cpu, rows = self.timed("GET", path, connection, of=of)
                    worst, worst_cpu = max(worst, percentile(taken, .5)), max(worst_cpu, cpu)
                    cells.append(f"p50 {percentile(taken, .5):.2f} ms, CPU {cpu:.2f} ms")
                self.row(f"list of {of} `{query}`, {len(rows)} rows", f"first page {cells[0]}; near the end {cells[1]}")
            self.row(f"the slowest of these {len(queries)} lists of {count:,} {of}", f"p50 {worst:.2f} ms, CPU {worst_cpu:.2f} ms", "< 5 ms")

    def make_job(self):
        """A training that is canceled at once."""
        server = self.server
        server.ok("PUT", f"/v1/models/{self.model}/train", {"parameters": {"maxTrainSteps": 1000}})
        server.ok("POST", f"/v1/models/{self.model}/train/action", {"action": "cancel"})
        while server.ok("GET", "/v1/jobs?pageSize=1")["jobs"][0]["status"] != "canceled":
            time.sleep(0.1)

    def bulk(self):
        connection = self.server.connect()
        models = self.server.ok("GET", "/v1/models?pageSize=500", connection=connection)["models"]
        body = {"modelIds": [model["id"] for model in models[::5]], "thumbnail": True, "settings": True}
        for name, more in (("three training images each", {}), ("all training images", {"allTrainingImages": True}), ("minimal", {"minimal": True})):
            taken, cpu, answered = self.timed("POST", "/v1/models/get-bulk", connection, {**body, **more})
            assert len(answered) == 100
            self.row(f"get-bulk of 100, {name}", f"p50 {percentile(taken, .5):.2f} ms, p99 {percentile(taken, .99):.2f} ms, CPU {cpu:.2f} ms", "< 8 ms")

    def create(self):
        server = self.server
        pid = server.process.pid
        before = cpu_seconds(pid)
        persecond, count, text = wrk(f"http://127.0.0.1:{server.port}/v1/models", self.options.seconds, "-H",
                                     "Authorization: " + server.authorization, "-s", str(ROOT / "tests/bench/create.lua"))
        assert "bad=0" in text, text
        self.row("durable creates, 64 clients",
                 f"{persecond:,.0f} a second, {(cpu_seconds(pid) - before) / count * 1e6:.0f} us of CPU each", ">= 3,000 a second")

    def copy(self):
        """Each copy is a durable write of 50 assets and their places in a data set, and an answer with 50 links."""
        server, connection, taken = self.server, self.server.connect(), []
        model = server.ok("POST", "/v1/models", {"name": "fifty", "type": "sd-1_5-lora"})["model"]["id"]
        for number in range(50):
            data = "data:image/png;base64," + base64.b64encode(variant(png(64, 7), number)).decode()
            server.ok("POST", f"/v1/models/{model}/training-images", {"data": data, "name": f"{number}.png"}, connection)
        before = cpu_seconds(server.process.pid)
        for _ in range(100):
            begun = time.perf_counter()
            made = server.ok("POST", f"/v1/models/{model}/copy", connection=connection)["model"]
            taken.append((time.perf_counter() - begun) * 1000)
            assert made["trainingImagesNumber"] == len(made["trainingImages"]) == 50
        cpu = (cpu_seconds(server.process.pid) - before) / len(taken) * 1000
        self.row("copy of a model with 50 images",
                 f"p50 {percentile(taken, .5):.1f} ms, p99 {percentile(taken, .99):.1f} ms, {cpu:.1f} ms of CPU each", "< 20 ms")

    def ingest(self):
        """Every picture has bytes of its own; the server's own CPU time gives the rate of a core."""
        server, clients, each = self.server, 4, self.options.pictures // 4
        pictures = [png(1024, number) for number in range(2)]
        bodies = [[b'{"name":"p.png","image":"data:image/png;base64,' +
                   base64.b64encode(variant(pictures[n % 2], client * 1000 + n)) + b'"}' for n in range(each)]
                  for client in range(clients)]

        refused = []

        def send(own):
            connection = server.connect()
            for body in own:
                status, text = server.call("POST", "/v1/assets", body, connection)
                if status != 200:
                    refused.append(text)
                    break

        threads = [threading.Thread(target=send, args=(own,)) for own in bodies]
        before, begun = cpu_seconds(server.process.pid), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not refused, refused
        cpu, elapsed, count = cpu_seconds(server.process.pid) - before, time.perf_counter() - begun, clients * each
        self.row(f"PNG of 1024 px ingested, {len(pictures[0]) / 1e6:.1f} MB each",
                 f"{count / cpu:.0f} a second a core, {count / elapsed:.0f} a second in all", ">= 40 a second a core")
        self.row("resident after all of this", f"{resident_mb(server.process.pid):.1f} MB")

    def train(self):
        images, job = self.folder / "images", self.folder / "job"
        images.mkdir()
        for number in range(8):
            (images / f"{number}.png").write_bytes(png(128, number))
            (images / f"{number}.txt").write_text(f"a picture of number {number}")
        parameters = json.dumps({"maxTrainSteps": 64, "rank": 4, "batchSize": 1})
        subprocess.run([BINARY, "train", "--init", str(job), "--images", str(images), "--type", "sd-1_5-lora",
                        "--parameters", parameters], check=True, capture_output=True)
        begun = time.perf_counter()
        subprocess.run([BINARY, "train", str(job)], check=True, capture_output=True)
        elapsed = time.perf_counter() - begun
        progress = [event for line in (job / "events.ndjson").read_text().splitlines()
                    if (event := json.loads(line))["event"] == "progress"]
        first, last = progress[0], progress[-1]
        step_ms = (last["time"] - first["time"]) / max(1, last["step"] - first["step"])
        self.row("training step, tiny base, 8 pictures of 128 px, rank 4", f"{step_ms:.0f} ms ({elapsed:.1f} s for 64 steps in all)")

    def run(self):
        wanted = self.options.only or PARTS
        serving = [name for name in PARTS if name in wanted and name not in ("start", "train")]
        if serving or "start" in wanted:
            self.prepare()
        if "start" in wanted:
            self.start()
        if serving:
            self.server.start()
            for name in serving:
                getattr(self, name)()
            self.server.stop()
        if "train" in wanted:
            self.train()
        if "torch" in wanted:
            bench_torch.run(self.options.rounds)


def machine():
    model = re.search(r"model name\s+: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release().split('-')[0]}"


def write_section(rows, load, path):
    """Replaces the section "Server" of the document and leaves the others."""
    lines = ["## Server", "", f"`scripts/bench`, with its clients on the same machine: {machine()}. "
             f"Load average when it began: {load:.1f}.", "",
             "| what | measured | target |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows), ""]
    text = path.read_text() if path.exists() else "# Performance\n\n"
    before, _, after = text.partition("## Server\n")
    kept = re.search(r"^## ", after, re.M)
    path.write_text(before + "\n".join(lines) + ("\n" + after[kept.start():] if kept else ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=[*PARTS, "torch"])
    parser.add_argument("--models", type=int, default=100_000)
    parser.add_argument("--pictures", type=int, default=80)
    parser.add_argument("--seconds", type=int, default=5, help="of each wrk run")
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison with PyTorch")
    parser.add_argument("--write", action="store_true", help="put the table into docs/PERFORMANCE.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="maquette-bench-") as folder:
        bench = Bench(options, pathlib.Path(folder))
        try:
            bench.run()
        finally:
            process = getattr(bench.server, "process", None)
            if process and process.poll() is None:
                process.kill()
    if options.write:
        write_section(bench.rows, bench.load, ROOT / "docs/PERFORMANCE.md")


if __name__ == "__main__":
    main()
