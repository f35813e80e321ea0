"""Another formula, piece of code or ratio is another question, however alike they look."""

import pytest

from nearhit.guards.formula import formula


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("Solve x^2 - 5x + 6 = 0", "solve x^2 - 6x + 5 = 0"),
        ("Solve the system: 2x + y = 7, x - y = 2", "two unknowns: 2y + x = 7 and y - x = 2"),
        ("Balance the equation: Fe + O2 -> Fe2O3", "Balance the equation: Al + O2 -> Al2O3"),
        ("what does print(2 ** 3 ** 2) show", "what does print(3 ** 2 ** 2) show"),
        ("why does print(a[i+1]) fail", "why does print(a[i]) fail"),
        ('Fix this JSON: {"a": ["x" "y"]}', 'Fix this JSON: {"a": ["x", "y",]}'),
        ("What does Rule 23(a) require?", "What does Rule 23(b) require?"),
        ("Share 120 euros in the ratio 3:5.", "Share 120 euros in the ratio 5:3."),
        ("docker run -p 8080:80", "docker run -p 80:8080"),
        ("Which is bigger, 3/8 or 5/12?", "Which is bigger, 8/3 or 5/12?"),
    ],
)
def test_formula_forbids_another_formula(stored: str, asked: str) -> None:
    assert formula(stored, asked)
    assert formula(asked, stored)


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("Solve x^2 - 5x + 6 = 0", "please solve x^2-5x+6=0."),
        ("Solve x^2 - 5x + 6 = 0", "What are the roots of that quadratic?"),
        ("is [10, 9, 1].sort() [1, 10, 9]?", "Why does [10, 9, 1].sort() give [1, 10, 9]?"),
        ("Can an IF use >= on a time in Excel?", "Excel: can IF compare a time with >= too?"),
        ("How do I pass the Linux+ exam?", "linux+ certification exam, how to pass"),
        ("a regex like ^(a+)+$ is slow", "My pattern ^(a+)+$ hangs. Why?"),
        ("Is 7:30 too early?", "is half past seven (7:30) too early"),
        ("", ""),
    ],
)
def test_formula_lets_the_same_formula_pass(stored: str, asked: str) -> None:
    assert not formula(stored, asked)
    assert not formula(asked, stored)
