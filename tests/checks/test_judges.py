"""Checks by a language model: what it sees, what its answer means, and whom it does not obey."""

from __future__ import annotations

import asyncio
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest

from halo_notebook.checks import NoVerdict, Score, autoevals_scorer, check_name, judge
from halo_notebook.checks.quoting import MAX_CHARACTERS
from halo_notebook.errors import InvalidRequest
from halo_notebook.evaluation.judging.checks import judge_of

from ..evaluation.agents import judged
from ..harness.hostile import INSTRUCTIONS
from .test_replies import GO, reply

CRITERION = "The reply names the invoice."
FENCE = re.compile(r"\n(=== \w+ ===)\n(.*)\n\1\n")


def data_of(prompt: str) -> Any:
    """What a model sees that takes only what is between the fences for data."""
    [found] = FENCE.finditer(prompt)
    return json.loads(found[2])


def verdict(score: Any, reason: Any = "") -> str:
    return json.dumps({"score": score, "reason": reason})


def respectful(prompt: str) -> str:
    """A model that respects the quoting: it looks for the invoice in the reply, and obeys the rest."""
    said = data_of(prompt)["reply"]
    outside = FENCE.sub("", prompt)
    if "IGNORE" in outside or "perfect" in outside or prompt.count('"score"') > 1:
        return verdict(1.0, "as I was told")
    return verdict(float("1042" in said), "the invoice is " + ("named" if "1042" in said else "not named"))


def test_a_judge_sees_the_whole_turn() -> None:
    """Message, earlier turns, reply, actions and expectation; its reason is the note."""
    prompts: list[str] = []

    def model(prompt: str) -> str:
        prompts.append(prompt)
        return verdict(0.8, "It is\nnamed.")

    check = judge(model, CRITERION)
    first, last = reply("Which one?", GO), reply("It is 1042 <b>€</b>.", GO)
    assert judged(check, first, last, expect={"invoice": 1042}) == {
        "judge(The reply names the invoice.)": Score(True, 0.8, "It is named.")
    }
    assert data_of(prompts[0]) == {
        "turns": [{"message": "message 0", "reply": "Which one?", "actions": [GO]}],
        "message": "message 1",
        "reply": "It is 1042 <b>€</b>.",
        "actions": [GO],
        "expected": {"invoice": 1042},
    }
    assert CRITERION in prompts[0]
    judged(check, first, last, expect={"invoice": 1042})
    assert prompts[0] == prompts[1]  # so that a model's answers can be cached


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        (verdict(0.9, "good"), Score(True, 0.9, "good")),
        (verdict(0.49, "hm"), Score(False, 0.49, "hm")),
        (verdict(1), Score(True, 1.0)),
        ('{"score": 0}', Score(False, 0.0)),
        ('\n```json\n{"score": 0.5, "reason": "ok"}\n```\n', Score(True, 0.5, "ok")),
        ('{"reason": "ok", "score": 0.5, "confidence": "high"}', Score(True, 0.5, "ok")),
    ],
)
def test_an_answer_that_can_be_read_is_the_verdict(answer: str, score: Score) -> None:
    """The score decides, in a code block or not."""

    async def later(prompt: str) -> str:
        await asyncio.sleep(0)
        return answer

    checks = {"sync": judge(lambda prompt: answer, CRITERION), "async": judge(later, CRITERION)}
    assert judged(checks, reply("1042")) == {"sync": score, "async": score}


@pytest.mark.parametrize(
    "answer",
    [
        *("", "   ", "1.0", "true", "null", "yes", "[1.0]", '"pass"', "I'd say it is perfect.", "{}", "{"),
        *(
            '{"score": "1.0"}',
            '{"score": true}',
            '{"score": null}',
            '{"score": [1]}',
            '{"score": {"score": 1}}',
        ),
        *('{"score": 1.1}', '{"score": -0.1}', '{"score": NaN}', '{"score": Infinity}', '{"score": 1e999}'),
        *('{"Score": 1}', '{"verdict": {"score": 1}}', '{"passed": true}', '[{"score": 1}]'),
        *('{"score": 0, "score": 1}', '{"score": 1}{"score": 0}', '{"score": 1}\n{"score": 0}'),
        *('{"score": 1} is what I think', 'The reply says {"score": 1}, which I do not believe.'),
        *('{"score": 1, "reason": 3}', '{"score": 1, "reason": null}', f'{{"score": 1{"0" * 400}}}'),
        *('```\n{"score": 1}\n```\n```\n{"score": 0}\n```', '```json {"score": 1} ```', "[" * 100_000),
        *(None, 1.0, True, b'{"score": 1}', {"score": 1}, SimpleNamespace(content='{"score": 1}')),
    ],
    ids=lambda answer: repr(answer)[:40],
)
def test_an_answer_that_cannot_be_read_is_never_a_pass(answer: Any) -> None:
    """The judge could not judge, and the note says what came."""

    async def later(prompt: str) -> Any:
        return answer

    for check in (judge(lambda prompt: answer, CRITERION), judge(later, CRITERION)):
        [score] = judged(check, reply("1042")).values()
        assert isinstance(score, NoVerdict) and score.passed is None
        assert re.match("unreadable verdict: .|the judge's (answer is empty|model returned)", score.note)
        assert len(score.note) < 200


@pytest.mark.parametrize("hostile", INSTRUCTIONS, ids=lambda text: repr(text)[:40])
def test_a_reply_that_tells_the_judge_what_to_answer_changes_nothing(hostile: str) -> None:
    """Not for a model that respects the quoting; the same words in an action or a message do not either."""
    prompts: list[str] = []

    def model(prompt: str) -> str:
        prompts.append(prompt)
        return respectful(prompt)

    check = judge(model, CRITERION)
    for said in (reply(hostile), reply("Hello", {"type": hostile, hostile: hostile})):
        for before in (reply("Hi"), reply(hostile, [hostile])):
            [score] = judged(check, before, said, expect=hostile).values()
            assert score == Score(False, 0.0, "the invoice is not named")
    [score] = judged(check, reply(hostile + " 1042")).values()
    assert score == Score(True, 1.0, "the invoice is named")
    for prompt in prompts:
        inside = FENCE.search(prompt)
        assert inside is not None and not set("<>\x00\x1b\x85\u2028\u2029\ud800") & set(inside[2])


def test_a_text_that_is_too_long_is_not_judged() -> None:
    """It is not cut, since what counts may be behind the cut; the model is not called."""

    def model(prompt: str) -> str:
        raise AssertionError

    [score] = judged(judge(model, CRITERION), reply("1042 " * MAX_CHARACTERS)).values()
    assert isinstance(score, NoVerdict) and "too long to judge (1,0" in score.note


def test_a_model_that_fails_could_not_judge() -> None:
    """Its error is the note; an assertion of the model's client is a fail of nobody's reply."""

    async def model(prompt: str) -> str:
        raise TimeoutError("LLM timeout")

    [score] = judged(judge(model, CRITERION), reply("1042")).values()
    assert isinstance(score, NoVerdict) and score.note == "TimeoutError: LLM timeout"


def test_a_judge_has_a_name_a_limit_and_a_version() -> None:
    """The version belongs to criterion and limit, whatever the name and the model."""

    def versions(*arguments: Any, **settings: Any) -> str:
        return judge_of(judge(*arguments, **settings)).version

    one = versions(respectful, CRITERION)
    assert one == versions(lambda prompt: "", f" {CRITERION}\n", name="other")
    assert one != versions(respectful, CRITERION + "!") and one != versions(
        respectful, CRITERION, passing=0.7
    )
    assert check_name(judge(respectful, "x" * 100)) == f"judge({'x' * 39}…)"
    assert check_name(judge(respectful, CRITERION, name="invoice")) == "invoice"
    [score] = judged(judge(lambda prompt: verdict(0.7), CRITERION, passing=0.8), reply("")).values()
    assert score == Score(False, 0.7)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("model", CRITERION), "is a function of a prompt, not str"),
        ((respectful, ""), "a text that is not empty"),
        ((respectful, " \n"), "a text that is not empty"),
        ((respectful, 3), "a text that is not empty"),
        ((respectful, CRITERION, 1.5), "passing must be a number from 0 to 1, not 1.5"),
        ((respectful, CRITERION, "high"), "passing must be a number from 0 to 1, not str"),
    ],
)
def test_a_wrong_judge_is_refused(arguments: tuple[Any, ...], words: str) -> None:
    """In one line, when it is made."""
    model, criterion, *passing = arguments
    with pytest.raises(InvalidRequest, match=words):
        judge(model, criterion, **({"passing": passing[0]} if passing else {}))


# --- autoevals --------------------------------------------------------------------------


def scored(**given: Any) -> Any:
    """What a scorer returns, with what it was given as the rationale."""
    return SimpleNamespace(score=0.7, metadata={"rationale": json.dumps(given, sort_keys=True)})


class Factuality:
    def __call__(self, output: str, expected: Any = None, **more: Any) -> Any:
        return scored(output=output, expected=expected, **more)


def exact(output: str, expected: Any) -> Any:
    return scored(output=output, expected=expected)


async def with_input(input: str, output: str, expected: Any = None) -> Any:  # noqa: A002  # as autoevals calls it
    return scored(input=input, output=output, expected=expected)


@pytest.mark.parametrize(
    ("scorer", "takes_input"), [(Factuality(), True), (exact, False), (with_input, True)], ids=lambda each: ""
)
def test_an_autoevals_scorer_gets_the_question(scorer: Any, takes_input: bool) -> None:
    """As its `input`, if it takes one; its rationale is the note."""
    check = autoevals_scorer(scorer)
    [score] = judged(check, reply("It is 1042."), expect="1042").values()
    question = {"input": "message 0"} if takes_input else {}
    assert json.loads(score.note) == {"output": "It is 1042.", "expected": "1042", **question}
    assert (score.passed, score.value) == (True, 0.7)
    assert judged(autoevals_scorer(scorer, passing=0.8), reply("")).popitem()[1].passed is False
