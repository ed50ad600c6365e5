from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exp_pipeline.stats.designs.interleaving import Credit, credit, interleaving_preference, team_draft
from exp_pipeline.stats.labels.preference import Preference
from exp_pipeline.stats.results import NotEstimable

RANKING = st.lists(st.integers(0, 30), max_size=12, unique=True)


def estimated(result: Preference | NotEstimable) -> Preference:
    assert isinstance(result, Preference), result
    return result


@settings(max_examples=100, deadline=None)
@given(control=RANKING, treatment=RANKING, length=st.integers(1, 15), query=st.text(max_size=5))
def test_what_every_draft_keeps(control: list[int], treatment: list[int], length: int, query: str) -> None:
    shown = team_draft(control, treatment, length=length, salt="s", query=query)
    assert len(set(shown.items)) == len(shown.items) == min(length, len(set(control) | set(treatment)))
    for team, ranking in (("control", control), ("treatment", treatment)):
        own = [item for item, by in zip(shown.items, shown.teams, strict=True) if by == team]
        assert own == [item for item in ranking if item in own]
    # As long as both have items, teams stay within one pick of each other after every place.
    if set(control) == set(treatment):
        balance = np.cumsum([1 if team == "control" else -1 for team in shown.teams])
        assert np.abs(balance).max(initial=0) <= 1
    assert shown == team_draft(control, treatment, length=length, salt="s", query=query)


def test_each_ranking_gives_its_best_item_that_is_left() -> None:
    shown = team_draft("abcd", "bade", length=4, salt="s", query="7")
    taken: set[object] = set()
    for item, team in zip(shown.items, shown.teams, strict=True):
        ranking = "abcd" if team == "control" else "bade"
        assert item == next(x for x in ranking if x not in taken)
        taken.add(item)


def test_coins_are_fair_and_differ_between_queries_and_rounds() -> None:
    drafts = [team_draft("abcd", "efgh", length=4, salt="s", query=str(i)) for i in range(4000)]
    for place in (0, 2):
        share = np.mean([draft.teams[place] == "treatment" for draft in drafts])
        assert abs(share - 0.5) < 4 * 0.5 / 4000**0.5
    together = np.mean([draft.teams[0] == draft.teams[2] for draft in drafts])
    assert abs(together - 0.5) < 4 * 0.5 / 4000**0.5
    assert [d.teams for d in drafts] != [
        team_draft("abcd", "efgh", length=4, salt="t", query=str(i)).teams for i in range(4000)
    ]


def test_credit_and_outcome() -> None:
    shown = team_draft("abcd", "efgh", length=4, salt="s", query="1")
    assert credit(shown, set(shown.items)) == Credit(2, 2)
    assert credit(shown, []).outcome == 0.5
    own = [item for item, team in zip(shown.items, shown.teams, strict=True) if team == "treatment"]
    assert credit(shown, [own[0], own[0]]) == Credit(0, 1)
    assert credit(shown, own).outcome == 1.0
    with pytest.raises(ValueError, match="'z', which is not in the list"):
        credit(shown, ["z"])
    with pytest.raises(ValueError, match="treatment must not repeat"):
        team_draft("ab", "aa", length=2, salt="s", query="1")
    with pytest.raises(ValueError, match="length"):
        team_draft("ab", "ba", length=0, salt="s", query="1")


def simulated(
    rng: np.random.Generator, queries: int, users: int, better: float
) -> tuple[list[Credit], np.ndarray, np.ndarray]:
    """Ten items of which some are good; treatment puts a good one higher in a share of queries.

    Users click good items they look at; each looks as far down as is their habit. Also clicks if the lists
    were shown whole, to two halves of the queries.
    """
    habit = rng.uniform(0.3, 0.9, users)
    user = rng.integers(0, users, queries)
    credits, clicks = [], np.zeros(queries)
    for q in range(queries):
        good = set(rng.choice(10, 3, replace=False).tolist())
        control = rng.permutation(10).tolist()
        treatment = rng.permutation(10).tolist()
        if rng.random() < better:
            best = next(iter(good))
            treatment.remove(best)
            treatment.insert(0, best)

        def clicked(
            items: list[int], good: set[int] = good, look: float = float(habit[user[q]])
        ) -> list[int]:
            return [
                item
                for place, item in enumerate(items)
                if rng.random() < look ** (place + 1) and rng.random() < (0.8 if item in good else 0.1)
            ]

        shown = team_draft(control, treatment, length=6, salt="sim", query=f"{q}-{rng.integers(1 << 30)}")
        credits.append(credit(shown, clicked([int(str(item)) for item in shown.items])))
        clicks[q] = len(clicked((treatment if q % 2 else control)[:6])) > 0
    return credits, user, clicks


def test_size_without_difference_and_power_above_that_of_a_split_test() -> None:
    rng = np.random.default_rng(7)
    runs, queries, users = 50, 150, 40
    false_alarms = found = found_by_split = 0
    for _ in range(runs):
        credits, user, _ = simulated(rng, queries, users, 0.0)
        false_alarms += estimated(interleaving_preference(credits, user=user)).p_value < 0.05
        credits, user, clicks = simulated(rng, queries, users, 0.5)
        one = estimated(interleaving_preference(credits, user=user))
        found += one.p_value < 0.05 and one.share > 0.5
        treated = np.arange(queries) % 2 == 1
        a, b = clicks[~treated], clicks[treated]
        z = (b.mean() - a.mean()) / np.sqrt(a.var() / a.size + b.var() / b.size)
        found_by_split += z > 1.96
    assert false_alarms / runs < 0.05 + 4 * (0.05 * 0.95 / runs) ** 0.5
    assert found / runs > found_by_split / runs + 0.15


def test_the_readout_is_the_preference_of_lists_by_user() -> None:
    credits = [Credit(0, 3), Credit(1, 0), Credit(0, 0), Credit(0, 1), Credit(2, 1), Credit(0, 1)]
    found = estimated(interleaving_preference(credits, user=[1, 1, 2, 2, 3, 3]))
    assert found.method == "team-draft-clustered"
    assert found.share == pytest.approx((1 + 0 + 0.5 + 1 + 0 + 1) / 6)
    assert found.clusters == (3,)
    assert found.sign_test.of == "clusters"
    swapped = estimated(
        interleaving_preference([Credit(c.treatment, c.control) for c in credits], user=[1, 1, 2, 2, 3, 3])
    )
    assert swapped.share == pytest.approx(1 - found.share)
    assert isinstance(interleaving_preference([Credit(0, 0)] * 3), NotEstimable)
