"""fsspec's store in memory, empty."""

import threading

import fsspec

from gankit.storage.stores import Remote


def empty_store():
    """The store, after all of its objects are gone."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    return store


def empty_store_like_s3(monkeypatch):
    """The same, in which one of several writers alone creates an object."""
    create, lock = Remote.create, threading.Lock()

    def at_once(self, name, content):
        with lock:  # fsspec's memory asks first and writes then; S3 does both in one step
            create(self, name, content)

    monkeypatch.setattr(Remote, "create", at_once)
    return empty_store()
