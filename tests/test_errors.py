"""One tree of exceptions, with the bases that callers of the official SDK catch."""

from __future__ import annotations

import pickle

import pytest

from speechwire import errors


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (errors.AudioError, (errors.SpeechwireError, ValueError)),
        (errors.ContainerError, (errors.AudioError,)),
        (errors.AudioopError, (errors.AudioError,)),
        (errors.WireError, (errors.SpeechwireError, ValueError)),
        (errors.SessionError, (errors.SpeechwireError, RuntimeError)),
        (errors.ServerError, (errors.SessionError,)),
        (errors.SessionClosed, (errors.SessionError,)),
        (errors.SessionTimeout, (errors.SessionError, TimeoutError)),
        (errors.AuthError, (errors.SessionError, ValueError)),
    ],
)
def test_bases(error: type[Exception], bases: tuple[type[Exception], ...]) -> None:
    for base in bases:
        assert issubclass(error, base)


def test_session_error_tells_all_it_knows() -> None:
    error = errors.SessionClosed("gone", code=1011, reason="why", request_id="r", sent_ms=160.0, received_ms=80.0)
    assert str(error) == "gone (code 1011; request r; sent 160 ms, received 80 ms)"
    assert not error.retryable


def test_session_error_without_details_is_its_message() -> None:
    assert str(errors.SessionTimeout("too late")) == "too late"


def test_session_error_survives_pickling() -> None:
    error = errors.ServerError("no", code=1008, request_id="r", retryable=True)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.code, copy.request_id, copy.retryable, str(copy)) == (1008, "r", True, str(error))
