"""Models that share a server are scaled as one: what the server gets, and what each of them then wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nlp_operator.planning.scaling import brain, early
from nlp_operator.planning.scaling.allocator import AllocatorSettings, Offer, Request, allocate
from nlp_operator.planning.scaling.brain import Decision, Memory, ModelInput
from nlp_operator.planning.scaling.company import Company, apart, as_one
from nlp_operator.planning.scaling.signals import Sample
from tests.nlp_operator.planning.scaling.test_brain import make_input, make_sample

SETTINGS = brain.Settings()
ALLOCATOR = AllocatorSettings()
SERVER = "server demo/nlp-shared-0"
OFFER = Offer("a", 1, 1.0, 1.0)


def make_request(name: str, late: list[float], current: int = 1, **fields: Any) -> Request:
    usual = Request(name, late, late, (OFFER,), {"a": current}, 1, 8)
    return replace(usual, **fields)


def shared_out(
    members: list[Request], company: Company, devices: int, *others: Request
) -> tuple[int, dict[str, int]]:
    """Replicas that the server is given, and what each member wants of them."""
    made = allocate([as_one(members, company), *others], {"a": devices}, ALLOCATOR)
    parts = apart(members, company, made, ALLOCATOR)
    wants = {name: sum(part.counts.values()) for name, part in parts.items()}
    return sum(made.counts[company.server].values()), wants


def falling(load: float, by: float = 0.1) -> list[float]:
    return [load * by**count for count in range(10)]


def test_the_server_gets_what_the_busiest_needs_and_the_others_want_what_they_need() -> None:
    members = [make_request("busy", falling(3.0, 0.2)), make_request("quiet", falling(0.05, 0.001))]
    given_, wants = shared_out(members, Company(SERVER, 1), devices=9)
    assert given_ == wants["busy"] >= 3
    assert wants["quiet"] == 1


def test_a_replica_costs_its_devices_once_however_many_share_it() -> None:
    members = [make_request(f"m{number}", falling(3.0, 0.2)) for number in range(5)]
    given_, wants = shared_out(members, Company(SERVER, 1), devices=3)
    assert given_ == 3
    assert set(wants.values()) == {3}


def test_what_none_of_them_alone_is_worth_is_wanted_by_one_for_all() -> None:
    members = [make_request(f"m{number}", [1.0, 0.006, 0.0]) for number in range(5)]
    given_, wants = shared_out(members, Company(SERVER, 1), devices=9)
    assert given_ == 2
    assert sorted(wants.values()) == [1, 1, 1, 1, 2]
    alone, of_one = shared_out(members[:1], Company(SERVER, 1), devices=9)
    assert (alone, of_one) == (1, {"m0": 1})


def test_who_wanted_it_for_all_goes_on_wanting_it() -> None:
    members = [
        make_request(f"m{number}", [1.0, 0.006 + number / 10_000, 0.0], 1 + (number == 2))
        for number in range(5)
    ]
    _, wants = shared_out(members, Company(SERVER, 2), devices=9)
    assert wants == {"m0": 1, "m1": 1, "m2": 2, "m3": 1, "m4": 1}


def test_a_model_that_may_not_grow_makes_its_server_no_larger() -> None:
    capped = make_request("capped", falling(9.0, 0.5), highest=1)
    given_, wants = shared_out([capped, make_request("quiet", falling(0.01))], Company(SERVER, 1), devices=9)
    assert (given_, wants) == (1, {"capped": 1, "quiet": 1})


def test_what_others_want_of_the_server_stays_though_these_need_less() -> None:
    given_, wants = shared_out([make_request("quiet", [0.0, 0.0])], Company(SERVER, 3, least=3), devices=9)
    assert (given_, wants) == (3, {"quiet": 1})


def test_a_server_gives_a_replica_to_a_model_that_needs_it_more() -> None:
    members = [make_request(f"m{number}", [0.02, 0.015, 0.0], 2) for number in range(2)]
    starved = make_request("starved", [9.0, 8.0, 0.0], 1)
    given_, wants = shared_out(members, Company(SERVER, 2), 3, starved)
    assert (given_, wants) == (1, {"m0": 1, "m1": 1})
    made = allocate([as_one(members, Company(SERVER, 2)), starved], {"a": 3}, ALLOCATOR)
    assert made.counts["starved"] == {"a": 2}
    (move,) = apart(members, Company(SERVER, 2), made, ALLOCATOR)["m0"].moves
    assert (move.kind, move.model, move.other) == ("Give", "m0", "starved")


requests = st.builds(
    lambda load, by, current, lowest, more, keep: make_request(
        "m", falling(load, by), current, lowest=lowest, highest=lowest + more, keep=keep
    ),
    st.sampled_from([0.0, 0.004, 0.05, 1.0, 20.0]),
    st.sampled_from([0.001, 0.1, 0.5, 0.9]),
    st.integers(1, 6),
    st.integers(0, 3),
    st.integers(0, 5),
    st.sampled_from([0.0, 1.0, 3.0]),
)


@given(
    members=st.lists(requests, min_size=1, max_size=5),
    other=requests,
    least=st.integers(0, 3),
    spare=st.integers(0, 5),
)
def test_the_server_has_what_those_want_who_want_most_and_no_device_twice(
    members: list[Request], other: Request, least: int, spare: int
) -> None:
    named = [replace(one, name=f"m{number}") for number, one in enumerate(members)]
    has = max(least, *(one.current["a"] for one in named))
    company = Company(SERVER, has, least)
    devices = has + other.current["a"] + spare
    made = allocate([as_one(named, company), replace(other, name="other")], {"a": devices}, ALLOCATOR)
    parts = apart(named, company, made, ALLOCATOR)
    given_ = made.counts[SERVER]["a"]
    wants = {name: sum(part.counts.values()) for name, part in parts.items()}
    assert max(least, *wants.values()) == given_ or given_ < least
    assert given_ + made.counts["other"]["a"] <= devices
    for one in named:
        assert min(one.lowest, given_) <= wants[one.name] <= max(one.highest, 0)
    again = apart(
        named[::-1],
        company,
        allocate([as_one(named[::-1], company), replace(other, name="other")], {"a": devices}, ALLOCATOR),
        ALLOCATOR,
    )
    assert again == parts


# --- in the brain ---


def inputs_of(
    rates: Mapping[str, float], at: float, wants: Mapping[str, int], **changes: Any
) -> list[ModelInput]:
    there = Company(SERVER, max(wants.values()))
    return [
        make_input(
            make_sample(at, rate), wants[name], name=name, company=there, speeds_known=False, **changes
        )
        for name, rate in sorted(rates.items())
    ]


def watch(
    memory: Memory, rates: Mapping[str, float], seconds: float, devices: int = 40
) -> dict[str, Decision]:
    """Look every ten seconds; what is decided is what runs at the next look."""
    wants, found, at = dict.fromkeys(rates, 1), {}, 0.0
    while at <= seconds:
        made = brain.decide(memory, inputs_of(rates, at, wants), {"a": devices}, at, SETTINGS)
        found = {one.name: one for one in made}
        wants = {one.name: one.total for one in made}
        at += 10
    return found


def test_a_model_alone_in_its_server_is_scaled_as_one_with_a_server_of_its_own() -> None:
    shared, own = Memory(), Memory()
    with_company = without = most = 1
    offered = at = 0.0
    for step in range(240):
        rate = 60.0 if 60 <= step < 120 else 5.0
        sample = make_sample(at, offered / max(at, 1.0))
        (one,) = brain.decide(
            shared,
            [make_input(sample, with_company, company=Company(SERVER, with_company))],
            {"a": 12},
            at,
            SETTINGS,
        )
        (other,) = brain.decide(own, [make_input(sample, without)], {"a": 12}, at, SETTINGS)
        assert (one.total, one.reason) == (other.total, other.reason)
        with_company, without, most = one.total, other.total, max(most, one.total)
        offered, at = offered + 10 * rate, at + 10
    assert (most, with_company) == (10, 2)


def test_the_busy_one_grows_and_its_neighbour_says_what_it_needs_itself() -> None:
    found = watch(Memory(), {"busy": 50.0, "quiet": 0.5}, 600)
    assert 6 <= found["busy"].total <= 9
    assert found["quiet"].total <= 2
    assert found["quiet"].refusals == {}


def test_a_server_that_finds_no_room_says_so_to_who_needs_it_only() -> None:
    found = watch(Memory(), {"busy": 50.0, "quiet": 0.5}, 600, devices=3)
    assert found["busy"].total == 3
    assert found["busy"].reason.endswith("there is no room in a.")
    assert found["quiet"].refusals == {}


def test_what_is_unknown_holds_the_server_as_it_is() -> None:
    memory = Memory()
    watch(memory, {"busy": 50.0, "quiet": 0.5}, 600)
    wants = {"busy": 7, "quiet": 1}
    for step in range(60):
        at = 610.0 + 10 * step
        given_ = inputs_of({"busy": 50.0, "quiet": 0.5}, at, wants)
        blind = [replace(one, sample=None) if one.name == "busy" else one for one in given_]
        made = {one.name: one.total for one in brain.decide(memory, blind, {"a": 40}, at, SETTINGS)}
        assert made["busy"] >= 7


def test_an_early_look_at_one_of_them_takes_nothing_from_the_server() -> None:
    memory = Memory()
    rates = {"busy": 50.0, "quiet": 2.0}
    wants = {name: one.total for name, one in watch(memory, rates, 600).items()}
    (quiet,) = [one for one in inputs_of(rates, 603.0, wants) if one.name == "quiet"]
    hurried = Sample([dict(quiet.sample.series[0], offered=2000.0)], 603.0, 99)  # type: ignore[union-attr]
    (decision,) = early.decide(
        memory, [replace(quiet, sample=hurried)], {"quiet": 5}, {"a": 40}, 603.0, SETTINGS
    )
    assert wants["quiet"] <= decision.total <= 5
    assert memory.servers[SERVER].worthy
