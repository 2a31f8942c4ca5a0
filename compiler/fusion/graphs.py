"""The one door to networkx, which has no types: directed graphs of names."""
# pyright: basic

from __future__ import annotations

from collections.abc import Iterable

import networkx


def topological_order(nodes: Iterable[str], edges: Iterable[tuple[str, str]]) -> list[str] | None:
    """The nodes, every edge from earlier to later, in the given order where it is free; None if the
    edges have a cycle.

    >>> topological_order(["a", "b", "c"], [("c", "a")])
    ['b', 'c', 'a']
    """
    graph = networkx.DiGraph()
    order = {node: i for i, node in enumerate(nodes)}
    graph.add_nodes_from(order)
    graph.add_edges_from(edges)
    if not networkx.is_directed_acyclic_graph(graph):
        return None
    return list(networkx.lexicographical_topological_sort(graph, key=lambda node: order[node]))


def condense(
    nodes: Iterable[str], edges: Iterable[tuple[str, str]], group_of: dict[str, str]
) -> list[tuple[str, str]]:
    """The edges between groups, each once, without those inside one.

    >>> condense("abc", [("a", "b"), ("b", "c")], {"a": "x", "b": "x", "c": "y"})
    [('x', 'y')]
    """
    graph = networkx.DiGraph()
    graph.add_nodes_from(group_of[node] for node in nodes)
    graph.add_edges_from((group_of[a], group_of[b]) for a, b in edges if group_of[a] != group_of[b])
    return list(graph.edges)
