"""Small models in files, a server in a thread, and images to send."""

import io
import json
import threading
import time
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image

from gankit import models
from gankit.checkpoints import save
from gankit.options import EngineOptions
from gankit.serving.app import application
from gankit.serving.catalogue import Catalogue
from gankit.serving.server import Server, listen, url_of
from gankit.serving.settings import ServerSettings

UPSCALER = {"scale": 2, "channels": 8, "blocks": 1}
TRANSLATOR = {"channels": 4, "blocks": 1}
ENGINE = EngineOptions(backend="eager", precision="fp32", threads=1)


def upscaler(folder, name="tiny", **options):
    from tests.networks import small_srgan

    path, options = folder / f"{name}.safetensors", {**UPSCALER, **options}
    save(path, small_srgan(**options).state_dict(), "srgan", options, dtype=torch.float32)
    return path


def translator(folder):
    torch.manual_seed(3)
    path = folder / "swap.safetensors"
    network = models.build("cyclegan", TRANSLATOR)
    save(path, network.state_dict(), "cyclegan", TRANSLATOR, dtype=torch.float32)
    return path


def noise(height=12, width=16, seed=0, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(pixels=None, **more):
    buffer = io.BytesIO()
    Image.fromarray(noise() if pixels is None else pixels).save(buffer, "PNG", **more)
    return buffer.getvalue()


def pixels(response):
    return np.asarray(Image.open(io.BytesIO(response.content)))


class Lines(io.StringIO):
    """The log of a server."""

    def requests(self, count=1, path=None):
        """The lines of requests, when there are so many of them: a line follows its answer."""
        until = time.monotonic() + 10
        while True:
            found = [json.loads(line) for line in self.getvalue().splitlines()]
            found = [line for line in found if line["event"] == "request" and path in (None, line["path"])]
            if len(found) >= count or time.monotonic() > until:
                return found
            time.sleep(0.01)

    def line(self, id):
        """The line of the request with this id, when it is there."""
        until = time.monotonic() + 10
        while time.monotonic() < until:
            found = [line for line in self.requests(0) if line["id"] == id]
            if found:
                return found[0]
            time.sleep(0.01)
        raise AssertionError(f"no request {id} in the log")


class Running:
    """A server that runs, with its URL, its application and its log."""

    def __init__(self, url, made, log, server):
        self.url, self.made, self.log, self.server = url, made, log, server


@contextmanager
def running(files, engine=ENGINE, **settings):
    """A real server on loopback, in a thread."""
    log = Lines()
    made = application(Catalogue([str(path) for path in files]), engine, ServerSettings(**settings), log)
    with listen("127.0.0.1", 0) as listening:
        server = Server(made)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield Running(url_of("127.0.0.1", listening).rstrip("/"), made, log, server)
        finally:
            server.handle_exit(15, None)
            thread.join()
