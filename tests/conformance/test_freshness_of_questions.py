"""A question whose answer changes by the hour or by the person is asked of the model each time."""

import pytest

from conformance.asking import Case

CHANGING = {
    "today": "What is on today at the fair for a {it}?",
    "tomorrow": "Will the shop with the {it} be open tomorrow?",
    "right now": "Who is bidding right now on the {it}?",
    "the latest": "What is the latest model of a {it}?",
    "currently": "Who currently holds the record with a {it}?",
    "the weather": "How is the weather for taking a {it} outside?",
    "the news": "What is in the news about the {it}?",
    "a price": "What is the price of a {it}?",
    "the time": "What time is it, says my {it}?",
    "the date": "What day is it by the calendar on my {it}?",
    "this week": "Which museum shows a {it} this week?",
    "an exchange rate": "What is the exchange rate for the coins in my {it}?",
    "an order": "Where is my order of a {it}?",
    "an account": "How much is left in my account for a {it}?",
    "an office": "Who is the current owner of the {it} works?",
    "another case of letters": "Is a {it} on sale TODAY?",
}


@pytest.mark.parametrize("question", CHANGING.values(), ids=CHANGING.keys())
def test_question_whose_answer_changes_is_answered_anew(case: Case, question: str) -> None:
    assert case.is_never_repeated(case.body(question.replace("{it}", case.subject)))


@pytest.mark.parametrize(
    "question",
    ["How is a {it} weatherproofed?", "How did they paint a {it} in 1890?"],
    ids=["a word inside another", "a date long past"],
)
def test_question_that_only_looks_so_is_given_the_answer(case: Case, question: str) -> None:
    assert case.is_repeated(case.body(question.replace("{it}", case.subject)))


def test_question_that_the_web_is_searched_for_is_answered_anew(case: Case) -> None:
    body = case.body(web_search_options={"search_context_size": "low"})
    assert case.is_never_repeated(body)
