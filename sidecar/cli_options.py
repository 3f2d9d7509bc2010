"""What the commands of the command line have in common: options with their variables, typed values, where answers are printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from sidecar.core.settings_model import parse_listen
from sidecar.core.units import duration, size
from sidecar.options import Options

F = TypeVar("F", bound=Callable[..., Any])


def env_of(name: str) -> str:
    """The environment variable of an option."""
    return f"LITESTREAM_SIDECAR_{name.upper().replace('-', '_')}"


def option(*names: str, **how: Any) -> Callable[[F], F]:
    """An option with its environment variable, and its default in the help."""
    long = next(name for name in names if name.startswith("--")).removeprefix("--")
    return click.option(*names, envvar=env_of(long), show_envvar=True, **how)


def an_address(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    """Check `--listen` as click reads it."""
    try:
        return None if text is None else str(parse_listen(text))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def logging_options(level: str) -> Callable[[F], F]:
    """The options of the log; it goes to stderr."""

    def decorated(command: F) -> F:
        levels = click.Choice(["debug", "info", "warning", "error"])
        command = option("--log-level", type=levels, default=level, show_default=True, help="from which level on")(
            command
        )
        formats = click.Choice(["console", "json"])
        return option("--log-format", type=formats, default="console", show_default=True, help="how log lines look")(
            command
        )

    return decorated


def common(level: str) -> Callable[[F], F]:
    """Give a command the options common to all (CONTRACT 1)."""

    def decorated(command: F) -> F:
        command = logging_options(level)(command)
        path = click.Path(path_type=Path, readable=False)
        for name, text in (
            ("--state-dir", "where evidence is kept"),
            ("--config", "the sidecar's own sidecar.yml (optional)"),
            (
                "--litestream-config",
                "Litestream's configuration [default: $LITESTREAM_CONFIG, else /etc/litestream.yml]",
            ),
        ):
            command = option(name, type=path, help=text)(command)
        return command

    return decorated


def options(given: dict[str, Any]) -> Options:
    """Take the common options out of what click read; what a command has of its own stays."""
    litestream = given.pop("litestream_config") or Path(os.environ.get("LITESTREAM_CONFIG") or "/etc/litestream.yml")
    return Options(
        litestream_config=litestream,
        **{key: given.pop(key) for key in ("config", "state_dir", "log_format", "log_level")},
    )


class _Spelled(click.ParamType):  # type: ignore[type-arg] # generic in newer versions of click, not in all we accept
    """A value in a spelling of ours; what cannot be read is a usage error with a sentence."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name, self._read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The typed value; defaults come typed already."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = _Spelled("duration", duration)  # to timedelta
SIZE = _Spelled("size", size)  # to bytes
FILE = click.Path(path_type=Path, dir_okay=False, readable=False)
FOLDER = click.Path(path_type=Path, file_okay=False, readable=False)


class BeforeCommand(click.Command):
    """A command that may end in `-- CMD...`: what stands behind the first `--` is left as it is, in `ctx.meta[COMMAND]`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read what stands before `--`."""
        cut = args.index("--") if "--" in args else len(args)
        ctx.meta[COMMAND] = tuple(args[cut + 1 :]) if cut < len(args) else None
        return super().parse_args(ctx, args[:cut])


COMMAND = "sidecar.command"


def command_of(ctx: click.Context) -> Sequence[str] | None:
    """What stands behind `--`; None where there is no `--`. Raises a usage error for `--` with nothing behind it."""
    found: tuple[str, ...] | None = ctx.meta[COMMAND]
    if found is not None and not found:
        raise click.UsageError("there is no command behind `--`", ctx)
    return found


class _Voice:
    """Prints; False from the moment on that nobody reads (`… | head -1`), which is no fault and changes no exit code."""

    heard = True

    def __call__(self, text: str) -> bool:
        try:
            click.echo(text)
        except BrokenPipeError:
            self.heard = False
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit would complain
        return self.heard


say = _Voice()
