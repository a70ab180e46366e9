"""Threads that wait for tokens: nobody starves, nobody waits for ever, Ctrl-C leaves no lock."""

from __future__ import annotations

import threading
import time

import pytest

from fledge.engine.turns import Inbox, Turns


class Kitchen:
    """Steps that bring news to one inbox after the other."""

    def __init__(self, pause: float = 0.001) -> None:
        self.turns, self.pause = Turns(), pause
        self.inboxes: list[Inbox] = []
        self.inside = self.most = self.steps = 0

    def step(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(self.pause)
        open_ones = [inbox for inbox in self.inboxes if inbox.open]
        if open_ones:
            open_ones[self.steps % len(open_ones)].news.append((0, self.steps))
        self.steps += 1
        self.inside -= 1

    def wait(self, inbox: Inbox) -> None:
        """As the loop of the engine does."""
        if inbox.waiting and self.turns.take(inbox):
            try:
                while inbox.waiting:
                    with self.turns.step():
                        self.step()
            finally:
                self.turns.give_up()

    def eat(self, inbox: Inbox, count: int) -> None:
        with self.turns.between_steps():
            inbox.open = 1
            self.inboxes.append(inbox)
        for _ in range(count):
            self.wait(inbox)
            inbox.news.popleft()
        with self.turns.between_steps():
            self.inboxes.remove(inbox)


def test_many_threads_are_all_served_one_step_at_a_time() -> None:
    kitchen = Kitchen()
    threads = [
        threading.Thread(target=kitchen.eat, args=(Inbox(), 10), daemon=True) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert kitchen.most == 1
    assert not kitchen.inboxes


def test_who_has_news_is_woken_while_others_step_on() -> None:
    kitchen = Kitchen(pause=0.01)
    busy, late = Inbox(), Inbox()
    thread = threading.Thread(target=kitchen.eat, args=(busy, 60), daemon=True)
    thread.start()
    while not kitchen.steps:
        time.sleep(0.001)
    before = kitchen.steps
    kitchen.eat(late, 5)
    assert kitchen.steps - before <= 25  # 10 with nothing else on the machine
    thread.join(30)
    assert not thread.is_alive()


def test_an_error_in_a_step_passes_the_turn_on() -> None:
    kitchen = Kitchen()
    good, bad = Inbox(), Inbox()
    good.open = bad.open = 1
    done: list[str] = []

    def fail() -> None:
        assert kitchen.turns.take(bad)
        try:
            with kitchen.turns.step():
                time.sleep(0.05)
                raise ValueError
        except ValueError:
            done.append("failed")
        finally:
            kitchen.turns.give_up()

    thread = threading.Thread(target=fail, daemon=True)
    thread.start()
    time.sleep(0.01)
    kitchen.inboxes.append(good)
    kitchen.wait(good)
    thread.join(10)
    assert done == ["failed"]
    assert good.news


def test_a_thread_does_not_wait_for_itself() -> None:
    """Ctrl-C may take it out between taking the turn and giving it up."""
    turns, inbox = Turns(), Inbox()
    inbox.open = 1
    assert turns.take(inbox)
    assert turns.take(inbox)
    turns._knocking.add(threading.get_ident())
    with turns.step():
        pass
    turns.give_up()


def test_a_step_waits_for_those_at_the_door() -> None:
    turns, order = Turns(), list[str]()
    inside = threading.Event()

    def come() -> None:
        with turns.between_steps():
            inside.set()
            time.sleep(0.05)
            order.append("came")

    thread = threading.Thread(target=come, daemon=True)
    thread.start()
    inside.wait(10)
    with turns.step():
        order.append("step")
    thread.join(10)
    assert order == ["came", "step"]


@pytest.mark.parametrize("count", [2, 5])
def test_waiting_threads_inherit_the_turn(count: int) -> None:
    """When the one who steps has what it wants, another goes on."""
    kitchen = Kitchen()
    inboxes = [Inbox() for _ in range(count)]
    threads = [
        threading.Thread(target=kitchen.eat, args=(inbox, 1 + 4 * number), daemon=True)
        for number, inbox in enumerate(inboxes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
