"""The cache backends of web frameworks: Django's own, django-redis, and Flask-Caching."""

import django
from common import PORTS, eventually, refused
from django.conf import settings

URLS = [f"redis://127.0.0.1:{port}/0" for port in PORTS]
DJANGO = "django.core.cache.backends.redis.RedisCache"
settings.configure(
    CACHES={
        "default": {"BACKEND": DJANGO, "LOCATION": URLS[0]},
        "other": {"BACKEND": DJANGO, "LOCATION": URLS[1]},
        "django-redis": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": URLS[0]},
        "django-redis-other": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": URLS[1]},
    }
)
django.setup()
from django.core.cache import caches  # noqa: E402


def of_django(here, there):
    here.clear()
    here.set("k", {"a": [1, 2]}, 60)
    assert here.get("k") == {"a": [1, 2]} and here.has_key("k") and "none" not in here
    eventually(lambda: there.get("k") == {"a": [1, 2]}, "the write on another node")
    assert here.add("new", 1, 60) and not here.add("new", 2, 60)
    assert here.get_or_set("lazy", lambda: 7, 60) == 7
    assert here.touch("k", 100) and not here.touch("none", 100)
    assert here.set_many({"x": 1, "y": 2}, 60) in ([], None)
    assert here.get_many(["x", "y", "none"]) == {"x": 1, "y": 2}
    assert here.set("past", 1, 0) in (None, True, False) and here.get("past") is None
    here.delete_many(["x", "y"])
    assert here.delete("k") and here.get("k", "gone") == "gone"
    here.clear()
    eventually(lambda: there.get("new") is None, "the clear on another node")


here = caches["default"]
of_django(here, caches["other"])
here.set("number", 1)
refused(lambda: here.incr("number"), "incr")
print("Django", django.__version__)

here = caches["django-redis"]
of_django(here, caches["django-redis-other"])
here.set("k", 1, 60)
# Its script is refused, and then it reads and writes by itself. It loses increments that are made at the same time.
assert here.incr("k") == 2
assert 0 < here.ttl("k") <= 60 and here.persist("k") and here.ttl("k") is None and here.expire("k", 10)
here.set_many({f"page:{i}": i for i in range(50)}, 60)
assert len(list(here.iter_keys("page:*", itersize=7))) == 50 and here.delete_pattern("page:*") == 50
print("django-redis")

from flask import Flask  # noqa: E402
from flask_caching import Cache  # noqa: E402

apps = []
for port in PORTS[:2]:
    app = Flask(__name__)
    apps.append(Cache(app, config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_PORT": port, "CACHE_DEFAULT_TIMEOUT": 60}))
    apps[-1].app = app
here, there = (cache.cache for cache in apps)
here.clear()
assert here.set("k", [1, 2]) and here.get("k") == [1, 2] and here.has("k")
eventually(lambda: there.get("k") == [1, 2], "the write on another node")
assert here.add("new", 1) and not here.add("new", 2)
here.set_many({"x": 1, "y": 2})
assert here.get_many("x", "y", "none") == [1, 2, None] and here.get_dict("x") == {"x": 1}
assert here.delete("k") and here.get("k") is None and here.delete_many("x", "y")
refused(lambda: here.inc("new"), "inc")
assert here.clear()
eventually(lambda: not there.has("new"), "the clear on another node")
print("Flask-Caching")
