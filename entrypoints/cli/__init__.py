"""The ``moe-router`` command. Commands are thin: options in, one use case, its report printed.

Each command lives in a module of its own name with a ``command`` in it and is imported only when it is
called, so that ``--help`` stays fast.
"""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from domain.errors import MoeRouterError
from entrypoints.bootstrap import Application
from entrypoints.cli.completion import COMPLETE, PROGRAM
from entrypoints.cli.config_file import ConfigFile
from entrypoints.cli.next_step import read_by_a_program
from entrypoints.exit_codes import exit_code
from entrypoints.logs import set_up_logs
from entrypoints.settings import Variable
from entrypoints.signals import ProcessInterruption
from entrypoints.terminal import plain_streams
from entrypoints.unread import quiet_when_unread
from entrypoints.version import tool_version

# name: (module, one-line help). The help stands here so that the list prints without importing the modules.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "Run the whole chain on the embedded base model."),
    "generate": ("generate", "Make a balanced routing data set out of the adapters' own training data."),
    "verify": ("verify", "Check a routing data set: files, counts, labels, balance, leakage."),
    "inspect": ("inspect", "Look into a routing data set: lengths, telling words, near-duplicates."),
    "publish": ("publish", "Upload a routing data set to a Modal volume."),
    "datasets": ("datasets", "List the routing data sets on a Modal volume."),
    "download": ("download", "Fetch a data set or a trained router from a Modal volume, verified."),
    "train": ("train", "Train a router on a routing data set."),
    "evaluate": ("evaluate", "Score a router on held-out prompts."),
    "compare": ("compare", "Measure adapters, and a router's choices, by what they do to answers."),
    "describe": ("describe", "Print what a router file is."),
    "export": ("export", "Write a router in another form: a folder for a hub, a torch file for other tools."),
    "push-to-hub": ("push_to_hub", "Share a router on the Hugging Face hub."),
    "route": ("route", "Decide which adapter should answer, and explain why."),
    "infer": ("infer", "Answer prompts with the LoRA adapter that the router picks."),
    "serve": ("serve", "Serve an endpoint that picks the adapter: here, or in front of another server."),
    "drift": ("drift", "Tell from a server's log whether its traffic has moved, and what it refuses."),
    "learn": ("learn", "Make a larger data set out of the feedback in a server's log."),
    "doctor": ("doctor", "Prove that each LoRA adapter fits the base model and has an effect."),
    "add-adapter": ("add_adapter", "Teach a router one adapter more, and report what that does to the others."),
    "remove-adapter": ("remove_adapter", "Make a router forget one adapter, and report what that does."),
    "modal-check": ("modal_check", "Check what can be checked about Modal without an account; list the first steps."),
    "tensorboard": ("tensorboard", "Serve the training curves."),
    "config": ("config", "Show every setting's value, and where it comes from."),
    "completion": ("completion", "Print the completion script of a shell."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"entrypoints.cli.{COMMANDS[cmd_name][0]}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; raises NoSuchCommand that names similar ones."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the group's own options; ``--help`` and ``--version`` print here already."""
        with quiet_when_unread():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; signals end it with one line, and so does a reader that goes away, with none."""
        try:
            with quiet_when_unread(), ProcessInterruption()(hint=None):
                return super().invoke(ctx)
        except MoeRouterError as error:
            error.hint = error.hint and self._with_flags(ctx, error.hint)
            raise

    def _with_flags(self, ctx: click.Context, hint: str) -> str:
        """Return a hint with the options that it names in backticks as flags of the command that was called."""
        command = self.get_command(ctx, ctx.invoked_subcommand or "")
        flags = {flag for each in command.params for flag in each.opts} if command else set()

        def flag(named: re.Match[str]) -> str:
            return f"--{named[1]}" if f"--{named[1].split()[0]}" in flags else named[0]

        return re.sub(r"`([a-z][^`]*)`", flag, hint)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"moe-router {tool_version()}")
        ctx.exit()


def _use_config(ctx: click.Context, config: ConfigFile) -> None:
    """Let a configuration file's values stand for defaults of the command that follows."""
    group = ctx.command
    assert isinstance(group, click.Group)
    ctx.meta["config"] = config
    if config.path is None or ctx.invoked_subcommand is None:
        return
    commands = {name: command for name in COMMANDS if (command := group.get_command(ctx, name))}
    config.check(commands)
    ctx.default_map = {
        ctx.invoked_subcommand: config.defaults(ctx.invoked_subcommand, commands[ctx.invoked_subcommand])
    }
    environment = {name: value for name, value in ctx.obj.environment.items() if value}
    ctx.obj.environment = config.environment | environment


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show it.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    help="Least severity of log lines.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar=Variable.CONFIG,
    show_envvar=True,
    show_default="moe-router.toml, else pyproject.toml",
    help="Defaults for options, as TOML.",
)
@click.pass_context
def cli(ctx: click.Context, log_level: str, config: Path | None) -> None:
    """Decide which LoRA adapter should answer a prompt, or that none should.

    Results go to stdout; progress and logs go to stderr. Every option: flag, else environment variable, else
    configuration file, else default.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        return
    set_up_logs(log_level)
    ctx.obj = ctx.obj or Application(quiet=read_by_a_program)
    _use_config(ctx, ConfigFile.read(config))


def main(argv: list[str] | None = None, app: Application | None = None) -> NoReturn:
    """Run the command line; a user's error becomes one line on stderr and its exit code.

    Args:
        argv: the words after the program's name; else those of the process.
        app: the composition root; else the real one.
    """
    if COMPLETE in os.environ:  # a shell reads this, not a terminal
        cli.main(args=argv, prog_name=PROGRAM)
    with plain_streams():
        _run(argv, app)


def _run(argv: list[str] | None, app: Application | None) -> NoReturn:
    try:
        code = cli.main(args=argv, prog_name=PROGRAM, standalone_mode=False, obj=app)
    except click.UsageError as error:
        asked = error.ctx.command_path if error.ctx else PROGRAM
        click.echo(f"moe-router: {_where(error)}{error.format_message()} ({asked} --help shows the usage)", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("moe-router: interrupted", err=True)
        sys.exit(130)
    except MoeRouterError as error:
        click.echo(f"moe-router: {error}", err=True)
        sys.exit(exit_code(error))
    sys.exit(code if isinstance(code, int) else 0)


def _where(error: click.UsageError) -> str:
    """Return the configuration file that a wrong value came from, else nothing."""
    if error.ctx is None or not isinstance(error, click.BadParameter) or error.param is None:
        return ""
    source = error.ctx.get_parameter_source(str(error.param.name))
    return f"{error.ctx.meta['config'].path}: " if source is click.core.ParameterSource.DEFAULT_MAP else ""
