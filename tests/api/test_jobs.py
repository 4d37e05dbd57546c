"""Jobs through the wire: lists by every filter, one job, and what cannot be done to it."""
import pytest
from scenario_sdk import BadRequestError, Scenario

from conftest import Server, data_url, png
from reference import valid


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two keys of one project: a training that succeeded, nine downloads by the second key, and one that was canceled."""
    server = Server(tmp_path_factory.mktemp("jobs") / "data").start()
    first, second = server.client(), server.client()
    model = first.create_model()
    for seed in range(2):
        first.add_image(model["id"], data_url(png(seed=seed)))
    training = first.ok("PUT", f"/models/{model['id']}/train", json={"parameters": {"maxTrainSteps": 2, "rank": 2}})["job"]
    assert valid("Job", training)["status"] == "queued"
    assert first.wait_for_job(training["jobId"])["status"] == "success"
    downloads = [second.ok("POST", f"/models/{model['id']}/download")["jobId"] for _ in range(9)]
    canceled = first.ok("PUT", f"/models/{model['id']}/train", json={"parameters": {"maxTrainSteps": 40000}})["job"]["jobId"]
    first.ok("POST", f"/models/{model['id']}/train/action", json={"action": "cancel"})
    assert first.wait_for_job(canceled)["status"] == "canceled"
    first.jobs = {"training": training["jobId"], "canceled": canceled, "downloads": downloads, "all": [training["jobId"], *downloads, canceled]}
    first.second, first.model, first.server = second, model, server
    yield first
    assert server.stop() == 0


def pages(client, size=2, **query):
    seen, token = [], None
    while True:
        page = client.ok("GET", "/jobs", params={**query, "pageSize": size, **({"paginationToken": token} if token else {})})
        seen += [valid("Job", job)["jobId"] for job in page["jobs"]]
        token = page.get("nextPaginationToken")
        if not token:
            assert [job["jobId"] for job in client.ok("GET", "/jobs", params={**query, "pageSize": 200})["jobs"]] == seen
            return seen


def test_a_list_is_newest_first(world):
    assert pages(world) == pages(world, 1) == world.jobs["all"][::-1]
    sdk = Scenario(api_key=world.key, api_secret=world.secret, base_url=world.url + "/v1")
    assert [job.job_id for job in sdk.jobs.list(page_size=2)] == world.jobs["all"][::-1]


def test_every_filter(world):
    training, canceled, downloads = world.jobs["training"], world.jobs["canceled"], world.jobs["downloads"][::-1]
    assert pages(world, status="success") == downloads + [training]
    assert pages(world, status="canceled") == [canceled]
    assert pages(world, status="pending") == []
    assert pages(world, type="model-training") == [canceled, training]
    assert pages(world, type="model-download") == downloads
    assert pages(world, types="model-download") == downloads
    assert pages(world, types="model-download,model-training") == world.jobs["all"][::-1]
    assert pages(world, types="model-download,upscale", type="model-training") == downloads
    assert pages(world, types="model-training,model-download", status="success") == downloads + [training]
    assert pages(world, authorId=world.key) == [canceled, training]
    assert pages(world, authorId=world.second.key) == downloads
    assert pages(world, authorId=world.key, status="success") == [training]
    assert pages(world, authorId=world.second.key, types="model-training,custom") == []
    assert pages(world, authorId="nobody") == pages(world, workflowId="wflow_x") == []
    assert pages(world, hideResults="false") == pages(world, hideResults="true") == world.jobs["all"][::-1]


def test_a_page_has_ten_when_nothing_is_said(world):
    page = world.ok("GET", "/jobs")
    assert len(page["jobs"]) == 10 and page["nextPaginationToken"]


@pytest.mark.parametrize("query, reason", [
    ({"pageSize": 0}, "pageSize must be at least 1"),
    ({"pageSize": 201}, "pageSize must be at most 200"),
    ({"status": "done"}, "status must be one of"),
    ({"type": "nonsense"}, "type must be one of"),
    ({"types": "custom,nonsense"}, "types[1] must be one of"),
    ({"hideResults": "maybe"}, "hideResults must be true or false"),
    ({"paginationToken": "garbage"}, "paginationToken is not a token of this list"),
])
def test_lists_refuse_what_they_cannot_do(world, query, reason):
    assert world.refused(400, "GET", "/jobs", params=query).startswith(reason)


def test_one_job_of_each_kind_is_complete(world):
    for id in (world.jobs["training"], world.jobs["canceled"], world.jobs["downloads"][0]):
        job = valid("Job", world.job(id))
        assert job["ownerId"] == world.project_id and job["billing"] == {"cuCost": 0, "cuDiscount": 0}
        assert [change["status"] for change in job["statusHistory"]][-1] == job["status"]
    assert world.job(world.jobs["training"])["progress"] == 1


def test_jobs_of_others_are_not_found(world):
    stranger = world.server.client("job strangers")
    id = world.jobs["training"]
    for method, path in (("GET", f"/jobs/{id}"), ("POST", f"/jobs/{id}/action")):
        assert stranger.refused(404, method, path, json={"action": "cancel"}) == f"Job {id} not found"
    assert stranger.ok("GET", "/jobs") == {"jobs": []}
    assert world.refused(404, "GET", "/jobs/job_unknown") == "Job job_unknown not found"


def test_no_training_or_download_is_canceled_by_itself(world):
    for id in (world.jobs["training"], world.jobs["downloads"][0]):
        assert world.refused(400, "POST", f"/jobs/{id}/action", json={"action": "cancel"}) == "Cannot cancel this type of job"
        assert world.job(id)["status"] == "success"
    sdk = Scenario(api_key=world.key, api_secret=world.secret, base_url=world.url + "/v1")
    with pytest.raises(BadRequestError, match="Cannot cancel this type of job"):
        sdk.jobs.trigger_action(world.jobs["training"], action="cancel")
    assert world.refused(400, "POST", f"/jobs/{id}/action", json={"action": "stop"}).startswith("action must be one of cancel")
    assert world.refused(400, "POST", f"/jobs/{id}/action", json={}).startswith("action is required")


def test_the_sdk_waits_for_a_training(world):
    sdk = Scenario(api_key=world.key, api_secret=world.secret, base_url=world.url + "/v1")
    assert sdk.jobs.retrieve(world.jobs["training"]).job.status == "success"


def test_a_failed_job_says_why_and_what_to_do(tmp_path_factory, broken_base):
    server = Server(tmp_path_factory.mktemp("failing") / "data", "--base", str(broken_base)).start()
    client = server.client()
    model = client.create_model()
    client.add_image(model["id"], data_url(png()))
    job = client.ok("PUT", f"/models/{model['id']}/train", json={"parameters": {"maxTrainSteps": 2}})["job"]
    job = valid("Job", client.wait_for_job(job["jobId"]))
    assert job["status"] == "failure" and job["metadata"]["error"] and job["statusHistory"][-1]["status"] == "failure"
    assert valid("Model", client.ok("GET", f"/models/{model['id']}")["model"])["status"] == "failed"
    assert pages(client, status="failure") == [job["jobId"]] and pages(client, status="success") == []
    assert server.stop() == 0
