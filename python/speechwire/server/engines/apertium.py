"""The modes of Apertium: programs in a row that are started once, and translate one text after another.

A mode's file has the pipeline as a shell command. It is run here without a shell, and without Apertium's own script:
that one reads through gawk, which holds back the end of each text until the next one comes.

In the stream between the programs a text ends with a NUL, a backslash takes the meaning from the character behind it,
and what stands in brackets is a blank, which nobody reads. Each text has a numbered one at its end. An answer without
it is not whole: if one of the programs ends, those behind it end the text where they are.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
from collections import deque
from contextlib import ExitStack, suppress
from pathlib import Path

from speechwire.server.engines import EngineError
from speechwire.server.engines.together import finish

__all__ = ["Mode"]

# They end the text, or the stream, or have no place in UTF-8.
_UNSENDABLE = re.compile("[\0\uffff\ud800-\udfff]")
_RESERVED = re.compile(r"[\^$\[\]{}<>/\\@]")
# The last program of a mode reads a tilde as a call to itself; within a blank nobody does.
_TILDES = re.compile(r" ?~[ ~]*")
_ESCAPE_OR_BLANK = re.compile(r"\\(.)|[\[\]]", re.DOTALL)
_READ_BYTES = 65536


class Mode:
    """One direction of translation. Its programs are started for the first text, and again after a failure.

    Texts are translated in the order in which they were asked for. One whose caller was cancelled is translated to its
    end if it has been begun, and its answer is dropped.

    Args:
        name: As `apertium -l` lists it.
        package: What it comes with.
        timeout_s: Seconds for one text.
    """

    def __init__(self, name: str, package: str, timeout_s: float) -> None:
        self._name = name
        self._package = package
        self._timeout_s = timeout_s
        self._requests: deque[tuple[str, asyncio.Future[str]]] = deque()  # the first is being served
        self._serving: asyncio.Task[None] | None = None  # while there are any
        self._processes: list[tuple[str, asyncio.subprocess.Process]] = []  # with their names
        self._num_texts = 0
        self._is_stopped = False

    @property
    def is_installed(self) -> bool:
        """True if it can be used."""
        try:
            self.check()
        except EngineError:
            return False
        return True

    def check(self) -> None:
        """Raise EngineError if the mode is not installed; the message has the line that installs it."""
        self._find()

    async def translate(self, text: str) -> str:
        """Return the text as it comes from the mode; words that it does not know stay as they are.

        Blanks of any length, also lines and paragraphs, are single spaces to it.

        Raises:
            EngineError: It is not installed, took too long or has no answer, or one of its programs has ended.
        """
        text = " ".join(_UNSENDABLE.sub("", text).split())
        if not text:
            return ""
        if self._is_stopped:
            raise EngineError(f"apertium {self._name} was stopped")
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._requests.append((text, answer))
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve())
        translated = await answer
        if not translated:
            raise EngineError(f"expected a translation from apertium {self._name}, got none for {len(text)} characters")
        return translated

    def open(self) -> None:
        """Take texts again after `stop`."""
        self._is_stopped = False

    async def stop(self) -> None:
        """End the programs at once; a text that is being translated fails, and so does any later one."""
        self._is_stopped = True
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait([self._serving])
        for _, answer in self._requests:
            if not answer.done():
                answer.set_exception(EngineError(f"apertium {self._name} was stopped"))
        await self._end()

    def _find(self) -> Path:
        program = shutil.which("apertium")
        if program is None:
            raise EngineError(f"program apertium is not installed; run apt-get install apertium {self._package}")
        data = os.environ.get("APERTIUM_DATADIR") or Path(program).resolve().parents[1] / "share" / "apertium"
        path = Path(data, "modes", f"{self._name}.mode")
        if not path.is_file():
            raise EngineError(f"apertium has no {self._name}; run apt-get install {self._package}")
        return path

    async def _serve(self) -> None:
        while self._requests:
            text, answer = self._requests[0]
            if not answer.done():  # else its caller was cancelled, now or below
                try:
                    translated = await self._exchange(text)
                except Exception as error:  # whatever it is, the caller is told, and the next is served
                    if not answer.done():
                        answer.set_exception(error)
                else:
                    if not answer.done():
                        answer.set_result(translated)
            self._requests.popleft()
        self._serving = None

    async def _exchange(self, text: str) -> str:
        try:
            if not self._processes or any(process.returncode is not None for _, process in self._processes):
                await self._end()
                await self._start()
            async with asyncio.timeout(self._timeout_s):
                return await self._ask(text)
        except TimeoutError:
            await self._end()
            raise EngineError(
                f"apertium {self._name} took more than {self._timeout_s:g} s for {len(text)} characters"
            ) from None
        except Exception:
            await self._end()
            raise

    async def _ask(self, text: str) -> str:
        stdin, stdout = self._processes[0][1].stdin, self._processes[-1][1].stdout
        assert stdin is not None
        assert stdout is not None
        self._num_texts += 1
        end = f"[{self._num_texts}]"
        # The full stop shows the programs that the sentence is over, whatever it ends with.
        stdin.write(f"{_escape(text)}.{end}\0".encode())
        answer = bytearray()
        while not answer.endswith(b"\0"):
            data = await stdout.read(_READ_BYTES)
            if not data:
                break
            answer += data
        translated, found, rest = answer.decode("utf-8", "replace").partition(end)
        if not found or answer.count(b"\0") != 1:
            raise await self._broken_off(text)
        return " ".join(_unescape(translated.removesuffix(".") + rest[:-1]).split())

    async def _start(self) -> None:
        commands = _read_commands(self._find())
        # The programs read and write in the encoding of the locale.
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        source = asyncio.subprocess.PIPE
        with ExitStack() as pipes:  # the server's ends of them; the programs have theirs
            for number, (program, *arguments) in enumerate(commands, 1):
                try:
                    sink = next_source = asyncio.subprocess.PIPE
                    if number < len(commands):
                        next_source, sink = os.pipe()
                        pipes.callback(os.close, next_source)
                        pipes.callback(os.close, sink)
                    process = await asyncio.create_subprocess_exec(
                        program,
                        "-z",
                        *arguments,
                        stdin=source,
                        stdout=sink,
                        stderr=asyncio.subprocess.DEVNULL,
                        env=environment,
                        # An interrupt at the terminal is for the server, which then stops its programs.
                        start_new_session=True,
                    )
                except OSError as error:
                    raise EngineError(f"program {program} cannot be started: {error.strerror or error}") from error
                self._processes.append((program, process))
                source = next_source

    async def _broken_off(self, text: str) -> EngineError:
        processes = [(name, process, process.returncode is not None) for name, process in self._processes]
        await self._end()
        # What wrote to a program that had ended, or was killed here, is not the cause.
        causes = [
            f"; {name} ended with status {process.returncode}"
            for name, process, had_ended in processes
            if process.returncode not in (0, -signal.SIGPIPE) and (had_ended or process.returncode != -signal.SIGKILL)
        ]
        return EngineError(f"apertium {self._name} broke off in a text of {len(text)} characters{''.join(causes)}")

    async def _end(self) -> None:
        processes, self._processes = self._processes, []
        for _, process in processes:
            if process.returncode is None:
                # Not with the process's own method, which would take its exit status away from asyncio.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        # Reads what is still in the pipe, without which the end would not be seen.
        await finish(asyncio.gather(*(process.communicate() for _, process in processes)))


def _read_commands(path: Path) -> list[list[str]]:
    try:
        words = shlex.shlex(path.read_text(encoding="utf-8"), posix=True, punctuation_chars="|")
        words.whitespace_split = True
        words.commenters = ""
        commands: list[list[str]] = [[]]
        for word in words:
            if word == "|":
                commands.append([])
            elif word == "$1":
                commands[-1].append("-n")  # unknown words without marks
            elif word != "$2":  # nothing for the tagger
                commands[-1].append(word)
        return commands
    except (OSError, ValueError) as error:
        raise EngineError(f"mode {path} of apertium cannot be read: {error}") from error


def _escape(text: str) -> str:
    return _TILDES.sub(r"[\g<0>]", _RESERVED.sub(r"\\\g<0>", text))


def _unescape(text: str) -> str:
    return _ESCAPE_OR_BLANK.sub(r"\1", text)
