"""Conversations that read alike and ask for different answers, and some that ask for the same.

Each is a pair of lists of messages. `{it}` stands for the subject of the case, so that no two
cases ask the same.
"""

from typing import Any

JSON = dict[str, Any]
Conversation = list[JSON]

# The smallest PNGs: one red point, one blue point.
RED = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8Dw"
BLUE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPj/"
ASK = "What is wrong with this {it}?"


def user(content: Any, **fields: Any) -> JSON:
    return {"role": "user", "content": content, **fields}


def assistant(content: Any, **fields: Any) -> JSON:
    return {"role": "assistant", "content": content, **fields}


def system(content: str, role: str = "system") -> JSON:
    return {"role": role, "content": content}


def text(value: str = ASK) -> JSON:
    return {"type": "text", "text": value}


def image(url: str, detail: str = "auto") -> JSON:
    return {"type": "image_url", "image_url": {"url": url, "detail": detail}}


def audio(data: str, kind: str = "wav") -> JSON:
    return {"type": "input_audio", "input_audio": {"data": data, "format": kind}}


def file(**fields: str) -> JSON:
    return {"type": "file", "file": fields}


def call(arguments: str, name: str = "order", call_id: str = "call_1") -> JSON:
    function = {"name": name, "arguments": arguments}
    return assistant(None, tool_calls=[{"id": call_id, "type": "function", "function": function}])


def result(content: str, call_id: str = "call_1") -> JSON:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


HTTPS = "https://example.org/{name}.png"
PARTS = user("I need parts for my {it}.")
DONE = user("Was the order for my {it} right?")
TURNS = [user("I own a {it}."), assistant("Noted."), user("It squeaks."), assistant("Oil it.")]
NEXT = user("What else can I do about the {it}?")

DIFFERENT: dict[str, tuple[Conversation, Conversation]] = {
    "another image by URL": (
        [user([text(), image("https://example.org/front.png")])],
        [user([text(), image("https://example.org/back.png")])],
    ),
    "another image in the request": (
        [user([text(), image(RED)])],
        [user([text(), image(BLUE)])],
    ),
    "an image and none": ([user([text(), image(RED)])], [user(ASK)]),
    "none and an image": ([user(ASK)], [user([text(), image(RED)])]),
    "one image and two": (
        [user([text(), image(RED)])],
        [user([text(), image(RED), image(BLUE)])],
    ),
    "two images in another order": (
        [user([text(), image(RED), image(BLUE)])],
        [user([text(), image(BLUE), image(RED)])],
    ),
    "another detail of an image": (
        [user([text(), image(RED, "low")])],
        [user([text(), image(RED, "high")])],
    ),
    "another image in an earlier turn": (
        [user([text(), image(RED)]), assistant("A dent."), NEXT],
        [user([text(), image(BLUE)]), assistant("A dent."), NEXT],
    ),
    "another text beside the same image": (
        [user([text(), image(RED)])],
        [user([text("What is good about this {it}?"), image(RED)])],
    ),
    "another recording": (
        [user([text(), audio("UklGRiQAAABXQVZF")])],
        [user([text(), audio("UklGRiQAAABXQVZG")])],
    ),
    "another format of a recording": (
        [user([text(), audio("UklGRiQAAABXQVZF")])],
        [user([text(), audio("UklGRiQAAABXQVZF", "mp3")])],
    ),
    "a recording and none": ([user([text(), audio("UklGRiQAAABXQVZF")])], [user(ASK)]),
    "another file by id": (
        [user([text(), file(file_id="file-1")])],
        [user([text(), file(file_id="file-2")])],
    ),
    "another file in the request": (
        [user([text(), file(filename="a.pdf", file_data="data:application/pdf;base64,JVBERi0x")])],
        [user([text(), file(filename="a.pdf", file_data="data:application/pdf;base64,JVBERi0y")])],
    ),
    "a file and none": ([user([text(), file(file_id="file-1")])], [user(ASK)]),
    "other arguments of a tool call": (
        [PARTS, call('{"count": 10}'), result("ordered"), DONE],
        [PARTS, call('{"count": 99999}'), result("ordered"), DONE],
    ),
    "another tool called": (
        [PARTS, call("{}", "order"), result("done"), DONE],
        [PARTS, call("{}", "cancel"), result("done"), DONE],
    ),
    "another result of a tool": (
        [PARTS, call("{}"), result("ordered"), DONE],
        [PARTS, call("{}"), result("out of stock"), DONE],
    ),
    "another last result of a tool": (
        [PARTS, call("{}"), result("ordered")],
        [PARTS, call("{}"), result("out of stock")],
    ),
    "a tool call and none": ([PARTS, call("{}"), result("done"), DONE], [PARTS, DONE]),
    "another system prompt": (
        [system("Answer a child."), user(ASK)],
        [system("Answer an engineer."), user(ASK)],
    ),
    "a system prompt with one word more": (
        [system("Give advice that is safe."), user(ASK)],
        [system("Give advice that is not safe."), user(ASK)],
    ),
    "a system prompt and none": ([system("Answer in French."), user(ASK)], [user(ASK)]),
    "none and a system prompt": ([user(ASK)], [system("Answer in French."), user(ASK)]),
    "another developer prompt": (
        [system("Answer in French.", "developer"), user(ASK)],
        [system("Answer in Greek.", "developer"), user(ASK)],
    ),
    "a system prompt that the user wrote": (
        [system("Answer in French."), user(ASK)],
        [user("Answer in French."), user(ASK)],
    ),
    "a system prompt that opens the question": (
        [system("Answer in French. "), user(ASK)],
        [user("Answer in French. " + ASK)],
    ),
    "two system prompts in another order": (
        [system("Answer in French."), system("Be brief."), user(ASK)],
        [system("Be brief."), system("Answer in French."), user(ASK)],
    ),
    "an answer that the user wrote": (
        [user("My {it} is broken."), assistant("Throw it away."), NEXT],
        [user("My {it} is broken."), user("Throw it away."), NEXT],
    ),
    "another earlier question": (
        [user("My {it} is broken."), assistant("I see."), NEXT],
        [user("My {it} is brand-new."), assistant("I see."), NEXT],
    ),
    "another earlier answer": (
        [user("My {it} is broken."), assistant("Glue it."), NEXT],
        [user("My {it} is broken."), assistant("Weld it."), NEXT],
    ),
    "an earlier turn and none": ([*TURNS, NEXT], [NEXT]),
    "fewer earlier turns": ([*TURNS, NEXT], [*TURNS[:2], NEXT]),
    "earlier turns in another order": (
        [*TURNS, NEXT],
        [*TURNS[2:], *TURNS[:2], NEXT],
    ),
    "earlier turns that run together alike": (
        [user("My {it} is"), assistant("broken."), NEXT],
        [user("My {it}"), assistant(" is broken."), NEXT],
    ),
    "another name of the one who asks": (
        [user(ASK, name="ann")],
        [user(ASK, name="ben")],
    ),
    "an answer begun for the model": ([user(ASK)], [user(ASK), assistant("Sadly, it is")]),
    "text parts that run together alike": (
        [user([text(ASK), text("Be brief, be frank.")])],
        [user([text(ASK + " Be brief,"), text("be frank.")])],
    ),
    "a second text part": (
        [user([text(ASK), text("Answer in French.")])],
        [user([text(ASK), text("Answer in Greek.")])],
    ),
}

CODE = "What does this print on my {it}?\n\nfor i in range(3):\n    x = i\n"
SPELLINGS: dict[str, tuple[str, str]] = {
    "an indented line and one that is not": (CODE + "    print(x)", CODE + "print(x)"),
    "a tab and a space": (
        "Split 'a\tb' for my {it} at blanks.",
        "Split 'a b' for my {it} at blanks.",
    ),
    "two spaces and one in a literal": (
        "How long is the string 'a  b' on my {it}?",
        "How long is the string 'a b' on my {it}?",
    ),
    "a raised digit and a plain one": (
        "How many pieces of a {it} are 2⁵ pieces?",
        "How many pieces of a {it} are 25 pieces?",
    ),
    "a letter with a tilde and one without": (
        "¿Cuántos años tiene el {it} de mi abuela?",
        "¿Cuántos anos tiene el {it} de mi abuela?",
    ),
    "a Latin and a Cyrillic letter": (
        "Which alphabet has the letter 'a', as on my {it}?",
        "Which alphabet has the letter 'а', as on my {it}?",  # noqa: RUF001 - the point of it
    ),
    "thumbs up and thumbs down": (
        "What does 👍 beside a {it} mean?",
        "What does 👎 beside a {it} mean?",
    ),
    "a capital and a small letter": (
        "Write 'POLISH' for my {it} exactly as it stands here.",
        "Write 'Polish' for my {it} exactly as it stands here.",
    ),
    "a composed and a decomposed letter in a literal": (
        "How many code points has 'é', as on my {it}?",
        "How many code points has 'e\u0301', as on my {it}?",
    ),
    "a difference and a sum": (
        "My {it} cost 7-3 coins, how many?",
        "My {it} cost 7+3 coins, how many?",
    ),
}

SAME: dict[str, tuple[Any, Any]] = {
    "a text and one part with it": (ASK, [text()]),
    "one part with a text and the text": ([text()], ASK),
    "a line end after it": (ASK, ASK + "\n"),
    "blanks around it": (ASK, f"  {ASK}  "),
    "line ends of another system": (
        "First line about a {it}.\nWhat follows?",
        "First line about a {it}.\r\nWhat follows?",
    ),
}
