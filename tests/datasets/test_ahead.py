"""Work by threads, in order."""

import threading
import time

import pytest

from gankit.datasets.ahead import in_order


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order_whoever_ends_first(threads):
    def work(number):
        time.sleep(0.002 * (number % 3 == 0))
        return number * number

    assert list(in_order(work, range(20), threads)) == [number * number for number in range(20)]
    assert list(in_order(work, [], threads)) == []


def test_no_more_is_taken_than_is_at_work():
    taken = []

    def items():
        for number in range(10):
            taken.append(number)
            yield number

    results = in_order(lambda number: number, items(), 2)
    assert next(results) == 0
    assert len(taken) == 3
    results.close()
    assert len(taken) == 3


def test_several_are_at_work_at_once():
    both = threading.Barrier(2, timeout=20)
    assert list(in_order(lambda number: both.wait() >= 0, range(4), 2)) == [True] * 4


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_comes_where_its_result_would(threads):
    results = in_order(lambda number: 6 // number, [3, 2, 0, 1], threads)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
