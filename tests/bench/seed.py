"""Many models without making them one by one: rows are copies of one that the API made, whatever columns it has."""
import random
import sqlite3

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def copy_models(database, template_id, count):
    """The server must be stopped. Ids are random like real ones; creation times go back a second each."""
    draw = random.Random(1)
    connection = sqlite3.connect(database)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(model)")]
    values = dict(zip(columns, connection.execute("SELECT * FROM model WHERE id = ?", (template_id,)).fetchone()))

    def rows():
        for number in range(1, count + 1):
            made = values["created_at"] - 1000 * number
            changed = {"id": "model_" + "".join(draw.choices(BASE58, k=24)), "name": f"model {number}",
                       "created_at": made, "updated_at": made}
            yield tuple({**values, **changed}.values())

    with connection:
        connection.executemany(f"INSERT INTO model VALUES ({','.join('?' * len(columns))})", rows())
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
