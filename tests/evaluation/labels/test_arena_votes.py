"""Votes as a table, and what they say about preferences."""

from __future__ import annotations

import pytest

from halo_notebook import Session, Turn, Vote
from halo_notebook.evaluation.labels.arena_votes import Ballot, ballots, preferences_frame, votes_frame
from halo_notebook.reply import Reply


def ballot(winner: str = "", outcome: str = "", configs: str = "ab", *, counted: bool = True) -> Ballot:
    names = tuple(configs)
    kind = "won" if winner else outcome
    return Ballot(
        Vote("r", names[0], names, kind, winner, blind=True, at="2026-01-02T03:04:05+00:00"),  # type: ignore[arg-type]
        "Hello",
        counted,
    )


@pytest.mark.parametrize(
    ("a_wins", "b_wins", "p"),
    [(1, 0, 1.0), (6, 0, 0.03125), (0, 6, 0.03125), (5, 5, 1.0), (9, 1, 0.021484375), (60, 40, 0.05688793)],
)
def test_the_test_is_the_exact_binomial_test(a_wins: int, b_wins: int, p: float) -> None:
    """As scipy gives it; ties are left out, and the interval holds the share."""
    scipy = pytest.importorskip("scipy.stats")
    cast = [ballot("a")] * a_wins + [ballot("b")] * b_wins + [ballot(outcome="tie")] * 3
    (row,) = preferences_frame(cast, ["a", "b"]).to_dict("records")
    assert row["p"] == pytest.approx(p) == pytest.approx(scipy.binomtest(a_wins, a_wins + b_wins).pvalue)
    assert (row["a wins"], row["b wins"], row["ties"]) == (a_wins, b_wins, 3)
    assert row["prefer a"] == pytest.approx(a_wins / (a_wins + b_wins))
    assert 0 <= row["prefer a low"] <= row["prefer a"] <= row["prefer a high"] <= 1


def test_no_vote_says_nothing() -> None:
    """A pair without votes has neither share nor p-value; some votes do not count."""
    for cast in ([], [ballot(outcome="tie"), ballot(outcome="both bad")], [ballot("a", counted=False)]):
        (row,) = preferences_frame(cast, ["a", "b"]).to_dict("records")
        assert row["prefer a"] is None and row["p"] is None
    assert votes_frame([], ["a", "b"]).empty


def test_each_pair_is_compared() -> None:
    """A vote for one of three is a win over each of the others, and says nothing about those."""
    cast = [ballot("b", configs="abc"), ballot("c", configs="bc"), ballot(outcome="both bad", configs="abc")]
    rows = preferences_frame(cast, ["a", "b", "c"]).to_dict("records")
    assert [(row["a"], row["b"], row["a wins"], row["b wins"], row["both bad"]) for row in rows] == [
        ("a", "b", 0, 1, 1),
        ("a", "c", 0, 0, 1),
        ("b", "c", 1, 1, 1),
    ]


@pytest.mark.parametrize(
    ("statuses", "counted"),
    [
        ("complete complete", True),
        ("failed complete", False),
        ("complete stopped", False),
        ("failed failed", False),
    ],
)
def test_a_round_is_one_ballot(statuses: str, counted: bool) -> None:
    """The turns of a round are in several sessions; the first of a conversation counts, on whole replies."""
    status = dict(zip("ab", statuses.split(), strict=True))

    def voted(message: str, round_: str, config: str, at: int) -> Turn:
        won = config == "a"
        vote = Vote(
            round_,
            config,
            ("a", "b"),
            "won" if won else "lost",
            "a",
            blind=True,
            at=f"2026-01-0{at}T00:00:00+00:00",
        )
        reply = Reply()
        reply.status = status[config]  # type: ignore[assignment]
        return Turn({"message": message}, reply, vote=vote)

    def turns(config: str) -> list[Turn]:
        return [Turn({"message": "?"}, Reply()), voted("x", "1", config, 2), voted("y", "2", config, 1)]

    sessions = [Session(name, turns=turns(name)) for name in "ab"]
    assert [(each.message, each.counted) for each in ballots(sessions)] == [("y", False), ("x", counted)]
    frame = votes_frame(ballots(sessions), ["a", "b"])
    assert frame["winner"].tolist() == ["a", "a"] and frame["outcome"].tolist() == ["win", "win"]
    assert frame["time"].dt.tz is not None
