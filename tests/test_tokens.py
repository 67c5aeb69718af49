"""The file of tokens: what is taken, and that nothing doubtful is."""

import re

import pytest

from sha_daemon.tokens import BadTokens, Token, fingerprint, line, parse

HASH = "sha256:" + "0" * 64


def test_a_line_of_ours_is_found_by_its_token() -> None:
    text = "\n".join(["# who is who", "", line("client-7", "report", "a"), "  " + line("ops@site", "both", "b") + " "])
    tokens = parse(text)
    assert tokens[fingerprint("a")] == Token("client-7", frozenset({"report"}))
    assert tokens[fingerprint("b")] == Token("ops@site", frozenset({"report", "read"}))
    assert len(tokens) == 2


def test_a_line_holds_no_token() -> None:
    assert "secret" not in line("a", "read", "secret")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "there is no token in it"),
        ("# nothing but words\n", "there is no token in it"),
        (f"a read\nb read {HASH}", "line 1: expected NAME RIGHT sha256:HASH"),
        (f"# c\n\na read {HASH} more", "line 3: expected NAME RIGHT sha256:HASH"),
        (f"a write {HASH}", "line 1: expected NAME RIGHT sha256:HASH, where RIGHT is one of report, read, both"),
        (f"a Read {HASH}", "line 1: expected"),
        ("a read sha256:00", "line 1: expected"),
        (f"a read {HASH[7:]}", "line 1: expected"),
        (f"a read {HASH.upper()}", "line 1: expected"),
        (f"-a read {HASH}", "line 1: NAME must be letters"),
        (f"{'a' * 65} read {HASH}", "line 1: NAME must be letters"),
        (f"a read {HASH}\nb read {HASH}", "line 2: expected a name and a token that no line above has"),
        (f"a read {HASH}\na read {HASH[:-1]}1", "line 2: expected a name and a token that no line above has"),
    ],
)
def test_a_broken_file_is_refused_naming_line_and_what_was_expected(text: str, complaint: str) -> None:
    with pytest.raises(BadTokens, match=re.escape(complaint)):
        parse(text)


def test_what_stands_in_a_broken_line_is_not_repeated() -> None:
    """It may be the token itself, put where its hash belongs."""
    with pytest.raises(BadTokens) as refused:
        parse("client report sbt_secret")
    assert "sbt_" not in str(refused.value)
