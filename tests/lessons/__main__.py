"""python -m tests.lessons: every wrong answer and its verdict, as a table."""

from minimega.learn import shelf
from tests.lessons.wrong import judge, wrong_answers

for number, wrongs in wrong_answers().items():
    print(f"\n## Lesson {number}: {shelf.find(number).title}\n")
    print("| the mistake | what is said | what shows it |\n|---|---|---|")
    for wrong in wrongs:
        found = judge(number, wrong.source)
        said = (
            " ".join(text.split()).replace("|", "\\|")
            for text in (wrong.mistake, found.sentence, found.detail)
        )
        print(f"| {' | '.join(said)} |")
