"""redis-py's client-side cache: it hears of writes on another node, and drops all after a lost connection."""

import time

import redis
from common import PORTS, eventually
from redis.cache import CacheConfig

reader = redis.Redis(port=PORTS[0], protocol=3, cache_config=CacheConfig(), decode_responses=True)
plain, writer = (redis.Redis(port=port, decode_responses=True) for port in PORTS[:2])
cache = reader.get_cache()
writer.flushall()
writer.set("k", 0)
eventually(lambda: plain.get("k") == "0", "the first write")
assert reader.get("k") == "0"


def commands():
    return plain.info("stats")["total_commands_processed"]


before = commands()
for _ in range(100):
    assert reader.get("k") == "0"
assert commands() - before < 10, "reads come from memory"
assert cache.size == 1

times = []
for value in range(1, 201):
    assert writer.set("k", value)
    start = time.monotonic()
    eventually(lambda: reader.get("k") == str(value), f"value {value}")
    times.append((time.monotonic() - start) * 1000)
    assert cache.size == 1, "and the new value is in memory again"
times.sort()
print(f"redis-py's cache, after a write on another node: median {times[100]:.1f} ms, 99 % {times[198]:.1f} ms old")

for what, change in [
    ("a delete", lambda: writer.delete("k")),
    ("a time to live", lambda: writer.set("k", "short", px=300)),
    ("a flush", writer.flushall),
]:
    writer.set("k", "before")
    eventually(lambda: reader.get("k") == "before", what)
    change()
    eventually(lambda: reader.get("k") is None, what)

writer.set("k", "before")
eventually(lambda: reader.get("k") == "before" and cache.size == 1, "the last write, in memory")
mine = [client["id"] for client in plain.client_list() if client["flags"] == "t"]
assert mine, "a connection is tracked"
assert sum(plain.client_kill_filter(_id=id) for id in mine) == len(mine), "every tracked connection was killed"
eventually(lambda: not {client["id"] for client in plain.client_list()} & set(mine), "the end of the connection")
writer.set("k", "after")
eventually(lambda: plain.get("k") == "after", "the write meanwhile")


def after_loss():
    try:
        return reader.get("k")
    except redis.ConnectionError:
        return None


# The message about the write was lost with the connection. The old value must be lost as well.
seen = after_loss()
assert seen in (None, "after"), f"{seen} from memory after a lost connection"
eventually(lambda: after_loss() == "after", "the connection is back")
