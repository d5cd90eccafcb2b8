"""python -m tests.lessons: every wrong answer, and what is said of it, as a table."""

from minimega.learn import shelf
from tests.lessons.wrong import judge, wrong_answers

for number, wrongs in wrong_answers().items():
    print(f"\n## Lesson {number}: {shelf.find(number).title}\n\n| the mistake | what is said |\n|---|---|")
    for wrong in wrongs:
        said = " ".join(str(judge(number, wrong.source)).split()).replace("|", "\\|")
        print(f"| {wrong.mistake} | {said} |")
