"""No secret reaches the record, whatever pieces it arrives in; everything else stays as it is."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from itertools import combinations
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spawnd.telemetry.redact import Redactor

SECRET = "hunter2-Pass"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----"
TOKEN = "ghp_" + "a1B2" * 9


def streamed(redactor: Redactor, pieces: Iterable[bytes]) -> bytes:
    stream = redactor.stream()
    return b"".join([*(stream.feed(piece) for piece in pieces), stream.flush()])


def splits(data: bytes) -> Iterable[list[bytes]]:
    """The stream whole, in every two, in every three, and byte by byte."""
    yield [data]
    for cut in range(len(data) + 1):
        yield [data[:cut], data[cut:]]
    for first, second in combinations(range(len(data) + 1), 2):
        yield [data[:first], data[first:second], data[second:]]
    yield [bytes([byte]) for byte in data]


@pytest.mark.parametrize(
    ("secrets", "text", "clean"),
    [
        ([SECRET], f"a {SECRET} b\n", "a [redacted] b\n"),
        ([SECRET], f"{SECRET}{SECRET}", "[redacted][redacted]"),
        ([SECRET], f"\n\n{SECRET}\nnext", "\n\n[redacted]\nnext"),
        ([SECRET, "other-secret"], f"{SECRET} other-secret\n", "[redacted] [redacted]\n"),
        (["päss-wörd ✓"], "a päss-wörd ✓ b\n", "a [redacted] b\n"),
        (["with space # and (x)"], "a with space # and (x) b\n", "a [redacted] b\n"),
        ([], f"a {TOKEN} b\n", "a [redacted] b\n"),
        ([], f"a\n{PEM}\nb\n", "a\n[redacted]\nb\n"),
        ([], "Authorization: Bearer abcdefghij0123456789\n", "Authorization: Bearer [redacted]\n"),
        ([], "https://user:hunter22@host/x\n", "https://user:[redacted]@host/x\n"),
        (["first-line-of-it\nsecond-line-of-it"], "a first-line-of-it\nsecond-line-of-it b\n", None),
        (["abc123\ndef456\nghi789"], "a abc123\ndef456\nghi789 b\n", None),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_secret_is_gone_however_the_stream_is_cut(secrets: list[str], text: str, clean: str | None) -> None:
    redactor = Redactor(secrets)

    got = {streamed(redactor, pieces) for pieces in splits(text.encode())}

    if clean is not None:
        assert got == {clean.encode()}
    # Of a secret of several lines, none may be left; whether they leave together depends on the cut.
    left = [line for secret in secrets for line in secret.splitlines() if any(line.encode() in out for out in got)]
    assert left == []


@given(
    st.lists(st.sampled_from([SECRET, SECRET[:5], "other-secret", "\n", " ", "a", "ä", TOKEN]), max_size=12), st.data()
)
def test_a_stream_says_what_the_whole_would_say(words: list[str], data: st.DataObject) -> None:
    redactor = Redactor([SECRET, "other-secret"])
    whole = "".join(words).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    out = streamed(redactor, pieces)

    assert out == redactor.bytes_(whole)
    assert SECRET.encode() not in out


@given(st.text())
def test_text_without_secrets_is_not_altered(text: str) -> None:
    assert Redactor([SECRET]).text(text) == text


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_bytes_without_secrets_are_not_altered_in_a_stream(pieces: list[bytes]) -> None:
    assert streamed(Redactor([SECRET]), pieces) == b"".join(pieces)


@pytest.mark.parametrize(
    "code",
    [
        "token = parse(line)",
        "password = get_password_from_keyring_service()",
        "secret: str = field(default_factory=default2)",
        "api_key = os.environ['OPENAI_API_KEY_V2']",
        "if password != expected_password_value_1:",
        "sk-learn and task-runner-with-a-long-name-2",
        "git clone https://github.com/spawnd/spawnd@v1",
        "ssh://git@host:22/path",
        "the token is a Bearer of good news",
        "0123456789abcdef0123456789abcdef01234567",
        "AKIA is a prefix",
        "-----BEGIN CERTIFICATE-----",
    ],
)
def test_source_text_survives_byte_for_byte(code: str) -> None:
    assert Redactor([SECRET]).text(code) == code


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("sk-ant-api03-abcdefghijklmnop", "[redacted]"),
        ("github_pat_11ABCDEFG0123456789abc", "[redacted]"),
        ("glpat-abcdefghij0123456789", "[redacted]"),
        ("xoxb-123456789012-abcdef", "[redacted]"),
        ("AKIAIOSFODNN7EXAMPLE", "[redacted]"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVPmB92K27uhbUJU1p1r", "[redacted]"),
        ('{"password": "abcdefgh12345678"}', '{"password": "[redacted]"}'),
        ("DB_PASSWORD=abcdefgh12345678", "DB_PASSWORD=[redacted]"),
        ("client_secret: abcdefgh12345678", "client_secret: [redacted]"),
    ],
)
def test_tokens_of_known_shapes_are_redacted_though_nobody_named_them(text: str, clean: str) -> None:
    assert Redactor().text(text) == clean


def test_one_secret_within_another_leaves_nothing_of_either() -> None:
    inner, outer = "inner-secret", "outer-inner-secret-outer"
    for known in ([inner, outer], [outer, inner]):
        assert Redactor(known).text(f"{outer} {inner}") == "[redacted] [redacted]"


@pytest.mark.parametrize(
    ("known", "text"),
    [
        (["abcdefgh", "efghijkl"], "abcdefghijkl"),
        (["xABCDEF", "ABCDEF0123456789012345"], "xABCDEF0123456789012345"),
    ],
)
def test_secrets_that_overlap_leave_nothing_of_either(known: list[str], text: str) -> None:
    assert Redactor(known).text(f"<{text}>") == "<[redacted]>"


def test_values_too_short_to_be_secrets_stay() -> None:
    for word in ("true", "main", "8080", "five5", "", "  five5  ", "False"):
        assert Redactor([word]).text(f"a {word} b") == f"a {word} b"
    assert Redactor(["sixsix"]).text("a sixsix b") == "a [redacted] b"


AWKWARD = 'pä"ss/w0rd! \\x?&'


@pytest.mark.parametrize(
    "form",
    [
        json.dumps(AWKWARD)[1:-1],
        json.dumps(AWKWARD, ensure_ascii=False)[1:-1],
        quote(AWKWARD, safe=""),
        quote(AWKWARD),
        quote_plus(AWKWARD),
        quote(AWKWARD, safe="!'()*"),
        base64.b64encode(AWKWARD.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode(AWKWARD.encode()).decode().rstrip("="),
    ],
    ids=["json", "json in utf-8", "url", "url path", "form", "encodeURIComponent", "base64", "base64 for urls"],
)
def test_a_secret_is_known_in_its_other_forms(form: str) -> None:
    out = Redactor([AWKWARD]).text(f"a {form} b")

    assert out.startswith("a [redacted]")
    assert form not in out


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_a_secret_is_known_in_base64_wherever_it_begins(before: bytes, after: bytes) -> None:
    encoded = base64.b64encode(before + SECRET.encode() + after)

    out = Redactor([SECRET]).bytes_(encoded)

    assert b"[redacted]" in out
    # At most three digits on either side of what was cut out still hold bits of it.
    assert len(encoded) - len(out) + len(b"[redacted]") >= len(SECRET) * 8 // 6 - 2


def test_surrounding_blanks_of_a_secret_do_not_hide_it() -> None:
    assert Redactor([f"{SECRET}\n"]).text(f"a {SECRET} b") == "a [redacted] b"


def test_values_are_redacted_in_nested_structures_and_keys_and_numbers_are_not_touched() -> None:
    value = {
        SECRET: [{"deep": (f"a{SECRET}b", 12345678, None, True, 1.5)}],
        "bytes": SECRET.encode(),
        "plain": "plain",
        7: "seven",
    }

    assert Redactor([SECRET, "12345678"]).value(value) == {
        "[redacted]": [{"deep": ["a[redacted]b", 12345678, None, True, 1.5]}],
        "bytes": "[redacted]",
        "plain": "plain",
        "7": "seven",
    }


def test_half_a_character_beside_a_secret_does_not_save_it() -> None:
    redactor = Redactor([SECRET])

    assert redactor.text(f"\ud83d {SECRET}").endswith(" [redacted]")
    assert redactor.text(f"\udcff {SECRET}").endswith(" [redacted]")
    assert streamed(redactor, [b"\xff\xf0\x9f", SECRET.encode(), b"\xc3"]) == b"\xff\xf0\x9f[redacted]\xc3"


def test_a_private_key_is_held_until_its_end_and_what_stood_before_it_is_not() -> None:
    stream = Redactor().stream()

    assert stream.feed(b"before\n-----BEGIN PRIVATE KEY-----\nMIIE\n") == b"before\n"
    assert stream.feed(b"MORE\n") == b""
    assert stream.feed(b"-----END PRIVATE KEY-----\nafter\n") == b"[redacted]\nafter\n"


def test_whole_lines_leave_at_once() -> None:
    stream = Redactor([SECRET]).stream()

    assert stream.feed(b"one\ntwo\nthr") == b"one\ntwo\n"
    assert stream.feed(b"ee\n") == b"three\n"


@pytest.mark.parametrize(
    ("known", "secret"),
    [
        ([SECRET], SECRET),
        (["sekret-one", "sekret-one-and-more-of-it-0123456789"], "sekret-one-and-more-of-it-0123456789"),
        ([], "sk-" + "Z9" * 40),
        ([], PEM.replace("\n", "\\n").replace("MIIEow", "MIIEow" * 300)),
    ],
    ids=["known", "known and its beginning", "token", "key"],
)
def test_of_a_line_without_end_nothing_leaves_that_may_become_a_secret(known: list[str], secret: str) -> None:
    redactor = Redactor(known)
    bound = 1024 * 1024
    for inside in (1, len(secret) // 2, len(secret) - 4):
        # The line grows past the bound within the secret.
        data = b" " * (bound + 1 - inside) + secret.encode() + b" end\n"

        out = streamed(redactor, [data[: bound + 1], data[bound + 1 :]])

        assert out == b" " * (bound + 1 - inside) + b"[redacted] end\n"
