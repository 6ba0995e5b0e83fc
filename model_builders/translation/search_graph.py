"""Encoder, decoder and the search over translations as one ONNX graph, for Triton's backend of ONNX Runtime.

    tokens (N, S), lengths (N, 1), beam_size (N, 1) ──> token_ids (N, T), words (N, 1), score (N, 1),
                                                        finished (N, 1), attention (N, ..., T, S)

What served.search does in Python stands here once more, as ONNX's Loop: the same sums in 64 bits, and of
equal ones the same that comes first, so ids are equal. Greedy is a beam of one. Rows that ended step on until
all have, which changes nothing of them. The encoder's and the decoder's nodes are those of their own graphs,
with a word before their names.

Dimensions: N rows, K the largest beam of them, R = N K, S source tokens, t words so far, T words of the
longest translation and its END, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from model_builders.graphs import make_model
from model_builders.served.search import END, NEVER

FLOAT, DOUBLE, INT32 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32
INTEGER, BOOLEAN = TensorProto.INT64, TensorProto.BOOL

value = helper.make_tensor_value_info

NEXT = "next_"
"""Before the decoder's output that is its input, without this, at the next word."""


def build_search(encoder: ModelProto, decoder: ModelProto, max_tokens: int) -> ModelProto:
    """`max_tokens` is the most words of a translation. The same two graphs give the same bytes.

    Raises onnx's ValidationError.
    """
    return _Search(encoder.graph, decoder.graph, max_tokens).model()


class _Nodes:
    """Nodes as they are added, each with one output, named after it."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []

    def __call__(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output


class _Search:
    def __init__(self, encoder: GraphProto, decoder: GraphProto, max_tokens: int) -> None:
        self._encoder, self._decoder = encoder, decoder
        given = [one.name for one in decoder.output]
        self._changing = [name.removeprefix(NEXT) for name in given if name.startswith(NEXT)]
        self._kept = [
            one.name for one in decoder.input if one.name != "words" and one.name not in self._changing
        ]
        self._attends = "attention" in given
        logarithms = next(one for one in decoder.output if one.name == "log_probabilities")
        vocabulary = logarithms.type.tensor_type.shape.dim[1].dim_value
        never = np.zeros(vocabulary, dtype=np.float64)
        never[list(NEVER)] = -np.inf
        self._constants: dict[str, NDArray[Any]] = {
            "never": never,
            "vocabulary": np.array(vocabulary, dtype=np.int64),
            "limit": np.array(max_tokens, dtype=np.int64),
            "steps": np.array(max_tokens + 1, dtype=np.int64),
            "end": np.array(END, dtype=np.int64),
            "zero": np.array(0, dtype=np.int64),
            "one": np.array(1, dtype=np.int64),
            "axis_0": np.array([0], dtype=np.int64),
            "axis_1": np.array([1], dtype=np.int64),
            "axis_2": np.array([2], dtype=np.int64),
            "axis_before_last": np.array([-2], dtype=np.int64),
            "flat": np.array([-1], dtype=np.int64),
            "nothing": np.array([0], dtype=np.int64),
            "by_row": np.array([0, -1], dtype=np.int64),
            "minus_infinity": np.array(-np.inf, dtype=np.float64),
            "zero_64": np.array(0, dtype=np.float64),
            "true": np.array(True),
            "false_column": np.array([[False]]),
        }

    def model(self) -> ModelProto:
        add = _Nodes()
        self._begin(add)
        given = self._loop(add)
        outputs = self._answer(add, given)
        inputs = [
            value("tokens", INTEGER, ["N", "S"]),
            value("lengths", INTEGER, ["N", 1]),
            value("beam_size", INT32, ["N", 1]),
        ]
        return make_model("search", add.nodes, inputs, outputs, self._constants)

    def _begin(self, add: _Nodes) -> None:
        """Read the sources, and repeat what was read for each place of the beam."""
        add("Squeeze", ["lengths", "axis_1"], "lengths_flat")  # (N,)
        known = {"tokens": "tokens", "lengths": "lengths_flat"}
        add.nodes += self._inlined(self._encoder, "encoder", known)
        add("Cast", ["beam_size"], "sizes", to=INTEGER)  # (N, 1)
        add("ReduceMax", ["sizes"], "beam", keepdims=0)  # K
        add("Unsqueeze", ["beam", "axis_0"], "beam_axis")  # (1,)
        add("Shape", ["tokens"], "rows_axis", end=1)  # (1,)
        add("Squeeze", ["rows_axis"], "rows")  # N
        add("Mul", ["rows", "beam"], "all")  # R
        add("Range", ["zero", "all", "one"], "numbers")  # (R,)
        add("Div", ["numbers", "beam"], "owners")  # (R,): of which row each is
        add("Range", ["zero", "beam", "one"], "ranks_flat")
        add("Unsqueeze", ["ranks_flat", "axis_0"], "ranks")  # (1, K)
        add("Range", ["zero", "rows", "one"], "row_numbers_flat")
        add("Unsqueeze", ["row_numbers_flat", "axis_1"], "row_numbers")  # (N, 1)
        add("Mul", ["row_numbers", "beam"], "first_of_row")  # (N, 1): where its places begin among all
        for name in (*self._kept, *self._changing):
            add("Gather", [f"encoder/{name}", "owners"], f"begun/{name}", axis=0)
        add("Unsqueeze", ["all", "axis_0"], "all_axis")  # (1,)
        add("Expand", ["end", "all_axis"], "begun/words")  # (R,)
        # Only the first place of a beam is taken at first: (N, K).
        add("Concat", ["rows_axis", "beam_axis"], "beam_shape", axis=0)
        add("Equal", ["ranks", "zero"], "is_first")
        add("Where", ["is_first", "zero_64", "minus_infinity"], "first_totals")  # (1, K)
        add("Expand", ["first_totals", "beam_shape"], "begun/totals")
        add("Concat", ["all_axis", "nothing"], "no_words", axis=0)
        add("Expand", ["zero", "no_words"], "begun/ids")  # (R, 0)
        add("Concat", ["rows_axis", "nothing"], "no_words_of_row", axis=0)
        add("Expand", ["zero", "no_words_of_row"], "begun/best_ids")  # (N, 0)
        add("Concat", ["rows_axis", "axis_1"], "column", axis=0)  # N, 1
        add("Expand", ["zero", "column"], "begun/done")  # how many ended: (N, 1)
        add("Expand", ["zero", "column"], "begun/best_length")
        add("Expand", ["minus_infinity", "column"], "begun/best_score")
        add("Expand", ["false_column", "column"], "begun/best_finished")

    def _loop(self, add: _Nodes) -> dict[str, str]:
        """What it carries, by name, when it has ended."""
        carried = ["words", "totals", "ids", "best_ids", "done", "best_length", "best_score"]
        carried += ["best_finished", *self._changing]
        if self._attends:
            carried += ["attention", "best_attention"]
            self._no_attention(add)
        begun = [f"begun/{name}" for name in carried]
        ended = [f"ended/{name}" for name in carried]
        body = self._body(carried)
        add.nodes.append(helper.make_node("Loop", ["steps", "true", *begun], ended, body=body))
        return dict(zip(carried, ended, strict=True))

    def _no_attention(self, add: _Nodes) -> None:
        """(R, ..., 0, S) and (N, ..., 0, S)."""
        shape = self._attention_shape
        middle = [size.dim_value for size in shape[1:-1]]
        self._constants["attention_middle"] = np.array([*middle, 0], dtype=np.int64)
        self._constants["zero_32"] = np.array(0, dtype=np.float32)
        add("Shape", ["tokens"], "source_axis", start=1)  # (1,)
        for rows, name in (("all_axis", "attention"), ("rows_axis", "best_attention")):
            add("Concat", [rows, "attention_middle", "source_axis"], f"{name}_shape", axis=0)
            add("Expand", ["zero_32", f"{name}_shape"], f"begun/{name}")

    @property
    def _attention_shape(self) -> Sequence[Any]:
        """Of one step: (N, ..., S)."""
        found = next(one for one in self._decoder.output if one.name == "attention")
        return list(found.type.tensor_type.shape.dim)

    def _body(self, carried: Sequence[str]) -> GraphProto:
        """One word further. What it takes is `in/x`, what it gives `out/x`."""
        add = _Nodes()
        known = {name: f"begun/{name}" for name in self._kept}
        known |= {name: f"in/{name}" for name in ("words", *self._changing)}
        add.nodes += self._inlined(self._decoder, "decoder", known)
        self._choose(add)
        self._finish(add)
        self._go_on(add)
        kinds = {
            "words": INTEGER,
            "totals": DOUBLE,
            "ids": INTEGER,
            "best_ids": INTEGER,
            "done": INTEGER,
            "best_length": INTEGER,
            "best_score": DOUBLE,
            "best_finished": BOOLEAN,
        }
        inputs = [value("step", INTEGER, []), value("in/going", BOOLEAN, [])]
        outputs = [value("out/going", BOOLEAN, [])]
        for name in carried:
            kind = kinds.get(name, FLOAT)
            inputs.append(helper.make_tensor_value_info(f"in/{name}", kind, None))
            outputs.append(helper.make_tensor_value_info(f"out/{name}", kind, None))
        return helper.make_graph(add.nodes, "one_word", inputs, outputs)

    def _choose(self, add: _Nodes) -> None:
        """The best continuations of each row, the best first: (N, K)."""
        add("Cast", ["decoder/log_probabilities"], "logarithms", to=DOUBLE)
        add("Add", ["logarithms", "never"], "logarithms_allowed")  # (R, V)
        add("Reshape", ["in/totals", "flat"], "totals_flat")
        add("Unsqueeze", ["totals_flat", "axis_1"], "totals_column")  # (R, 1)
        add("Add", ["totals_column", "logarithms_allowed"], "continued")  # (R, V)
        add("Concat", ["rows_axis", "flat"], "row_shape", axis=0)
        add("Reshape", ["continued", "row_shape"], "of_row")  # (N, K V)
        add.nodes.append(helper.make_node("TopK", ["of_row", "beam_axis"], ["best", "choice"], axis=1))
        add("Div", ["choice", "vocabulary"], "slot")  # which place of the beam it continues
        add("Mul", ["slot", "vocabulary"], "slot_begins")
        add("Sub", ["choice", "slot_begins"], "word")
        add("Add", ["first_of_row", "slot"], "origin")  # the same among all: (N, K)
        add("Sub", ["sizes", "in/done"], "wanted")  # (N, 1)
        add("Less", ["ranks", "wanted"], "is_wanted")
        add("Greater", ["best", "minus_infinity"], "is_possible")
        add("And", ["is_wanted", "is_possible"], "is_kept")
        add("Equal", ["word", "end"], "is_end")
        add("And", ["is_kept", "is_end"], "ends")
        add("Not", ["is_end"], "is_word")
        add("And", ["is_kept", "is_word"], "stays")
        add("Equal", ["step", "limit"], "at_limit")
        add("And", ["stays", "at_limit"], "is_cut")
        add("Not", ["at_limit"], "below_limit")
        add("And", ["stays", "below_limit"], "goes_on")

    def _finish(self, add: _Nodes) -> None:
        """Remember the best translation of each row that came to its end, or if none did, that was cut."""
        add("Add", ["step", "one"], "length_with_end")
        add("Cast", ["length_with_end"], "length_with_end_64", to=DOUBLE)
        add("Div", ["best", "length_with_end_64"], "means")
        add("Where", ["ends", "means", "minus_infinity"], "end_scores")  # (N, K)
        add("Max", ["step", "one"], "length")
        add("Cast", ["length"], "length_64", to=DOUBLE)
        add("GatherElements", ["in/totals", "slot"], "totals_before", axis=1)
        add("Div", ["totals_before", "length_64"], "means_before")
        add("Where", ["is_cut", "means_before", "minus_infinity"], "cut_scores")
        for kind in ("end", "cut"):
            add("ArgMax", [f"{kind}_scores"], f"{kind}_rank", axis=1)  # (N, 1): the first of equal ones
            add("GatherElements", [f"{kind}_scores", f"{kind}_rank"], f"{kind}_score", axis=1)
            add("Greater", [f"{kind}_score", "in/best_score"], f"{kind}_is_better")
        # Scores of what was cut are none before the last step, so the best one so far came to its end.
        add("Identity", ["end_is_better"], "end_is_new")
        add("Or", ["in/best_finished", "end_is_better"], "out/best_finished")
        add("Not", ["out/best_finished"], "none_finished")
        add("And", ["none_finished", "cut_is_better"], "cut_is_new")
        add("Or", ["end_is_new", "cut_is_new"], "is_new")  # (N, 1)
        add("Where", ["cut_is_new", "cut_rank", "end_rank"], "new_rank")
        add("Where", ["cut_is_new", "cut_score", "end_score"], "new_score")
        add("Where", ["is_new", "new_score", "in/best_score"], "out/best_score")
        add("Where", ["is_new", "step", "in/best_length"], "out/best_length")
        add("GatherElements", ["origin", "new_rank"], "new_origin_column", axis=1)
        add("Squeeze", ["new_origin_column", "axis_1"], "new_origin")  # (N,)
        add("Gather", ["in/ids", "new_origin"], "new_ids", axis=0)  # (N, t)
        add("Where", ["is_new", "new_ids", "in/best_ids"], "best_ids")
        add("Expand", ["zero", "column"], "no_word")
        add("Concat", ["best_ids", "no_word"], "out/best_ids", axis=1)  # (N, t + 1)
        if self._attends:
            middle = len(self._attention_shape) - 2  # axes between N and t
            self._constants["trailing"] = np.array(range(2, 4 + middle), dtype=np.int64)
            add("Unsqueeze", ["is_new", "trailing"], "is_new_matrix")
            add("Squeeze", ["is_new_matrix", "axis_1"], "is_new_attention")  # (N, 1, ..., 1)
            add("Gather", ["in/attention", "new_origin"], "new_attention", axis=0)  # (N, ..., t, S)
            inputs = ["is_new_attention", "new_attention", "in/best_attention"]
            add("Where", inputs, "best_attention")
            add("Gather", ["decoder/attention", "new_origin"], "a_row", axis=0)
            add("Unsqueeze", ["a_row", "axis_before_last"], "a_line")
            add("Mul", ["a_line", "zero_32"], "no_line")  # (N, ..., 1, S)
            add("Concat", ["best_attention", "no_line"], "out/best_attention", axis=-2)
        add("Cast", ["ends"], "ends_as_numbers", to=INTEGER)
        add("ReduceSum", ["ends_as_numbers", "axis_1"], "ended_now", keepdims=1)
        add("Add", ["in/done", "ended_now"], "out/done")

    def _go_on(self, add: _Nodes) -> None:
        """Each continuation takes along what its origin knows."""
        add("Reshape", ["origin", "flat"], "origins")  # (R,)
        add("Where", ["goes_on", "best", "minus_infinity"], "out/totals")
        add("Where", ["goes_on", "word", "end"], "next_words")
        add("Reshape", ["next_words", "flat"], "out/words")
        add("Gather", ["in/ids", "origins"], "ids_before", axis=0)
        add("Unsqueeze", ["out/words", "axis_1"], "words_column")
        add("Concat", ["ids_before", "words_column"], "out/ids", axis=1)  # (R, t + 1)
        for name in self._changing:
            add("Gather", [f"decoder/{NEXT}{name}", "origins"], f"out/{name}", axis=0)
        if self._attends:
            add("Gather", ["in/attention", "origins"], "attention_before", axis=0)
            add("Gather", ["decoder/attention", "origins"], "looked", axis=0)
            add("Unsqueeze", ["looked", "axis_before_last"], "looked_line")
            add("Concat", ["attention_before", "looked_line"], "out/attention", axis=-2)
        add("Cast", ["goes_on"], "going_as_numbers", to=INTEGER)
        add("ReduceMax", ["going_as_numbers"], "any_going", keepdims=0)
        add("Cast", ["any_going"], "out/going", to=BOOLEAN)

    def _answer(self, add: _Nodes, ended: dict[str, str]) -> list[ValueInfoProto]:
        add("Cast", [ended["best_ids"]], "token_ids", to=INT32)
        add("Identity", [ended["best_length"]], "words")
        add("Cast", [ended["best_score"]], "score", to=FLOAT)
        add("Identity", [ended["best_finished"]], "finished")
        outputs = [
            value("token_ids", INT32, ["N", "T"]),
            value("words", INTEGER, ["N", 1]),
            value("score", FLOAT, ["N", 1]),
            value("finished", BOOLEAN, ["N", 1]),
        ]
        if self._attends:
            add("Identity", [ended["best_attention"]], "attention")
            middle = [size.dim_value for size in self._attention_shape[1:-1]]
            outputs.append(value("attention", FLOAT, ["N", *middle, "T", "S"]))
        return outputs

    def _inlined(self, graph: GraphProto, prefix: str, known: dict[str, str]) -> list[NodeProto]:
        """The nodes of a graph, every name but those of `known` with a prefix; its numbers become ours."""

        def rename(name: str) -> str:
            return known.get(name, f"{prefix}/{name}") if name else ""

        for tensor in graph.initializer:
            self._constants[rename(tensor.name)] = numpy_helper.to_array(tensor)
        renamed = []
        for one in graph.node:
            copy = NodeProto()
            copy.CopyFrom(one)
            copy.input[:] = [rename(name) for name in one.input]
            copy.output[:] = [rename(name) for name in one.output]
            copy.name = ""
            renamed.append(copy)
        return renamed
