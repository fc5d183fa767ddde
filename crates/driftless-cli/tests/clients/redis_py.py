"""redis-py: the commands of a cache, with the protocol of its default and with that of the argument."""

import sys
import time

import redis
from common import PORTS, eventually, refused

arguments = {"protocol": int(sys.argv[1])} if len(sys.argv) > 1 else {}
one, two = (redis.Redis(port=port, decode_responses=True, **arguments) for port in PORTS[:2])
print("redis-py", redis.__version__, arguments or "default protocol")

assert one.ping()
one.flushall()
assert one.set("k", "v", ex=60) and one.get("k") == "v"
eventually(lambda: two.get("k") == "v", "the write on another node")
assert 0 < two.ttl("k") <= 60 and two.type("k") == "string" and two.strlen("k") == 1
assert one.set("k", "w", nx=True) is None and one.set("k", "w", xx=True, get=True) == "v"
assert one.expire("k", 100) and one.persist("k") and one.ttl("k") == -1
assert one.getex("k", px=50_000) == "w" and 0 < one.pttl("k") <= 50_000
at = int(time.time()) + 1000
assert one.expireat("k", at) and one.expiretime("k") == at
assert one.getset("k", "x") == "w" and one.getdel("k") == "x" and one.get("k") is None

assert one.mset({f"m:{i}": i for i in range(100)})
assert one.mget("m:1", "none", "m:2") == ["1", None, "2"]
assert not one.msetnx({"m:1": 7, "new": 7}) and one.exists("m:1", "new") == 1
assert sorted(one.scan_iter("m:*", count=7)) == sorted(f"m:{i}" for i in range(100))
assert len(one.keys("m:?")) == 10 and one.dbsize() == 100 and one.randomkey().startswith("m:")

# MULTI and EXEC are the default of a pipeline.
with one.pipeline() as pipe:
    results = pipe.set("p", 1, ex=60).get("p").ttl("p").execute()
assert results == [True, "1", 60], results
with one.pipeline(transaction=False) as pipe:
    for i in range(10_000):
        pipe.set(f"q:{i}", i)
    assert all(pipe.execute())
with one.pipeline() as pipe:
    pipe.set("refused", 1).incr("p")
    refused(pipe.execute, "INCR in a transaction")
assert one.get("refused") is None, "a transaction with a refused command does nothing"
refused(lambda: one.incr("p"), "INCR")
refused(lambda: one.append("p", "x"), "APPEND")
refused(lambda: one.eval("return 1", 0), "EVAL")

assert one.delete("p", "none") == 1 and one.unlink("m:1") == 1 and one.touch("m:2") == 1
assert one.client_setname("me") and one.client_getname() == "me" and one.client_id() > 0
assert one.client_info()["name"] == "me" and len(one.client_list()) >= 1
assert one.config_get("max*")["maxclients"] and one.info("keyspace")["db0"]["keys"] > 0
assert one.time()[0] > 0 and one.command_count() > 50 and "get" in one.command()
one.set("replicated", 1)
eventually(lambda: one.wait(2, 5000) == 2, "the write on both other nodes")
assert two.get("replicated") == "1"
binary = redis.Redis(port=PORTS[0], **arguments)
every = bytes(range(256))
assert binary.set(every, every) and binary.get(every) == every
one.flushall()
assert one.dbsize() == 0
eventually(lambda: two.dbsize() == 0, "the flush on another node")
