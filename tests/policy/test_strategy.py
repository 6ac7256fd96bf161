from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmon.errors import SpecError, UnknownAgentError
from fleetmon.policy.strategy import DependencyGraph, affected, start_order
from fleetmon.spec import AgentSpec


def spec(*depends_on, strategy="one_for_one", group=""):
    return AgentSpec(depends_on=depends_on, strategy=strategy, group=group)


@st.composite
def fleets(draw):
    size = draw(st.integers(1, 12))
    specs = {}
    for n in range(size):
        below = st.sampled_from(range(n)) if n else st.nothing()
        depends = draw(st.lists(below, unique=True, max_size=3)) if n else []
        specs[f"a{n}"] = spec(
            *(f"a{d}" for d in depends),
            strategy=draw(st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])),
            group=draw(st.sampled_from(["", "g", "h"])),
        )
    return {name: specs[name] for name in draw(st.permutations(sorted(specs)))}


def closure(specs, root):
    found = {root}
    while True:
        more = {n for n, s in specs.items() if set(s.depends_on) & found} | found
        if more == found:
            return found - {root}
        found = more


@given(fleets())
def test_07_dependencies_start_first_and_everybody_starts_once(specs):
    order = start_order(specs)
    assert sorted(order) == sorted(specs)
    for name, one in specs.items():
        assert all(order.index(d) < order.index(name) for d in one.depends_on)


@given(fleets())
def test_07_affected_is_what_the_strategy_says_in_order_of_start(specs):
    order = start_order(specs)
    graph = DependencyGraph(specs)
    for name, one in specs.items():
        expected = {
            "one_for_one": set(),
            "one_for_all": {n for n, s in specs.items() if s.group == one.group != ""} - {name},
            "rest_for_one": closure(specs, name),
        }[one.strategy]
        assert graph.affected(name) == tuple(n for n in order if n in expected)
        assert affected(name, specs) == graph.affected(name)


@given(fleets(), fleets(), st.data())
def test_07_a_graph_changed_by_add_and_remove_answers_as_one_built_anew(specs, others, data):
    graph = DependencyGraph(specs)
    specs = dict(specs)
    for name in data.draw(st.lists(st.sampled_from(sorted({*specs, *others})), max_size=8)):
        if name in specs and data.draw(st.booleans()):
            graph.remove(name)
            del specs[name]
            continue
        new = others.get(name, AgentSpec())
        before = {n: graph.affected(n) for n in specs}
        try:
            graph.add(name, new)
        except SpecError:
            assert {n: graph.affected(n) for n in specs} == before
            assert (name in graph) is (name in specs)
            continue
        specs[name] = new
        order = graph.in_order(specs)
        assert len(order) == len(graph) == len(specs)
        for n, s in specs.items():
            known = [d for d in s.depends_on if d in specs]
            assert all(order.index(d) < order.index(n) for d in known)
    for name, one in specs.items():
        if one.strategy == "rest_for_one":
            # a removed agent between two others still links nobody: it is not there to restart
            assert set(graph.affected(name)) == closure(specs, name)


def test_07_a_cycle_is_refused_with_its_path():
    with pytest.raises(SpecError, match=r"a cycle \(b -> c -> d -> b\); drop one"):
        start_order({"a": spec("b"), "b": spec("c"), "c": spec("d"), "d": spec("b")})
    with pytest.raises(SpecError, match=r"\(a -> a\)"):
        start_order({"a": spec("a")})
    with pytest.raises(SpecError, match=r"\(a -> a\)"):
        DependencyGraph().add("a", spec("a"))


def test_07_an_unknown_dependency_is_refused_with_its_path():
    with pytest.raises(SpecError, match=r"no agent 'ghost' \(a -> b -> ghost\); add it") as caught:
        start_order({"a": spec("b"), "b": spec("ghost")})
    assert (caught.value.field, caught.value.value) == ("depends_on", "ghost")
    graph = DependencyGraph({"a": spec()})
    with pytest.raises(SpecError, match=r"\(b -> ghost\)"):
        graph.add("b", spec("a", "ghost"))
    assert "b" not in graph
    with pytest.raises(UnknownAgentError, match="no agent 'b'"):
        graph.affected("b")


def test_07_an_agent_that_comes_back_starts_before_its_dependents_again_and_may_not_close_a_cycle():
    graph = DependencyGraph({"db": spec(strategy="rest_for_one"), "web": spec("db")})
    graph.remove("db")
    with pytest.raises(SpecError, match="cycle"):
        graph.add("db", spec("web"))
    graph.add("db", spec(strategy="rest_for_one"))
    assert graph.in_order(["web", "db"]) == ("db", "web")
    assert graph.affected("db") == ("web",)


def test_07_one_for_all_without_a_group_takes_nobody_along():
    specs = {name: spec(strategy="one_for_all") for name in "abc"}
    assert affected("a", specs) == ()


def test_07_group_members_linked_through_an_outsider_keep_their_order():
    specs = {
        "last": spec("between", group="g", strategy="one_for_all"),
        "between": spec("first"),
        "first": spec(group="g"),
        "mid": spec(group="g"),
    }
    assert affected(
        "mid", {**specs, "mid": specs["last"].model_copy(update={"depends_on": ()})}
    ) == (
        "first",
        "last",
    )


def test_07_a_chain_of_ten_thousand_is_ordered_without_recursion():
    size = 10_000
    specs = {f"n{n}": spec(f"n{n + 1}") for n in range(size)}
    specs[f"n{size}"] = spec(strategy="rest_for_one")
    order = start_order(specs)
    assert (order[0], order[-1]) == (f"n{size}", "n0")
    assert len(affected(f"n{size}", specs)) == size
