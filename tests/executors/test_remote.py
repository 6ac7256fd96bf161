"""What a body in a worker process holds: the thread that ends it and its own meet there."""

from __future__ import annotations

from concurrent.futures import Future

from fleetmon.runtime.executors.remote import WorkerAgent


def test_a_body_that_asks_while_it_is_told_to_end_does_not_wait_for_ever():
    def ask():
        agent.end()  # the worker's main thread, between the body's look and its waiting
        return 1, Future()

    agent = WorkerAgent("a", 1, beat=print, ask=ask, take_back=print)
    assert agent._pull()[1].result(timeout=0) is None
    assert list(agent.tasks()) == []


def test_an_answer_that_comes_just_before_the_end_counts():
    future = Future()
    agent = WorkerAgent("a", 1, beat=print, ask=lambda: (1, future), take_back=print)
    agent._pull()
    future.done = lambda: False  # the other thread is between its look and its deed
    future.set_result("task")
    agent._waiting.add(future)
    agent.end()
    assert future.result(timeout=0) == "task"
