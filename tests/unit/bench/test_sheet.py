from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.sheet import KEPT, Drawn, Row, draw, main, read_sheet, score, wilson, write_sheet


def drawn(number: int, fate: str = KEPT) -> Drawn:
    return Drawn(Row(0, f"{number:016x}", "a", "D1:1", fate), f"fact {number}", ("Ana: it is so",))


FOUND = [*(drawn(number) for number in range(30)), *(drawn(number, "question") for number in range(30, 50))]


def test_a_draw_takes_so_many_of_each_and_is_the_same_again() -> None:
    once = draw(FOUND, kept=10, rejected=5, seed=1)
    assert [one.row.fate for one in once] == [KEPT] * 10 + ["question"] * 5
    assert len({one.row.fact for one in once}) == 15
    assert draw(FOUND, kept=10, rejected=5, seed=1) == once
    assert draw(FOUND, kept=10, rejected=5, seed=2) != once


def test_a_draw_of_more_than_there_are_takes_all() -> None:
    assert len(draw(FOUND, kept=1000, rejected=1000, seed=0)) == len(FOUND)


def test_a_draw_leaves_out_dialogues_that_were_read_before() -> None:
    assert draw(FOUND, kept=10, rejected=5, seed=1, leave_out=["a"]) == []
    assert len(draw(FOUND, kept=10, rejected=5, seed=1, leave_out=["b"])) == 15


def test_a_sheet_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rows = [Row(3, "ab", "c", "D1:1 D1:2", KEPT, "yes", 'said so, "at last"'), Row(3, "cd", "c", "", "negated")]
    write_sheet(tmp_path / "sheet.csv", rows)
    assert read_sheet(tmp_path / "sheet.csv") == rows


def test_score_counts_what_has_a_verdict() -> None:
    rows = [Row(0, str(n), "c", "", KEPT, "yes" if n else "no") for n in range(20)]
    rows += [Row(0, f"r{n}", "c", "", "question", "yes" if n < 2 else "no") for n in range(10)]
    rows += [Row(0, "unread", "c", "", KEPT)]
    kept, rejected = score(rows)
    assert kept.startswith("kept facts that their turns support: 19 of 20, 0.950 (0.764 to 0.991)")
    assert rejected.startswith("rejected that should have been kept: 2 of 10, 0.200")


@pytest.mark.parametrize(
    ("right", "total", "low", "high"), [(0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0), (0, 0, 0.0, 1.0)]
)
def test_wilson_at_the_ends(right: int, total: int, low: float, high: float) -> None:
    assert wilson(right, total) == pytest.approx((low, high), abs=5e-4)


def test_verdicts_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sheet.csv"
    write_sheet(path, [])
    with pytest.raises(SystemExit):
        main(["draw", str(path), "--folder", str(tmp_path)])
    assert "not overwritten" in capsys.readouterr().err
