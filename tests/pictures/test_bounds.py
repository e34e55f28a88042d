"""How large pictures may be, and how much of them is in memory at once."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugatit_cli.errors import PictureError
from ugatit_cli.pictures.bounds import MAX_PIXELS, Lazy, Room, check_pixels


def test_phones_and_screen_recordings_are_below_the_limit() -> None:
    check_pixels("phone.jpg", (16320, 12240), 1, MAX_PIXELS)
    check_pixels("screen.gif", (1280, 720), 300, MAX_PIXELS)


@pytest.mark.parametrize(("frames", "limit"), [(1, 99), (7, 699)])
def test_what_is_above_says_how_to_allow_it(frames: int, limit: int) -> None:
    with pytest.raises(PictureError) as caught:
        check_pixels("a.gif", (10, 10), frames, limit)
    assert caught.value.message.startswith("a.gif: ")
    assert "--max-pixels" in caught.value.hint
    check_pixels("a.gif", (10, 10), frames, limit + 1)
    check_pixels("a.gif", (10, 10), frames, None)


# --- Room for threads ----------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40))
@settings(max_examples=30, deadline=None)
def test_threads_never_have_more_than_there_is_and_all_get_through(wanted: list[int]) -> None:
    room, lock, has, most = Room(20), threading.Lock(), 0, 0

    def work(pixels: int) -> None:
        nonlocal has, most
        with room.taken(pixels):
            with lock:
                has += min(pixels, 20)
                most = max(most, has)
            with lock:
                has -= min(pixels, 20)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, wanted))
    assert (has, most <= 20) == (0, True)


def test_a_large_one_is_not_overtaken() -> None:
    room, order, entered = Room(10), [], threading.Event()

    def work(pixels: int) -> None:
        with room.taken(pixels):
            order.append(pixels)

    def first() -> None:
        with room.taken(1):
            entered.set()
            leave.wait(60)

    leave = threading.Event()
    threads = [threading.Thread(target=first)]
    threads[0].start()
    entered.wait(60)
    for pixels in (10, 2, 3):
        threads.append(threading.Thread(target=work, args=(pixels,)))
        threads[-1].start()
        while len(room._queue) < len(threads) - 1:
            pass
    leave.set()
    for thread in threads:
        thread.join(60)
    assert order[0] == 10


def test_room_comes_back_after_a_failure() -> None:
    room = Room(10)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), room.taken(10):
            raise ZeroDivisionError
    with room.taken(10):
        pass


def test_who_has_some_gets_more_though_others_want_more_too() -> None:
    room, all_have_some, done = Room(10), threading.Barrier(2), threading.Semaphore(0)

    def work() -> None:
        with room.taken(5):
            all_have_some.wait(60)
            with room.taken(10), room.taken(10):
                done.release()

    for _ in range(2):
        threading.Thread(target=work, daemon=True).start()
    assert all(done.acquire(timeout=60) for _ in range(2))
    with room.taken(10):
        pass


def test_who_has_some_leaves_less_to_others() -> None:
    room, entered = Room(10), threading.Event()

    def work() -> None:
        with room.taken(1):
            entered.set()

    other = threading.Thread(target=work, daemon=True)
    with room.taken(5):
        with room.taken(5):
            other.start()
            while not (room._queue or entered.is_set()):
                pass
            assert not entered.is_set()
        assert entered.wait(60)
    other.join(60)


def test_large_ones_of_several_processes_share_a_lock() -> None:
    room, lock = Room(80), threading.Lock()
    room.begin(lock)
    with room.taken(10):
        assert not lock.locked()
    with room.taken(11):
        assert lock.locked()


# --- What is made when it is needed --------------------------------------------------------------------


class Made:
    """Something that can be watched."""

    def __init__(self, number: int) -> None:
        self.number = number


def test_only_the_last_one_is_kept() -> None:
    alive: weakref.WeakSet[Made] = weakref.WeakSet()

    def make(number: int) -> Made:
        assert not alive
        made = Made(number)
        alive.add(made)
        return made

    lazy = Lazy(make, range(1000, 1005))
    for index in range(5):
        assert lazy[index].number == 1000 + index
    assert [len(lazy), len(alive)] == [5, 1]


def test_slices_and_items_that_come_twice() -> None:
    made: list[str] = []
    lazy = Lazy(lambda item: made.append(item) or item.upper(), ["a", "a", "b"])  # type: ignore[func-returns-value]
    assert (lazy[0], lazy[1], made) == ("A", "A", ["a"])
    assert (lazy[1:], list(lazy), lazy[-1]) == (["A", "B"], ["A", "A", "B"], "B")
