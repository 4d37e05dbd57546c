"""A data folder of the first version, opened by this one: nothing is lost, and what lists need is made."""
import pathlib
import sqlite3
import time

from conftest import Server

FIRST = pathlib.Path(__file__).resolve().parents[2] / "src/store/migrations/0001_initial.sql"
APPLICATION_ID = 0x4D415154


def make_first(path):
    database = sqlite3.connect(path)
    database.executescript(FIRST.read_text())
    database.execute("INSERT INTO team VALUES ('team_old', 'default', 1)")
    database.execute("INSERT INTO project VALUES ('proj_old', 'team_old', 'default', 1)")
    rows = [("model_a", "trained", '["col_1","col_2"]', 0), ("model_b", "new", "[]", 0), ("model_c", "new", '["col_2","col_2"]', 0),
            ("model_d", "new", '["col_1"]', int(time.time() * 1000))]
    database.executemany("INSERT INTO model (id, project_id, author_id, type, status, collection_ids, deleted_at, created_at, updated_at) "
                         "VALUES (?, 'proj_old', 'api_old', 'sd-1_5-lora', ?, ?, ?, 1763000000000, 1763000000000)", rows)
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute("PRAGMA user_version = 1")
    database.commit()
    database.close()


def test_models_of_the_first_version_are_in_every_list(tmp_path):
    (tmp_path / "data").mkdir(mode=0o700)
    make_first(tmp_path / "data/maquette.db")
    server = Server(tmp_path / "data").start()
    client = server.client("default")
    assert client.project_id == "proj_old"

    def listed(**query):
        return [row["id"] for row in client.ok("GET", "/models", params=query)["models"]]

    assert listed() == ["model_c", "model_b", "model_a"]
    assert listed(collectionId="col_1") == ["model_a"]
    assert listed(collectionId="col_2") == ["model_c", "model_a"]
    assert listed(status="deleted", collectionId="col_1") == ["model_d"]
    for model in ("model_a", "model_b", "model_c"):
        client.ok("PUT", f"/models/{model}", json={"privacy": "public"})
    assert listed(privacy="public") == ["model_a", "model_c", "model_b"]
    assert listed(privacy="public", collectionIds="col_2") == ["model_a", "model_c"]
    assert server.stop() == 0
