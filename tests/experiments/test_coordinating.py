"""What a coordinator decides by what it knows: the rule alone, without server, clock and chance."""

from collections import Counter
from typing import Any

import pytest
from taskloom import v1
from taskloom_experiments.coordinating import Assignment, Board

TAGS = frozenset({"code"})


def task(name: str, revision: int = 1, *, ready: bool = True, **fields: Any) -> v1.Task:
    """A task as a server would tell it."""
    told = v1.Task(id=name, revision=revision, ready=ready, **{"priority": 5, **fields})
    if told.worker_id:
        told.claim_revision = revision
        told.ready = False
    return told


def board_of(*tasks: v1.Task, workers: int = 0, max_backlog: int = 1) -> Board:
    """A board that knows of tasks, and of workers w1, w2 and so on."""
    board = Board(max_backlog)
    for number in range(1, workers + 1):
        board.worker_came(f"w{number}", TAGS)
    for one in tasks:
        board.task(one, ended=False)
    return board


def decided(board: Board, batch: int = 10) -> list[tuple[str, str]]:
    """What it decides, as pairs."""
    return [(one.task_id, one.worker_id) for one in board.decide(batch)]


def test_best_task_goes_to_whoever_waits_longest() -> None:
    """Priority comes first, and workers have their turns."""
    board = board_of(task("low"), task("high", priority=9), task("mid", priority=7), workers=2)
    assert decided(board) == [("high", "w1"), ("mid", "w2")]
    assert decided(board) == []


def test_batch_is_the_most_that_is_decided_at_once() -> None:
    """What is beyond it is for the next round."""
    board = board_of(task("a"), task("b"), task("c"), workers=3)
    assert len(decided(board, batch=2)) == 2
    assert len(decided(board, batch=2)) == 1


def test_worker_that_ends_its_task_stands_last_in_line() -> None:
    """Work goes round: who was done first waits longest."""
    board = board_of(workers=2)
    for round_ in range(3):
        names = [f"{round_}a", f"{round_}b"]
        for name in names:
            board.task(task(name), ended=False)
        chosen = board.decide(2)
        assert [one.worker_id for one in chosen] == ["w1", "w2"]
        for one in chosen:
            board.settle(one, task(one.task_id, 2, worker_id=one.worker_id))
            board.task(task(one.task_id, 3), ended=True)


def test_backlog_is_filled_when_everybody_has_something() -> None:
    """With a backlog of two nobody is given a second task while another has none."""
    names = [task(name) for name in "abcde"]
    board = board_of(*names, workers=2, max_backlog=2)
    whose = Counter(worker for _, worker in decided(board))
    assert whose == {"w1": 2, "w2": 2}


def test_tags_are_respected() -> None:
    """A task goes to who has all needed tags and one of the wanted; what nobody may take waits."""
    board = board_of(
        task("needs", needed_tags=["rust"], priority=9),
        task("wants", wanted_tags=["lead", "code"]),
        task("any", priority=1),
        workers=1,
    )
    board.worker_came("crab", frozenset({"rust"}))
    assert decided(board) == [("needs", "crab"), ("wants", "w1")]


def test_nothing_is_decided_without_anybody_or_anything() -> None:
    """Neither tasks without workers nor workers without tasks are a reason to look."""
    assert not board_of(task("a")).can_decide()
    assert not board_of(workers=2).can_decide()
    assert board_of(task("a"), workers=1).can_decide()


def test_parts_are_not_handed_out_but_keep_who_works_them_busy() -> None:
    """What an agent made of its task is its own and its helpers' business."""
    board = board_of(task("part", tags=["part"]), workers=1)
    assert decided(board) == []
    board.task(task("part", 2, tags=["part"], worker_id="w1"), ended=False)
    board.task(task("whole"), ended=False)
    assert decided(board) == []


def test_task_that_comes_back_is_assigned_anew() -> None:
    """After a failed attempt a task is ready again, and its worker free."""
    board = board_of(task("a"), workers=1)
    (chosen,) = board.decide(1)
    board.settle(chosen, task("a", 2, worker_id="w1"))
    assert decided(board) == []
    board.task(task("a", 5), ended=False)
    assert decided(board) == [("a", "w1")]


def test_late_news_changes_nothing() -> None:
    """An event that tells of an earlier revision than the answer does not make a task ready."""
    board = board_of(task("a", 3), workers=2)
    (chosen,) = board.decide(1)
    board.settle(chosen, task("a", 7, worker_id="w1"))
    board.task(task("a", 3), ended=False)
    assert decided(board) == []


def test_task_that_came_back_before_the_answer_is_had_again() -> None:
    """The event of a failure may be faster than the answer to the assignment."""
    board = board_of(task("a", 3), workers=2)
    (chosen,) = board.decide(1)
    board.task(task("a", 9), ended=False)
    board.settle(chosen, task("a", 7, worker_id="w1"))
    assert decided(board) == [("a", "w2")]


def test_refused_assignment_frees_the_worker_and_waits_for_news_of_the_task() -> None:
    """What cannot be assigned is not tried again and again."""
    board = board_of(task("a"), task("b", priority=1), workers=1)
    (chosen,) = board.decide(1)
    board.settle(chosen, None)
    assert decided(board) == [("b", "w1")]


def test_worker_whose_lease_ran_out_is_given_nothing_until_it_is_heard_of() -> None:
    """Who vanished does not get the task that it lost."""
    board = board_of(task("a"), workers=1)
    (chosen,) = board.decide(1)
    board.settle(chosen, task("a", 2, worker_id="w1"))
    board.lease_expired("a")
    board.task(task("a", 3), ended=False)
    assert decided(board) == []
    board.heard_of("w1")
    assert decided(board) == [("a", "w1")]


def test_worker_that_left_is_given_nothing_and_may_come_back() -> None:
    """Disconnected is gone; connected again is there."""
    board = board_of(task("a"), workers=1)
    board.worker_left("w1")
    assert decided(board) == []
    board.worker_came("w1", TAGS)
    assert decided(board) == [("a", "w1")]


@pytest.mark.parametrize(
    ("told", "rests"),
    [
        (task("a", ready=False), True),
        (task("a"), False),
        (task("a", worker_id="w1"), False),
    ],
    ids=["blocked", "ready", "held"],
)
def test_board_is_at_rest_when_nothing_is_ready_or_held(told: v1.Task, rests: bool) -> None:
    """Waiting tasks do not move by themselves; ready and held ones do, until they end."""
    assert board_of(told, workers=1).at_rest is rests
    ended = board_of(told, workers=1)
    ended.task(task("a", 3), ended=True)
    assert ended.at_rest


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_many_tasks_and_workers_are_each_decided_once(batch: int) -> None:
    """Whatever the batch, nobody has more than the backlog and no task is given twice."""
    board = board_of(*(task(f"t{n:03}") for n in range(300)), workers=20, max_backlog=3)
    chosen: list[Assignment] = []
    while more := board.decide(batch):
        chosen += more
    assert len({one.task_id for one in chosen}) == len(chosen) == 60
    assert set(Counter(one.worker_id for one in chosen).values()) == {3}
