"""``moe-router config``: show every setting's value, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from attrs import fields

from domain.errors import UsageError
from entrypoints.bootstrap import Application
from entrypoints.cli.config_file import SETTINGS, ConfigFile, sources
from entrypoints.cli.options import json_option
from entrypoints.reports.printing import print_json
from entrypoints.settings import Settings, Variable

Row = tuple[str, Any, str]


@click.command("config", context_settings={"ignore_unknown_options": True})
@click.argument("name", required=False, metavar="[COMMAND")
@click.argument("flags", nargs=-1, type=click.UNPROCESSED, metavar="[FLAGS]...]")
@click.option("--all", "everything", is_flag=True, help="Show defaults, too; with a COMMAND they are always shown.")
@json_option
@click.pass_context
def command(ctx: click.Context, name: str | None, flags: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Show the options that the environment or the configuration file sets, of one COMMAND or of all.

    A flag goes before the environment, that before the file, and that before the default: `moe-router config train
    --epochs 3` shows what `moe-router train --epochs 3` would take, and from where.
    """
    config: ConfigFile = ctx.find_root().meta["config"]
    rows = {"settings": list(_settings(ctx.obj, config))}
    for each, its in _commands(ctx, name):
        rows[each] = [row for row in sources(config, each, its, ctx, flags) if row[0] != "--json"]
    if not (name or everything):
        rows = {part: [row for row in those if row[2] != "default"] for part, those in rows.items()}
    file = None if config.path is None else str(config.path)
    if as_json:
        values = {part: {key: {"value": _plain(v), "from": o} for key, v, o in those} for part, those in rows.items()}
        print_json({"file": file, **values})
        return
    click.echo(f"Configuration file: {file or 'none (moe-router.toml, or [tool.moe-router] of pyproject.toml)'}")
    for part, those in rows.items():
        if those:
            click.echo(f"\n{part}")
            click.echo("\n".join(_lines(those)))


def _commands(ctx: click.Context, name: str | None) -> Iterator[tuple[str, click.Command]]:
    root = ctx.find_root()
    group = root.command
    assert isinstance(group, click.Group)
    for each in [name] if name else group.list_commands(root):
        found = group.get_command(root, each)
        if found is None:
            raise UsageError(f"there is no command {each!r}", hint="moe-router --help lists them")
        yield each, found


def _settings(app: Application, config: ConfigFile) -> Iterator[Row]:
    """Yield what has an environment variable and no flag."""
    by_variable = {each.metadata["variable"]: each.name for each in fields(Settings)}
    for key, variable in SETTINGS.items():
        value = app.cache_dir if variable is Variable.CACHE else getattr(app.settings, by_variable[variable])
        if (variable in app.environment) and app.environment[variable] != config.environment.get(variable):
            yield key, value, f"environment, {variable}"
        else:
            yield key, value, str(config.path) if variable in config.environment else "default"


def _lines(rows: list[Row]) -> Iterator[str]:
    width = max(len(key) for key, _, _ in rows)
    values = [_shown(value) for _, value, _ in rows]
    column = min(max(map(len, values)), 40)
    for (key, _, origin), value in zip(rows, values, strict=True):
        yield f"  {key:<{width}}  {value:<{column}}  {origin}"


def _shown(value: Any) -> str:
    plain = _plain(value)
    if isinstance(plain, list):
        return ", ".join(map(str, plain)) or "–"
    return "–" if plain is None else str(plain).lower() if isinstance(plain, bool) else str(plain)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)
