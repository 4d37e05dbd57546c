"""hypothesis walks through models, their data sets, tags, examples, copies and deletions, and a small model of them in
Python says what every answer must be. After each step the touched model is read back, at the end all of them."""
import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, multiple, rule, run_state_machine_as_test

from conftest import data_url, png
from fuzzing import SEED, client, server, sized  # noqa: F401 (fixtures)

TAGS = st.sets(st.sampled_from(["ink", "potion", "ä", "a b", "x" * 128]))
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=64)
PICTURES = [data_url(png(8, 8, seed)) for seed in range(4)]


class Expected:
    """What we believe a model to be."""

    def __init__(self, name):
        self.name, self.privacy, self.tags, self.images, self.pairs, self.examples = name, "private", set(), [], [], []
        self.description = ""

    def leave(self, image):
        """An image goes, and with it the pairs that use it."""
        self.images.remove(image)
        self.pairs = [pair for pair in self.pairs if image not in (pair["sourceId"], pair["targetId"])]


class Models(RuleBasedStateMachine):
    client = None  # set by the test
    models = Bundle("models")

    def __init__(self):
        super().__init__()
        self.alive, self.deleted = {}, []

    def read_back(self, model_id):
        seen, believed = self.client.ok("GET", f"/models/{model_id}")["model"], self.alive[model_id]
        assert seen.get("name", "") == believed.name and seen["privacy"] == believed.privacy
        assert set(seen["tags"]) == believed.tags and len(seen["tags"]) == len(believed.tags)
        assert [image["id"] for image in seen["trainingImages"]] == believed.images
        assert seen["trainingImagesNumber"] == len(believed.images)
        assert seen["trainingImagePairs"] == believed.pairs and seen["exampleAssetIds"] == believed.examples
        assert self.client.ok("GET", f"/models/{model_id}/description")["description"]["value"] == believed.description

    @rule(target=models, name=NAMES)
    def create(self, name):
        model = self.client.ok("POST", "/models", json={"name": name})["model"]
        self.alive[model["id"]] = Expected(name)
        return model["id"]

    @rule(model=models, name=NAMES, privacy=st.sampled_from(["private", "unlisted", "public"]))
    def update(self, model, name, privacy):
        self.client.ok("PUT", f"/models/{model}", json={"name": name, "privacy": privacy})
        self.alive[model].name, self.alive[model].privacy = name, privacy
        self.read_back(model)

    @rule(model=models, text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200))
    def describe(self, model, text):
        self.client.ok("PUT", f"/models/{model}/description", json={"description": text})
        self.alive[model].description = text
        self.read_back(model)

    @rule(model=models, add=TAGS, delete=TAGS, strict=st.booleans())
    def tag(self, model, add, delete, strict):
        add, tags, body = add - delete, self.alive[model].tags, {"strict": strict}
        body |= {"add": sorted(add), "delete": sorted(delete)}
        if strict and (add & tags or delete - tags):
            self.client.refused(400, "PUT", f"/models/{model}/tags", json=body)
        else:
            changed = self.client.ok("PUT", f"/models/{model}/tags", json=body)
            assert set(changed["added"]) == add - tags and set(changed["deleted"]) == delete & tags
            self.alive[model].tags = tags - delete | add
        self.read_back(model)

    @rule(model=models, picture=st.sampled_from(PICTURES))
    def add_image(self, model, picture):
        self.alive[model].images.append(self.client.add_image(model, picture)["id"])
        self.read_back(model)

    @rule(model=models, other=models, data=st.data())
    def share_image(self, model, other, data):
        """An image of one model added to another, or to the same one, which is refused."""
        if not self.alive[other].images:
            return
        image = data.draw(st.sampled_from(self.alive[other].images))
        body = {"assetId": image}
        if image in self.alive[model].images:
            reason = self.client.refused(400, "POST", f"/models/{model}/training-images", json=body)
            assert reason == "The provided assetId is already a training image of this model"
        else:
            self.client.ok("POST", f"/models/{model}/training-images", json=body)
            self.alive[model].images.append(image)
        self.read_back(model)

    @rule(model=models, data=st.data())
    def pair(self, model, data):
        images = self.alive[model].images
        if not images:
            return
        ids = st.sampled_from(images)
        pairs = data.draw(st.lists(st.fixed_dictionaries({"instruction": st.sampled_from(["", "redden"]), "sourceId": ids, "targetId": ids}), max_size=3))
        answer = self.client.ok("PUT", f"/models/{model}/training-images/pairs", json=pairs)
        assert answer["count"] == len(pairs)
        self.alive[model].pairs = answer["pairs"]
        assert [(pair["sourceId"], pair["targetId"], pair.get("instruction", "")) for pair in answer["pairs"]] == \
            [(pair["sourceId"], pair["targetId"], pair["instruction"]) for pair in pairs]
        self.read_back(model)

    @rule(model=models, data=st.data())
    def take_image_out(self, model, data):
        images = self.alive[model].images
        image = data.draw(st.sampled_from(images + ["asset_none"]))
        path = f"/models/{model}/training-images/{image}"
        if image in images:
            assert self.client.ok("DELETE", path) == {}
            self.alive[model].leave(image)
        self.client.refused(404, "DELETE", path)
        self.read_back(model)

    @rule(model=models, data=st.data())
    def set_examples(self, model, data):
        known = sorted({image for other in self.alive.values() for image in other.images})
        chosen = data.draw(st.lists(st.sampled_from(known), max_size=4)) if known else []
        arguments = {"json": {"assetIds": chosen}}
        if len(set(chosen)) < len(chosen):
            self.client.refused(400, "PUT", f"/models/{model}/examples", **arguments)
        else:
            answer = self.client.ok("PUT", f"/models/{model}/examples", **arguments)["examples"]
            assert [example["asset"]["id"] for example in answer] == chosen
            self.alive[model].examples = chosen
        self.read_back(model)

    @rule(target=models, model=models, with_examples=st.booleans())
    def copy(self, model, with_examples):
        if len(self.alive) > 8:
            return multiple()
        made = self.client.ok("POST", f"/models/{model}/copy", json={"copyExamples": with_examples})["model"]
        source, copy = self.alive[model], Expected(made.get("name", ""))
        made = self.client.ok("GET", f"/models/{made['id']}")["model"]
        copy.tags, copy.images = set(made["tags"]), [image["id"] for image in made["trainingImages"]]
        assert made["parentModelId"] == model and made["status"] == "new" and len(copy.images) == len(source.images)
        assert not set(copy.images) & set(source.images)
        into = dict(zip(source.images, copy.images))
        copy.pairs = [pair | {"sourceId": into[pair["sourceId"]], "targetId": into[pair["targetId"]]} for pair in source.pairs]
        assert len(made["exampleAssetIds"]) == (len(source.examples) if with_examples else 0)
        copy.examples = made["exampleAssetIds"]
        copy.description = self.client.ok("GET", f"/models/{made['id']}/description")["description"]["value"]
        self.alive[made["id"]] = copy
        self.read_back(made["id"])
        self.read_back(model)
        return made["id"]

    @rule(model=consumes(models))
    def delete(self, model):
        assert self.client.ok("DELETE", f"/models/{model}") == {}
        self.deleted.append(model)
        del self.alive[model]
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/description"), ("POST", "/copy")):
            self.client.refused(404, method, f"/models/{model}{path}")

    def listed(self, size, **query):
        found, token = [], None
        while True:
            page = self.client.ok("GET", "/models", params={**query, "pageSize": size, **({"paginationToken": token} if token else {})})
            found += [model["id"] for model in page["models"]]
            token = page.get("nextPaginationToken")
            if not token:
                return found

    @rule(size=st.integers(1, 7))
    def page(self, size):
        assert self.listed(size) == [*self.alive][::-1]

    def teardown(self):
        for model in self.alive:
            self.read_back(model)
        assert self.listed(3) == [*self.alive][::-1]
        assert set(self.deleted) <= set(self.listed(500, status="deleted"))
        for model in self.alive:
            self.client.ok("DELETE", f"/models/{model}")


def test_models_are_what_was_done_to_them(client):
    Models.client = client
    run_state_machine_as_test(hypothesis.seed(SEED)(Models), settings=sized(20, stateful_step_count=25))
