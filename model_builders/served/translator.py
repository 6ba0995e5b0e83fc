"""What translators share of Triton's side: a request's tensors as questions, and who waits for the answers.
Copied beside model.py."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import triton_python_backend_utils as pb_utils

from model_builders.served.backend import (
    integers,
    parsed_or_refused,
    refusal,
    respond,
    response_of,
    start,
    strings,
)
from model_builders.served.callers import Caller
from model_builders.served.search import Asker
from model_builders.served.streaming import Stream, Tensors
from model_builders.served.translating import GREEDY, Answering, Question, tensors
from model_builders.served.vectors import BadQuestion

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TranslatorModel:
    """What Triton calls; an architecture says how its version folder is loaded.

    One folder serves in two ways: a request gets its whole answer, or, where the configuration is decoupled,
    a stream of responses.
    """

    load: ClassVar[Callable[..., Any]]
    tensors: ClassVar[Callable[..., dict[str, Any]]] = staticmethod(tensors)

    def initialize(self, args: dict[str, str]) -> None:
        self._answering = start(args, self.load)
        policy = json.loads(args["model_config"]).get("model_transaction_policy", {})
        self._streams = bool(policy.get("decoupled", False))
        self._tokens = Counter(args, "nlp_tokens_written_total", "Tokens of translations, also of cut ones.")
        self._left = Counter(args, "nlp_requests_cancelled_total", "Requests whose client left, cut there.")

    def execute(self, requests: Sequence[Any]) -> list[Any] | None:
        if self._streams:
            self._stream(requests)
            return None
        callers = [Caller(request.is_cancelled) for request in requests]
        waiting: list[Asker] = []
        arrivals = iter(callers)

        def parse(request: Any) -> list[Any]:
            caller, questions = next(arrivals), self._parse(request)
            waiting.extend([caller] * len(questions))
            return questions

        responses = respond(requests, parse, partial(self._answer, waiting), self.tensors)
        return [_farewell() if one.left else given for one, given in zip(callers, responses, strict=True)]

    def _answer(self, waiting: list[Asker], questions: list[Any]) -> list[Any]:
        answers: list[Any] = self._answering.answer(questions, waiting)
        self._tokens.add(sum(len(answer.found.words) for answer in answers))
        self._left.add(len({id(one) for one in waiting if isinstance(one, Caller) and one.left}))
        return answers

    def _parse(self, request: Any) -> list[Any]:
        return questions_of(request, self._answering)

    def _stream(self, requests: Sequence[Any]) -> None:
        """All of them at once, as a batch; each stream ends when its own text does."""
        questions, streams, callers = [], [], []
        for request in requests:
            sender = request.get_response_sender()
            parsed = parsed_or_refused(request, self._parse_one)
            if not isinstance(parsed, list):
                sender.send(refusal(parsed), flags=FINAL)
                continue
            callers.append(Caller(sender.is_cancelled))
            send = partial(_send, sender, callers[-1], set(request.requested_output_names()))
            streams.append(Stream(self._answering, parsed[0], send, callers[-1].gone))
            questions += parsed
        answers = self._answering.answer(questions, streams)
        self._tokens.add(sum(len(answer.found.words) for answer in answers))
        self._left.add(sum(caller.left for caller in callers))

    def _parse_one(self, request: Any) -> list[Any]:
        questions = self._parse(request)
        if len(questions) > 1:
            raise BadQuestion(
                f"text has {len(questions)} rows; this model streams, and a stream is of one text. Send a "
                "request for each."
            )
        return questions


def _send(sender: Any, caller: Caller, names: set[str], given: Tensors, last: bool) -> None:
    if caller.left:
        if last:
            sender.send(_farewell(), flags=FINAL)
        return
    response = response_of({name: tensor for name, tensor in given.items() if name in names})
    sender.send(response, flags=FINAL if last else 0)


def _farewell() -> Any:
    """For who has left; Triton sends it to nobody."""
    error = pb_utils.TritonError("The client cancelled the request.", pb_utils.TritonError.CANCELLED)
    return pb_utils.InferenceResponse(error=error)


class Counter:
    """On Triton's page of metrics, with the labels `model` and `version`."""

    def __init__(self, args: dict[str, str], name: str, text: str) -> None:
        kind = pb_utils.MetricFamily.COUNTER
        self._family = pb_utils.MetricFamily(name=name, description=text, kind=kind)
        labels = {"model": args["model_name"], "version": args["model_version"]}
        self._metric = self._family.Metric(labels=labels)

    def add(self, count: int) -> None:
        if count:
            self._metric.increment(count)


def questions_of(request: Any, answering: Answering) -> list[Question]:
    """Raises BadQuestion: the request then gets an error of its own."""
    texts = strings(request, "text")
    if texts is None:
        raise BadQuestion("text is missing; it must be given.")
    sizes = integers(request, "beam_size") or [GREEDY] * len(texts)
    questions = [Question(text, size) for text, size in zip(texts, sizes, strict=True)]
    for question in questions:
        answering.check(question)
    return questions
