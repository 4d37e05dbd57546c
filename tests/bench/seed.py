"""Many models without making them one by one: rows are copies of one that the API made, whatever columns it has.

They differ in what lists filter by: some tags, collections, types and states are on half of the models, some on one in
a thousand; six in ten are public, one in fifty more is deleted."""
import json
import random
import sqlite3

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
COPIED = ("project_id", "privacy", "type", "status", "deleted_at", "created_at", "updated_at", "score")
TYPES = {"sd-1_5-lora": 55, "flux.1-lora": 30, "zimage-lora": 10, "sd-xl-lora": 4.9, "custom": 0.1}
STATUSES = {"trained": 70, "new": 20, "training-canceled": 5, "failed": 4.9, "copying": 0.1}
PRIVACIES = {"public": 60, "private": 30, "unlisted": 10}
TAGS = {"common": 0.5, "often": 0.2, "some": 0.05, "few": 0.01, "rare": 0.001}
COLLECTIONS = {"col_half": 0.5, "col_some": 0.05, "col_rare": 0.001}


def chosen(draw, weights):
    return draw.choices(list(weights), list(weights.values()))[0]


def subset(draw, shares):
    return [name for name, share in shares.items() if draw.random() < share]


def copy_models(database, template_id, count):
    """The server must be stopped. Ids are random like real ones; creation times go back a second each."""
    draw = random.Random(1)
    connection = sqlite3.connect(database)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(model)")]
    template = dict(zip(columns, connection.execute("SELECT * FROM model WHERE id = ?", (template_id,)).fetchone()))
    images = connection.execute("SELECT asset_id, project_id, position, created_at FROM training_image WHERE model_id = ?",
                                (template_id,)).fetchall()
    models, labels, members = [], [], []
    for number in range(1, count + count // 50 + 1):
        made = template["created_at"] - 1000 * number
        tags, collections = subset(draw, TAGS), subset(draw, COLLECTIONS)
        row = {**template, "id": "model_" + "".join(draw.choices(BASE58, k=24)), "name": f"model {number}",
               "created_at": made, "updated_at": made + draw.randrange(10 ** 8), "score": made // 1000 + 604800 * draw.randrange(9),
               "type": chosen(draw, TYPES), "status": chosen(draw, STATUSES), "privacy": chosen(draw, PRIVACIES),
               "tags": json.dumps(tags), "collection_ids": json.dumps(collections), "deleted_at": made if number > count else 0}
        models.append(tuple(row.values()))
        if number <= 500:  # the others show theirs in lists only
            members += [(row["id"], *image) for image in images]
        for label in [f"tag:{tag}" for tag in tags] + [f"collection:{collection}" for collection in collections]:
            labels.append((row["id"], label, *(row[name] for name in COPIED)))
    with connection:
        connection.executemany(f"INSERT INTO model VALUES ({','.join('?' * len(columns))})", models)
        connection.executemany(f"INSERT INTO model_label (model_id, label, {', '.join(COPIED)}) "
                               f"VALUES ({','.join('?' * (len(COPIED) + 2))})", labels)
        connection.executemany("INSERT INTO training_image (model_id, asset_id, project_id, position, created_at) VALUES (?, ?, ?, ?, ?)", members)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
