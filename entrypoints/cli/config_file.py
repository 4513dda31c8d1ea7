"""The configuration file: defaults for options, between the environment and the program's own defaults.

It is ``moe-router.toml`` of the working folder, else the table ``[tool.moe-router]`` of its ``pyproject.toml``, else
nothing; ``--config`` names another. Keys are options without their dashes: at the top for every command that has the
option, in a table with a command's name for that command. What the environment sets without a flag has a key, too.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
from attrs import field, frozen

from domain.errors import MissingFileError, UsageError
from entrypoints.settings import Variable

OWN_FILE: Final = Path("moe-router.toml")
PROJECT_FILE: Final = Path("pyproject.toml")
SETTINGS: Final = {
    "cache": Variable.CACHE,
    "modal-gpu": Variable.MODAL_GPU,
    "modal-timeout": Variable.MODAL_TIMEOUT,
    "modal-data-volume": Variable.MODAL_DATA_VOLUME,
    "commit-seconds": Variable.COMMIT_SECONDS,
}
"""Keys of what has an environment variable and no flag."""


@frozen
class ConfigFile:
    """A configuration file's content.

    Attributes:
        path: where it lies; None when there is none.
        values: its keys.
    """

    path: Path | None = None
    values: Mapping[str, Any] = field(factory=dict)

    @classmethod
    def read(cls, named: Path | None = None) -> ConfigFile:
        """Read the file that is named, else the working folder's; raises MissingFileError and UsageError."""
        if named is not None:
            return cls(named, _own_part(named, _toml(named)))
        if OWN_FILE.is_file():
            return cls(OWN_FILE, _toml(OWN_FILE))
        if PROJECT_FILE.is_file():
            content = PROJECT_FILE.read_bytes()
            if b"moe-router" in content and (found := _own_part(PROJECT_FILE, _toml(PROJECT_FILE))):
                return cls(PROJECT_FILE, found)
        return cls()

    @property
    def environment(self) -> dict[str, str]:
        """What the file sets in place of environment variables without a flag."""
        return {SETTINGS[key]: str(value) for key, value in self.values.items() if key in SETTINGS}

    def defaults(self, name: str, command: click.Command) -> dict[str, Any]:
        """Return values for a command's parameters, by parameter name: click's ``default_map``.

        Raises:
            UsageError: a value that cannot be the option's.
        """
        options = _options(command)
        own = self.values.get(name, {})
        if not isinstance(own, dict):
            raise UsageError(f"{name!r} is a command: its options go into a table [{name}]", where=self.path)
        # A table is another command's, like [generate] beside an option --generate, unless the option takes tables.
        common = {
            key: value
            for key, value in self.values.items()
            if key in options and (options[key].multiple or not isinstance(value, dict))
        }
        chosen = common | own
        by_variable = {str(option.envvar): key for key, option in options.items() if option.envvar}
        for key, variable in SETTINGS.items():
            if key in self.values and (flag := by_variable.get(variable)):
                chosen.setdefault(flag, self.values[key])
        return {str(options[key].name): self._value(key, options[key], value) for key, value in chosen.items()}

    def check(self, commands: Mapping[str, click.Command]) -> None:
        """Raise UsageError for a key that no command has, and for one in a command's table that it does not have."""
        known = {*SETTINGS, *commands, *(key for each in commands.values() for key in _options(each))}
        if unknown := sorted(self.values.keys() - known):
            raise UsageError(f"unknown key {unknown[0]!r}", where=self.path, hint=_hint(unknown[0], known))
        for name, own in self.values.items():
            if name not in commands or not isinstance(own, dict):
                continue
            options = _options(commands[name])
            if unknown := sorted(own.keys() - options.keys()):
                raise UsageError(
                    f"[{name}] has the unknown key {unknown[0]!r}", where=self.path, hint=_hint(unknown[0], options)
                )

    def _value(self, key: str, option: click.Option, value: Any) -> Any:
        """Return a value as the command line would give it: text, so that the same checks read it."""
        if option.is_flag:
            if isinstance(value, bool):
                return value
            raise UsageError(f"{key} is {value!r}, expected true or false", where=self.path)
        if not option.multiple:
            return self._text(key, value)
        if isinstance(value, dict):
            return [f"{name}={self._text(key, one)}" for name, one in value.items()]
        if isinstance(value, list):
            return [self._text(key, one) for one in value]
        raise UsageError(
            f"{key} may be given several times: write a list, or a table of NAME = PATH", where=self.path
        )

    def _text(self, key: str, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise UsageError(f"{key} is {value!r}, expected a text or a number", where=self.path)
        return str(value)


def _options(command: click.Command) -> dict[str, click.Option]:
    """Return a command's options by key; an option that has two names has two keys."""
    found = [(flag, each) for each in command.params if isinstance(each, click.Option) for flag in each.opts]
    return {flag.removeprefix("--"): each for flag, each in found if flag.startswith("--")}


def _hint(wrong: str, known: Any) -> str:
    near = difflib.get_close_matches(wrong, known, n=1)
    return f"did you mean {near[0]!r}?" if near else "keys are options without their dashes; see `moe-router config`"


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError("no such configuration file", where=path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"not TOML: {error}", where=path) from error
    except OSError as error:
        raise UsageError(f"cannot read: {error.strerror or error}", where=path) from error


def _own_part(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return our table of a ``pyproject.toml``, or the whole of any other file."""
    if path.name != PROJECT_FILE.name:
        return content
    tool = content.get("tool", {})
    own = tool.get("moe-router", {}) if isinstance(tool, dict) else {}
    if not isinstance(own, dict):
        raise UsageError("[tool.moe-router] is not a table", where=path)
    return own


def sources(
    config: ConfigFile, name: str, command: click.Command, parent: click.Context, flags: Sequence[str] = ()
) -> Iterator[tuple[str, Any, str]]:
    """Yield each option of a command that is called with `flags`: its value, and where that comes from, in words."""
    context = click.Context(command, info_name=name, parent=parent.find_root())
    context.default_map = config.defaults(name, command)
    given, _, _ = command.make_parser(context).parse_args(list(flags))
    for key, option in _options(command).items():
        value, source = option.consume_value(context, given)
        match source:
            case click.core.ParameterSource.COMMANDLINE:
                yield f"--{key}", value, "flag"
            case click.core.ParameterSource.ENVIRONMENT:
                yield f"--{key}", value, f"environment, {option.envvar}"
            case click.core.ParameterSource.DEFAULT_MAP:
                yield f"--{key}", value, str(config.path)
            case _:
                words = option.show_default if isinstance(option.show_default, str) else None
                yield f"--{key}", words or option.to_info_dict()["default"], "default"
