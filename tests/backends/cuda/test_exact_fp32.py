"""True float32: by both names of torch's settings, for several threads, and whatever the host program has set."""

import threading

import pytest
import torch

from gankit.backends.cuda.precision import exact_fp32

pytestmark = pytest.mark.filterwarnings("ignore:Please use the new API settings")  # some versions of torch
MATMUL, CUDNN = torch.backends.cuda.matmul, torch.backends.cudnn


@pytest.fixture(autouse=True)
def restored():
    yield
    torch.set_float32_matmul_precision("highest")
    MATMUL.allow_tf32 = False
    CUDNN.allow_tf32 = True


def settings():
    older = CUDNN.allow_tf32, MATMUL.allow_tf32, torch.get_float32_matmul_precision()
    return (CUDNN.conv.fp32_precision, CUDNN.rnn.fp32_precision, MATMUL.fp32_precision, *older)


def exact():
    assert "tf32" not in (CUDNN.conv.fp32_precision, MATMUL.fp32_precision)
    # libraries of the host program read these at any time; the cuDNN context writes them
    assert not CUDNN.allow_tf32
    assert not MATMUL.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"
    with CUDNN.flags(enabled=True, allow_tf32=False):
        pass


@pytest.mark.parametrize("products", ["highest", "high", "medium", "allow_tf32"])
@pytest.mark.parametrize("convolutions", [True, False])
def test_the_host_program_may_have_set_anything(products, convolutions):
    if products == "allow_tf32":
        MATMUL.allow_tf32 = True
    else:
        torch.set_float32_matmul_precision(products)
    CUDNN.allow_tf32 = convolutions
    before = settings()
    for _ in range(2):
        with exact_fp32("cuda", "fp32"):
            exact()
        assert settings() == before
    with pytest.raises(MemoryError), exact_fp32("cuda:1", "fp32"):
        raise MemoryError
    assert settings() == before


def test_newer_names_that_disagree_with_the_older_ones():
    MATMUL.fp32_precision = "tf32"
    with exact_fp32("cuda", "fp32"):
        assert MATMUL.fp32_precision == "ieee"
    assert MATMUL.fp32_precision == "tf32"
    CUDNN.conv.fp32_precision = "tf32"
    CUDNN.rnn.fp32_precision = "ieee"
    with exact_fp32("cuda", "fp32"):
        assert CUDNN.conv.fp32_precision != "tf32"
    assert (CUDNN.conv.fp32_precision, CUDNN.rnn.fp32_precision) == ("tf32", "ieee")


def test_the_last_thread_restores():
    before, wrong = settings(), []
    inside, leave = threading.Barrier(3), threading.Event()

    def work():
        with exact_fp32("cuda", "fp32"):
            inside.wait(10)
            leave.wait(10)
            if "tf32" in (CUDNN.conv.fp32_precision, MATMUL.fp32_precision):
                wrong.append("restored too early")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    with exact_fp32("cuda", "fp32"):
        pass
    exact()
    leave.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert settings() == before


@pytest.mark.parametrize(("device", "precision"), [("cpu", "fp32"), ("cuda", "fp16"), ("cuda", "bf16")])
def test_others_change_nothing(device, precision):
    before = settings()
    with exact_fp32(device, precision):
        assert settings() == before
