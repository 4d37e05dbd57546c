"""One good call of every operation of the contract under /v1: what the suites on access and conformance start from.

A call names things of a world: a dictionary of ids under the names that the contract gives them."""
import base64

import contract
from conftest import data_url, png

OPERATIONS = {operation["operationId"]: (method, path, operation)
              for path, item in contract.DOCUMENT["paths"].items() if path.startswith("/v1/")
              for method, operation in item.items() if method in ("get", "put", "post", "delete")}
PICTURE = png(16, 16, 3)


def make_world(client, sibling, privacy="private"):
    """For a server that cannot train sd-xl-lora: a model of the client's with two images, a caption, tags, an example, a description
    and the job of a training that has failed."""
    model = client.create_model(name=privacy, type="sd-xl-lora")["id"]
    images = [client.add_image(model, data_url(png(16, 16, seed)))["id"] for seed in range(2)]
    client.ok("PUT", f"/models/{model}/description", json={"description": f"see {{asset:{images[0]}}}"})
    client.ok("PUT", f"/models/{model}/examples", json={"assetIds": images[:1]})
    client.ok("PUT", f"/models/{model}/tags", json={"add": ["old"]})
    job = client.ok("PUT", f"/models/{model}/train", json={})["job"]["jobId"]
    client.wait_for_job(job)
    client.ok("PUT", f"/models/{model}", json={"privacy": privacy})
    spare = client.ok("POST", "/assets", json={"name": "spare", "image": base64.b64encode(PICTURE).decode()})["asset"]["id"]
    return {"modelId": model, "trainingImageId": images[0], "assetId": images[0], "second": images[1], "spare": spare,
            "jobId": job, "projectId": client.project_id, "sibling": sibling.project_id}


# operation: the world -> {"json": body, "params": query}; what is not given is not sent.
CALLS = {
    "list_models": lambda w: {"params": {"privacy": "public"}},
    "create_model": lambda w: {"json": {"name": "made"}},
    "get_bulk_models": lambda w: {"json": {"modelIds": [w["modelId"]]}},
    "list_public_models": lambda w: {},
    "retrieve_public_model": lambda w: {},
    "retrieve_model": lambda w: {},
    "update_model": lambda w: {"json": {"name": "renamed"}},
    "delete_model": lambda w: {},
    "copy_model": lambda w: {"json": {"copyExamples": True}},
    "restore_model": lambda w: {},
    "delete_model_images": lambda w: {"params": {"ids": w["second"]}},
    "transfer_model": lambda w: {"json": {"destinationProjectId": w["sibling"]}},
    "update_model_tags": lambda w: {"json": {"add": ["new"], "delete": ["old"]}},
    "retrieve_description": lambda w: {},
    "update_description": lambda w: {"json": {"description": f"now {{model:{w['modelId']}}}"}},
    "list_examples": lambda w: {},
    "update_examples": lambda w: {"json": {"assetIds": [w["second"], w["assetId"]]}},
    "trigger_training": lambda w: {"json": {"parameters": {"maxTrainSteps": 2}}},
    "training_action": lambda w: {"json": {"action": "cancel"}},
    "add_training_image": lambda w: {"json": {"data": data_url(PICTURE), "name": "added.png"}},
    "replace_training_pairs": lambda w: {"json": [{"sourceId": w["assetId"], "targetId": w["second"], "instruction": "redden"}]},
    "replace_training_image": lambda w: {"json": {"assetId": w["spare"]}},
    "delete_training_image": lambda w: {},
    "download_model": lambda w: {"json": {}},
    "generate_txt2img": lambda w: {"json": {"modelId": "sd-1_5", "prompt": "a disc", "numSamples": 1, "numInferenceSteps": 1}},
    "generate_img2img": lambda w: {"json": {"modelId": "sd-1_5", "prompt": "a disc", "numSamples": 1, "numInferenceSteps": 1, "image": w["assetId"]}},
    "list_jobs": lambda w: {"params": {"types": "model-training"}},
    "retrieve_job": lambda w: {},
    "job_action": lambda w: {"json": {"action": "cancel"}},
    "list_assets": lambda w: {"params": {"type": "uploaded"}},
    "create_asset": lambda w: {"json": {"name": "made.png", "image": base64.b64encode(PICTURE).decode()}},
    "get_bulk_assets": lambda w: {"json": {"assetIds": [w["assetId"]]}},
    "delete_assets": lambda w: {"json": {"assetIds": [w["assetId"]]}},
    "retrieve_asset": lambda w: {},
    "update_asset": lambda w: {"json": {"description": "a disc"}},
    "update_asset_tags": lambda w: {"json": {"add": ["new"]}},
    "copy_asset": lambda w: {"json": {}},
    "download_asset": lambda w: {"json": {"targetFormat": "jpeg"}},
    "list_tags": lambda w: {},
}


def request_of(operation_id, world):
    """(method, path below /v1, arguments of requests) of the good call."""
    method, template, _ = OPERATIONS[operation_id]
    return method.upper(), template.removeprefix("/v1").format(**world), CALLS[operation_id](world)
