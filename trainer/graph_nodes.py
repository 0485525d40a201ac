"""What ONNX graphs are put together with: a collector of nodes and constants, and products of small matrices.

Knows ONNX and nothing of TMS; `trainer.graph_parts` has what all model files' graphs share.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper


class Nodes:
    """Collects nodes and constants, naming values that nobody outside refers to.

    Parameters
    ----------
    around
        The nodes of the graph that this one is a branch of: constants go there, and names do not repeat.
    """

    def __init__(self, around: "Nodes | None" = None) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = around.constants if around else []
        self._count: Iterator[int] = around._count if around else itertools.count()

    def constant(self, value: ArrayLike, dtype: type = np.float64, name: str = "") -> str:
        """Add a constant and return its name."""
        name = name or f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype, order="C"), name))
        return name

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = name or f"{operator.lower()}{next(self._count)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def choose(self, condition: str, then: "Branch", otherwise: "Branch") -> list[str]:
        """Add an `If` of two branches with as many float64 outputs each, and return the outputs' names."""
        graphs = []
        for (inner, outputs), name in ((then, "then"), (otherwise, "otherwise")):
            ends = [inner.add("Identity", output) for output in outputs]
            values = [helper.make_tensor_value_info(end, TensorProto.DOUBLE, None) for end in ends]
            graphs.append(helper.make_graph(inner.nodes, name, [], values))
        names = [f"if{next(self._count)}" for _ in then[1]]
        self.nodes.append(helper.make_node("If", [condition], names, then_branch=graphs[0], else_branch=graphs[1]))
        return names


Branch = tuple[Nodes, list[str]]
"""Nodes of a branch, and the names of its outputs."""


def outer(g: Nodes, left: str, right: str) -> str:
    """Return the name of the outer products (n, a, b) of (n, a) and (n, b)."""
    return g.add("Mul", g.add("Unsqueeze", left, axes(g, 2)), g.add("Unsqueeze", right, axes(g, 1)))


def transposed(g: Nodes, name: str) -> str:
    """Return the name of the transposed matrices (n, b, a) of (n, a, b)."""
    return g.add("Transpose", name, perm=[0, 2, 1])


def axes(g: Nodes, axis: int) -> str:
    """Return the name of a constant list of one axis, as ONNX wants them."""
    name = f"axis{axis}"
    if all(constant.name != name for constant in g.constants):
        g.constant([axis], np.int64, name)
    return name
