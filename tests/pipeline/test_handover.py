"""Items from one thread to another, and threads beside a block."""

import pytest

from gankit.pipeline.flow import Handover, Stop, Stopped, beside

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@pytest.mark.parametrize("most", [1, 2, 3])
def test_items_arrive_in_order_and_few_are_in_flight(most):
    stop, seen, begun, ended, largest = Stop(), [], 0, 0, 0
    items = Handover(most, stop)

    def make():
        nonlocal begun, largest
        for number in range(50):
            begun += 1
            largest = max(largest, begun - ended)
            assert items.put(number)
        items.close()

    with beside(stop, make=make):
        for item in items:
            seen.append(item)
            ended += 1
    assert seen == list(range(50))
    assert largest <= most


def test_a_consumer_that_needs_no_more_lets_the_producer_end():
    stop, wanted = Stop(), []
    items = Handover(1, stop)

    def make():
        while not wanted or wanted[-1]:
            wanted.append(items.put(len(wanted)))

    with beside(stop, make=make):
        arriving = iter(items)
        assert [next(arriving), next(arriving)] == [0, 1]
        arriving.close()
    assert wanted == [True, False]


def test_an_error_of_a_thread_stops_the_block_and_the_others():
    stop, others = Stop(), []
    items = Handover(1, stop)

    def fails():
        raise ValueError("the first")

    def waits():
        try:
            list(items)
        except Stopped:
            others.append("stopped")
            raise

    def block():
        with beside(stop, fails=fails, waits=waits):
            while True:
                items.put(1)

    with pytest.raises(ValueError, match="the first"):
        block()
    assert others in (["stopped"], [])  # it may have been stopped before it began


def test_an_error_of_the_block_stops_the_threads():
    stop = Stop()
    items = Handover(1, stop)
    with pytest.raises(KeyboardInterrupt), beside(stop, waits=lambda: list(items)):
        raise KeyboardInterrupt
