"""Who may ask for what, and how often: bearer tokens with scopes, and a bucket of requests for each."""

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from my_platform.errors import PlatformError

Scope = Literal["score", "feedback", "read", "cases"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
# The word by which all callers are known where no token is asked for.
ANYONE = "anyone"
_FEWEST_CHARACTERS = 16


@dataclass(frozen=True)
class Token:
    """A token as the service knows it: by its SHA-256, never by itself."""

    name: str
    scopes: frozenset[str]
    digest: bytes


def read_tokens(path: Path | None, alone: str | None) -> list[Token]:
    """The tokens of a file and of the environment.

    The file is a JSON list of objects with `name`, `scopes`, and `sha256` (hexadecimal) or `token`.

    Args:
        alone: one token for all scopes.

    Raises:
        PlatformError: the file is not there or not of that form, or a token is too short to be one.
    """
    found = (
        [Token("environment", frozenset(SCOPES), _digest(_long("MY_PLATFORM_SERVE_TOKEN", alone)))]
        if alone
        else []
    )
    if path is None:
        return found
    form = (
        'expected a list such as [{"name": "till", "scopes": ["score"], "sha256": "…"}], with the SHA-256 of the token '
        "in hexadecimal, or the token itself under `token`"
    )
    try:
        entries = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise PlatformError(f"tokens file {path}: {error}; {form}") from error
    if not isinstance(entries, list) or not entries:
        raise PlatformError(f"tokens file {path}: {form}")
    return found + [_token(path, number, entry, form) for number, entry in enumerate(entries)]


class Tokens:
    """The tokens of a service.

    Args:
        tokens: empty where anyone may ask for anything.
        rate: requests a second of one token, which it may also ask for at once; a batch counts as one for each row.
    """

    def __init__(self, tokens: Sequence[Token], rate: float) -> None:
        self._tokens = list(tokens)
        self._rate = rate
        self._buckets: dict[str, tuple[float, float]] = {}

    @property
    def asked_for(self) -> bool:
        """Whether a caller needs a token."""
        return bool(self._tokens)

    def holder(self, authorization: bytes | None) -> Token | None:
        """The token of an `Authorization` header; None where it is none of ours."""
        if not self._tokens:
            return _ANYONE
        scheme, _, given = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        digest = hashlib.sha256(given.strip()).digest()
        found = None
        # All are compared, whichever it is, so that time tells nothing.
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found

    def wait_s(self, name: str, cost: int, now_s: float) -> float:
        """0 where the token may ask for so much now, else the seconds after which it may."""
        left, since = self._buckets.get(name, (self._rate, now_s))
        left = min(self._rate, left + (now_s - since) * self._rate)
        # A batch of more rows than a second's worth needs a full bucket.
        needed = min(cost, self._rate)
        if left < needed:
            self._buckets[name] = (left, now_s)
            return (needed - left) / self._rate
        self._buckets[name] = (left - cost, now_s)
        return 0.0


def _token(path: Path, number: int, entry: object, form: str) -> Token:
    place = f"tokens file {path}, entry {number}"
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise PlatformError(f"{place}: it has no name; {form}")
    scopes = entry.get("scopes")
    if not isinstance(scopes, list) or not scopes or not set(scopes) <= set(SCOPES):
        raise PlatformError(f"{place}: expected scopes out of {', '.join(SCOPES)}, found {scopes!r}")
    match entry:
        case {"sha256": str(digest), "token": _}:
            raise PlatformError(f"{place}: it has both sha256 and token; give one of them")
        case {"sha256": str(digest)}:
            try:
                whole = bytes.fromhex(digest)
            except ValueError:
                whole = b""
            if len(whole) != hashlib.sha256().digest_size:
                raise PlatformError(f"{place}: sha256 is not 64 hexadecimal digits; {form}")
            return Token(entry["name"], frozenset(scopes), whole)
        case {"token": str(token)}:
            return Token(entry["name"], frozenset(scopes), _digest(_long(place, token)))
    raise PlatformError(f"{place}: it has neither sha256 nor token; {form}")


def _long(place: str, token: str) -> str:
    if len(token) < _FEWEST_CHARACTERS:
        raise PlatformError(
            f"{place}: a token has at least {_FEWEST_CHARACTERS} characters; make one with "
            '`python -c "import secrets; print(secrets.token_urlsafe())"`'
        )
    return token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


_ANYONE = Token(ANYONE, frozenset(SCOPES), b"")
