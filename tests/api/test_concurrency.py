"""One model, many clients at once. There is no telling what happens first; what is checked is that everything that was
answered can be put in some order: changes come out even, readers see whole states, and nothing fails for lack of luck."""
import collections
import concurrent.futures
import random
import threading

import pytest

from conftest import Client, Server, data_url, png

THREADS, STEPS = 8, 40
PICTURES = [data_url(png(8, 8, seed)) for seed in range(THREADS)]
SEED = 7


@pytest.fixture(scope="module")
def server(tmp_path_factory, broken_base):
    server = Server(tmp_path_factory.mktemp("concurrency") / "data", "--base", str(broken_base)).start()
    yield server
    assert server.stop() == 0, server.log()[-3000:]
    assert "request_failed" not in server.log()


class Worker(Client):
    """A client of its own for each thread, which notes what was answered. The contract is checked on each answer; the
    time limit of a call is what tells a deadlock."""

    def __init__(self, like, number):
        super().__init__(like.url, like.key, like.secret)
        self.number, self.chance, self.done = number, random.Random(SEED * 1000 + number), collections.Counter()

    def try_to(self, method, path, refusals, **arguments):
        """The answer, or None after a refusal that some order of things explains."""
        answer = self.call(method, path, **arguments)
        assert answer.status_code in (200, *refusals), f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        return answer.json() if answer.status_code == 200 else None


def all_at_once(like, work, threads=THREADS):
    """work(worker) in every thread, begun together; the workers, after the last has ended."""
    workers = [Worker(like[number % len(like)], number) for number in range(threads)]
    barrier = threading.Barrier(threads)

    def run(worker):
        barrier.wait()
        work(worker)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(run, worker) for worker in workers]:
            future.result(timeout=300)
    return workers


def summed(workers):
    total = collections.Counter()
    for worker in workers:
        total.update(worker.done)
    return total


def whole(model):
    """What no reader may ever see otherwise: fields that were written together, counts and members that go together."""
    images = {image["id"] for image in model["trainingImages"]}
    assert model["name"] == model["shortDescription"], "half of a change"
    assert model["trainingImagesNumber"] == len(images)
    for pair in model["trainingImagePairs"]:
        assert {pair["sourceId"], pair["targetId"]} <= images, "a pair of an image that is not there"
    assert len(set(model["tags"])) == len(model["tags"])
    assert (model["status"] == "training") == bool(model["trainingProgress"]), "a status without its progress"
    return images


def make_model(client, images=3):
    model = client.create_model(name="made", shortDescription="made")["id"]
    made = [client.add_image(model, PICTURES[number])["id"] for number in range(images)]
    return model, made


# Each thing a client does to the model, with the refusals that another client's luck explains: 400 because it trains
# just now, 404 because another has taken the image away.

def change_names(worker, path):
    name = f"{worker.number}-{worker.chance.random():.9f}"
    answered = worker.try_to("PUT", path, (), json={"name": name, "shortDescription": name})["model"]
    assert answered["name"] == name, "an answer shows what its own change made"
    whole(answered)


def change_tags(worker, path):
    tag, verb = worker.chance.choice("abc"), worker.chance.choice(["add", "delete"])
    changed = worker.try_to("PUT", path + "/tags", (), json={verb: [tag]})
    worker.done[tag] += len(changed["added"]) - len(changed["deleted"])


def add_image(worker, path):
    if worker.try_to("POST", path + "/training-images", (400,), json={"data": PICTURES[worker.number], "name": "x"}):
        worker.done["images"] += 1


def take_image_out(worker, path):
    images = worker.ok("GET", path)["model"]["trainingImages"]
    if images and worker.try_to("DELETE", f"{path}/training-images/{worker.chance.choice(images)['id']}", (400, 404)) is not None:
        worker.done["images"] -= 1


def pair_up(worker, path):
    images = [image["id"] for image in worker.ok("GET", path)["model"]["trainingImages"]]
    pairs = [{"sourceId": one, "targetId": two} for one, two in zip(images, images[1:])]
    worker.try_to("PUT", path + "/training-images/pairs", (400,), json=pairs)


def show_examples(worker, path):
    images = [image["id"] for image in worker.ok("GET", path)["model"]["trainingImages"]]
    worker.try_to("PUT", path + "/examples", (400, 404), json={"assetIds": images[:3]})
    for example in worker.ok("GET", path + "/examples")["examples"]:
        assert example["asset"]["ownerId"]


def train(worker, path):
    if started := worker.try_to("PUT", path + "/train", (400,), json={"parameters": {"maxTrainSteps": 5}}):
        worker.done["trainings"] += 1
        assert started["model"]["status"] == "training" and started["job"]["status"] == "queued"


def cancel(worker, path):
    if answered := worker.try_to("POST", path + "/train/action", (400,), json={"action": "cancel"}):
        assert answered["model"]["status"] in ("training-canceled", "training")  # training: its process is told to stop


def copy(worker, path):
    made = worker.try_to("POST", path + "/copy", (), json={})["model"]
    assert made["status"] == "new" and made["parentModelId"] == path.split("/")[-1]
    assert whole(made) == whole(worker.ok("GET", f"/models/{made['id']}")["model"])


def read(worker, path):
    whole(worker.ok("GET", path)["model"])
    rows = worker.ok("POST", "/models/get-bulk", json={"modelIds": [path.split("/")[-1]], "allTrainingImages": True})["models"]
    assert [row["id"] for row in rows] == [path.split("/")[-1]]


DEEDS = [change_names, change_tags, add_image, take_image_out, pair_up, show_examples, train, cancel, copy, read, read]


def test_changes_of_many_clients_come_out_even(server):
    client = server.client("changes")
    model, images = make_model(client)

    def work(worker):
        for _ in range(STEPS):
            worker.chance.choice(DEEDS)(worker, f"/models/{model}")
    workers = all_at_once([client], work)
    jobs = client.ok("GET", "/jobs", params={"types": "model-training", "pageSize": 200})["jobs"]
    ended = [client.wait_for_job(job["jobId"]) for job in jobs]
    total = summed(workers)
    seen = client.ok("GET", f"/models/{model}")["model"]
    whole(seen)
    assert len(seen["trainingImages"]) == len(images) + total["images"]
    assert {tag: total[tag] for tag in "abc"} == {tag: int(tag in seen["tags"]) for tag in "abc"}
    assert len(jobs) == total["trainings"] > 0
    assert seen["status"] in ("failed", "training-canceled")
    lives = sorted((job["statusHistory"][0]["date"], job["statusHistory"][-1]["date"]) for job in ended)
    assert all(end <= start for (_, end), (start, _) in zip(lives, lives[1:])), "two trainings of one model at a time"


def test_a_model_is_always_in_one_project(server):
    here, there = server.client("here"), server.client("there")
    model, images = make_model(here)

    def work(worker):
        """Half of the workers have it here and send it there, half the other way."""
        to = there if worker.number % 2 == 0 else here
        for _ in range(STEPS):
            moved = worker.try_to("POST", f"/models/{model}/transfer", (404,), json={"destinationProjectId": to.project_id})
            worker.done["moved"] += moved is not None
            if found := worker.try_to("GET", f"/models/{model}", (404,)):
                assert len(whole(found["model"])) == len(images)
            worker.try_to("PUT", f"/models/{model}", (404,), json={"name": "moving", "shortDescription": "moving"})
    workers = all_at_once([here, there], work)
    away = sum(worker.done["moved"] * (1 if worker.number % 2 == 0 else -1) for worker in workers)
    assert away in (0, 1), "it was given away by one who did not have it"
    owner, other = (there, here) if away else (here, there)
    seen = owner.ok("GET", f"/models/{model}")["model"]
    assert seen["ownerId"] == owner.project_id and len(whole(seen)) == len(images)
    other.refused(404, "GET", f"/models/{model}")
    for image in seen["trainingImages"]:
        assert owner.ok("GET", f"/assets/{image['id']}")["asset"]["ownerId"] == owner.project_id
        other.refused(404, "GET", f"/assets/{image['id']}")
    assert [row["id"] for row in owner.ok("GET", "/models")["models"]] == [model] and other.ok("GET", "/models")["models"] == []


def test_a_model_is_deleted_once_whatever_else_is_done_to_it(server):
    client, friend = server.client("deleting"), server.client("friend")
    for round_number in range(6):
        model, images = make_model(client)
        path = f"/models/{model}"

        def work(worker):
            if worker.number < 3:
                worker.done["deleted"] += worker.try_to("DELETE", path, (400, 404)) == {}
            elif worker.number == 3:
                if copied := worker.try_to("POST", path + "/copy", (404,), json={}):
                    assert len(whole(worker.ok("GET", f"/models/{copied['model']['id']}")["model"])) == len(images)
            elif worker.number == 4:
                worker.done["trained"] += worker.try_to("PUT", path + "/train", (404,), json={}) is not None
            elif worker.number == 5:
                worker.done["moved"] += worker.try_to("POST", path + "/transfer", (400, 404), json={"destinationProjectId": friend.project_id}) is not None
            elif worker.number == 6:
                worker.try_to("POST", path + "/training-images", (400, 404), json={"data": PICTURES[0], "name": "x"})
            else:
                worker.try_to("PUT", path, (404,), json={"name": "late", "shortDescription": "late"})
        total = summed(all_at_once([client], work))
        for job in client.ok("GET", "/jobs", params={"pageSize": 200})["jobs"] + friend.ok("GET", "/jobs", params={"pageSize": 200})["jobs"]:
            (client if job["ownerId"] == client.project_id else friend).wait_for_job(job["jobId"])
        assert total["deleted"] + total["moved"] <= 1, f"round {round_number}: {total}"
        found = {name: who.call("GET", path).status_code for name, who in (("client", client), ("friend", friend))}
        assert found == {"client": 404 if total["deleted"] or total["moved"] else 200, "friend": 200 if total["moved"] else 404}, total
