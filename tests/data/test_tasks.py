"""Tasks about tales: every answer is in its tale, every fact is read back, held-out tasks are others."""

import re

import pytest

from minimega.data import chat, tasks
from minimega.data.corpus import Tales, tell
from minimega.data.tales_en import ENGLISH

SOME = range(200)


def test_a_tale_of_a_task_is_that_of_the_corpus():
    assert [tasks.summary(n)[0] for n in range(20)] == list(Tales(20).documents())


def test_writing_a_tale_gives_its_facts():
    for n in SOME:
        drawn = tasks._numbers(3, "tales", n)
        text, choices, facts = ENGLISH.write("tale", iter(drawn))
        assert (text, choices) == tell(iter(drawn))
        assert set(facts) == set(tasks.FACTS)
        assert "a {look} {thing} {where} the {spot}".format(**facts) in text
        assert facts["finder"] != facts["receiver"] and f"{facts['receiver']}" in text


def test_every_question_has_its_answer_in_the_tale():
    phrasings = set()
    for n in SOME:
        text, facts = tasks.short_tale(n)
        asked = tasks.questions(n)
        assert len(asked) == len(tasks.QUESTIONS) == len({answer for _, answer in asked})
        for question, answer in asked:
            phrasings.add(re.sub("|".join(map(re.escape, facts.values())), "*", question))
            known = [fact for fact in facts.values() if re.search(rf"\b{fact}\b", answer)]
            assert known and all(fact in text for fact in known) and "{" not in question + answer
    assert len(phrasings) > 12  # of 18, some of which differ by a fact alone


def test_a_dialogue_is_a_line_that_is_read_back():
    for n in range(20):
        turns = tasks.dialogue(n)
        assert chat.parse(chat.line(turns)) == turns and len(turns) == 6
        assert turns[0][1].startswith(tasks.short_tale(n)[0])
        pair = tasks.dialogue(n, turns=1)
        assert chat.parse(chat.line(pair)) == pair and "messages" not in chat.line(pair)


@pytest.mark.parametrize("style", tasks.STYLES)
def test_the_facts_of_a_report_are_read_back(style):
    for n in SOME:
        facts = tasks.short_tale(n)[1]
        report = tasks.GRAMMAR.write(style, iter(()), facts)[0]
        assert tasks.read(style, report) == facts
        assert [other for other in tasks.STYLES if tasks.read(other, report)] == [style]
        wrong = report.replace(f" {facts['thing']} ", " cat ", 1)
        assert tasks.read(style, wrong) == {**facts, "thing": "cat"}
        assert tasks.read(style, report[3:]) == tasks.read(style, "") == {}


def test_a_record_states_every_fact_and_the_style():
    styles = set()
    for n in SOME:
        given, report = tasks.record(n)
        facts, style = tasks.short_tale(n)[1], tasks.style(n)
        styles.add(style)
        assert given.startswith(style) and all(f"{name}: {facts[name]}" in given for name in tasks.FACTS)
        assert tasks.read(style, report) == facts
    assert styles == set(tasks.STYLES)
