"""Memory of values that don't outlive a run."""

import threading

from iree_migraphx.binding import scratch


def test_outside_of_a_run_there_is_none():
    assert scratch.take(100) is None
    with scratch.run():
        assert scratch.take(100) is not None
    assert scratch.take(100) is None


def test_every_piece_is_aligned_and_apart():
    with scratch.run():
        starts = sorted(scratch.take(size) for size in (100, 100, 100, 64, 1))
    assert all(start % scratch.ALIGNMENT == 0 for start in starts)
    assert len(set(starts)) == 5


def test_the_next_run_gets_the_same_memory_and_what_it_leaves_is_given_back():
    def run(*sizes):
        with scratch.run():
            return {scratch.take(size) for size in sizes}

    first = run(1000, 1000, 3000)
    assert run(1000, 1000, 3000) == first
    assert run(1000) <= first
    assert sum(len(each) for each in scratch._pool.free.values()) == 1


def test_a_run_inside_another_keeps_its_hands_off():
    with scratch.run():
        outer = scratch.take(500)
        with scratch.run():
            inner = scratch.take(500)
        assert scratch.take(500) not in (outer, inner)


def test_threads_have_their_own():
    found = []
    barrier = threading.Barrier(2)

    def work():
        for _ in range(3):
            with scratch.run():
                found.append(scratch.take(700))
                barrier.wait()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 2


def test_a_run_that_fails_gives_everything_back():
    try:
        with scratch.run():
            first = scratch.take(900)
            raise ValueError
    except ValueError:
        pass
    with scratch.run():
        assert scratch.take(900) == first
