"""What a long job writes on standard error: one rewritten line on a terminal, a few whole lines elsewhere."""

from __future__ import annotations

import io

import pytest

from pipeline.commands.terminal import Progress, TrainingLog
from pipeline.training.epoch_line import EpochLine, duration


class Terminal(io.StringIO):
    """A text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def epoch(number: int, epochs: int = 38, *, is_last: bool = False) -> EpochLine:
    return EpochLine.of(number, epochs, loss=0.5, seconds=2.0 * number, first=0, is_last=is_last)


def test_the_line_of_an_epoch_has_loss_and_time_left():
    assert epoch(8) == "epoch   8/38   loss 0.500   60 s left"
    resumed = EpochLine.of(8, 38, loss=0.5, seconds=8.0, first=4.0, notes="   best so far", is_last=False)
    assert resumed == "epoch   8/38   loss 0.500   best so far   60 s left"
    assert epoch(38) == "epoch  38/38   loss 0.500" and epoch(38).is_last


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (99.4, "99 s"), (100, "2 min"), (7200, "2.0 h")])
def test_a_duration_has_one_unit(seconds: float, text: str):
    assert duration(seconds) == text


def test_elsewhere_than_on_a_terminal_one_epoch_in_ten_has_a_line():
    lines: list[str] = []
    log = TrainingLog(lines.append, io.StringIO())
    log("features: 80 videos")
    for number in range(1, 39):
        log(epoch(number))
    numbers = [line.split("/")[0].split()[-1] for line in lines]
    assert numbers[1:] == ["1", "10", "20", "30", "38"] and lines[0] == "features: 80 videos"
    log(epoch(7, is_last=True))  # the training ends early
    assert lines[-1].startswith("epoch   7/38")


def test_on_a_terminal_the_epochs_are_one_line_and_messages_begin_a_new_one():
    terminal, lines = Terminal(), []
    log = TrainingLog(lambda text: lines.append((terminal.getvalue(), text)), terminal)
    for number in (1, 2):
        log(epoch(number))
    assert terminal.getvalue().count("\r\033[K") == 2 and "\n" not in terminal.getvalue()
    log("a message")
    assert lines == [(terminal.getvalue(), "a message")] and terminal.getvalue().endswith("left\n")
    log.close()
    assert terminal.getvalue().count("\n") == 1
    log(epoch(38))
    assert terminal.getvalue().endswith("loss 0.500\n")


def test_a_pipe_gets_a_line_for_each_tenth_and_each_minute():
    now = [0.0]
    pipe = io.StringIO()
    progress = Progress("extracting features", pipe, lambda: now[0])
    for done in range(1, 101):
        now[0] += 2.0
        progress(done, 100)
    lines = pipe.getvalue().splitlines()
    assert [line.split()[2] for line in lines] == [f"{n}/100" for n in range(10, 101, 10)]
    assert lines[0] == "extracting features: 10/100   0.5 videos/s   3 min left"
    slow = io.StringIO()
    now[0] = 0.0
    progress = Progress("extracting features", slow, lambda: now[0])
    for done in range(1, 4):
        now[0] += 50.0
        progress(done, 1000)
    assert [line.split()[2] for line in slow.getvalue().splitlines()] == ["2/1000"]


def test_a_pipe_gets_no_progress_where_everything_is_stored():
    pipe = io.StringIO()
    progress = Progress("extracting features", pipe, lambda: 0.0)
    for done in range(1, 101):
        progress(done, 100)
    assert pipe.getvalue() == ""
