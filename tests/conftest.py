"""What all tests share."""

import logging
import os
import signal
from pathlib import Path

import pytest

# A runner in the background ignores Ctrl-C, one under nohup SIGHUP, and all its children with it: the tests send them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real images and benchmarks: GANKIT_DATA, else shared/data beside the repository."""
    folder = Path(os.environ.get("GANKIT_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no data folder: set GANKIT_DATA")
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Exported files and cached choices of the tests, apart from the user's."""
    os.environ["GANKIT_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def gankit_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """Capture the warnings of gankit, whatever libraries and other tests of the process did to the loggers."""
    logging.disable(logging.NOTSET)
    names = ["gankit", *(name for name in logging.root.manager.loggerDict if name.startswith("gankit."))]
    for name in names:
        logger = logging.getLogger(name)
        monkeypatch.setattr(logger, "disabled", False)
        monkeypatch.setattr(logger, "propagate", name != "gankit")
        monkeypatch.setattr(logger, "handlers", [caplog.handler] if name == "gankit" else [])
        caplog.set_level(logging.WARNING if name == "gankit" else logging.NOTSET, logger=name)
    caplog.handler.setLevel(logging.NOTSET)
    return caplog
