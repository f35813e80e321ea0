"""Another identifier, flag or path is another question; other quotes around it are not."""

import pytest

from nearhit.guards.literals import literals

DIFFERENT = [
    ("What does `git rebase` do?", "What does `git reset` do?"),
    ("What does --force do?", "What does --hard do?"),
    ("rsync with -a or", "rsync with -z or"),
    ("What is the difference in max_len?", "What is the difference in min_len?"),
    ("When is useEffect called?", "When is useMemo called?"),
    ("os.path.join examples", "os.path.split examples"),
    ("What does E0502 mean in Rust?", "What does E0499 mean in Rust?"),
    ("Where is D-7781 now?", "Where is D-7782 now?"),
    ("permissions of /etc/passwd", "permissions of /etc/shadow"),
    ('Is "affect" a verb?', 'Is "effect" a verb?'),
    ("Who owns example.com?", "Who owns example.org?"),
    ("grep -r foo", "grep -R foo"),
    ("a T-score of -2.7", "a T-score of +2.7"),
    ("What does a == b compare?", "What does a === b compare?"),
    ("Is == or === right here: a == b?", "Is == or === right here: a === b?"),
    ("Fix ERR_CONNECTION_RESET", "Fix ERR_NAME_NOT_RESOLVED"),
    ("Is 'Polish' an adjective?", "Is 'polish' an adjective?"),
    ("Split 'a\tb' at blanks", "Split 'a b' at blanks"),
    ("How long is `a  b`?", "How long is `a b`?"),
    ('How many code points has "é"?', 'How many code points has "e\u0301"?'),
    ("for x in y:\n    x = 1\n    print(x)", "for x in y:\n    x = 1\nprint(x)"),
]
SAME = [
    ("What does `git rebase` do?", "what does git rebase do"),
    ('How do I use "useEffect"?', "How do I use useEffect?"),
    ("How do I use max_len?", "how do i use max len"),
    ('What does the word "irony" mean?', "What does irony mean?"),
    ("Flatten a list with itertools.chain", "Flatten a list with chain from itertools"),
    ("How do I call toString() on null?", "calling toString on null"),
    ("turn on roaming on an iPhone", "iOS: switch roaming on"),
    ("How do I copy a file in Node.js?", "copying files with fs.copyFile in node"),
    ("Where is /etc/hosts?", "Where do I find the hosts file, /etc/hosts?"),
    ("What does --force do in git push?", "git push --force: what does it do?"),
    ('Is it "colour" or "color"?', "Color or colour?"),
    ("Where is the file report_2024.pdf?", "where is report_2024.pdf"),
    ("What is the dog's and the cat's food?", "what is the Dog's and the Cat's food"),
    ("First this.\nThen that.", "first this.\nthen  that"),
]


@pytest.mark.parametrize(("stored", "asked"), DIFFERENT)
def test_literal_that_differs_is_vetoed_both_ways(stored: str, asked: str) -> None:
    assert literals(stored, asked)
    assert literals(asked, stored)


@pytest.mark.parametrize(("stored", "asked"), SAME)
def test_literal_that_is_the_same_passes_both_ways(stored: str, asked: str) -> None:
    assert not literals(stored, asked)
    assert not literals(asked, stored)
