"""``fleetmon completion SHELL``: a script that completes commands, options and running agents.

The script is made from the commands' own parsers. For names of agents it asks the running fleet,
quickly or not at all, and never with a word of complaint.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from fleetmon.cli import _out as out

if TYPE_CHECKING:
    import argparse

SHELLS = ("bash", "zsh", "fish")

_PATIENCE = 1.0  # seconds: whoever presses Tab does not wait longer
_TAKE_NAMES = frozenset(("name", "names", "agent", "to"))  # destinations that want an agent
_TAKE_FILES = frozenset(
    ("token_file", "ca_file", "path", "directory", "agents", "record", "replay", "file")
)


class Option(NamedTuple):
    """One option of a command, or what stands without one (then ``words`` is empty)."""

    words: tuple[str, ...]
    help: str
    valued: bool
    takes: str  # agents, fleets, files, or words between spaces


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "shell", choices=(*SHELLS, "agents", "fleets"), help="agents and fleets list names instead"
    )
    parser.add_argument("--fleet", metavar="NAME", help="whose agents are listed")
    parser.add_argument("--directory", metavar="DIR", help="where its socket is")
    parser.epilog = (
        'bash: eval "$(fleetmon completion bash)" in ~/.bashrc; '
        'zsh: eval "$(fleetmon completion zsh)" in ~/.zshrc, after compinit; '
        "fish: fleetmon completion fish > ~/.config/fish/completions/fleetmon.fish"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the script, or names; returns the exit code."""
    if arguments.shell == "agents":
        return _names(arguments.fleet, arguments.directory)
    if arguments.shell == "fleets":
        return _fleets(arguments.directory)
    options = {name: _options(name) for name in _commands()}
    script = {"bash": _bash, "zsh": _zsh, "fish": _fish}[arguments.shell]
    sys.stdout.write(script(options))
    return 0


def _commands() -> dict[str, str]:
    from fleetmon.cli import COMMANDS

    return COMMANDS


def _names(fleet: str | None, directory: str | None) -> int:
    from fleetmon.control.client import Client, find
    from fleetmon.control.protocol import ControlError

    try:
        agents = Client(find(fleet, directory=directory).socket, patience=_PATIENCE).snapshot()[
            "agents"
        ]
    except (ControlError, OSError):
        return 0  # a shell that completes must not be disturbed
    names = [a["agent_id"] for a in agents]
    out.say(*(name for name in names if name.isprintable() and not any(c.isspace() for c in name)))
    return 0


def _fleets(directory: str | None) -> int:
    from fleetmon.control import registry

    for entry in registry.entries(directory):
        try:
            if registry.alive(entry):
                out.say(out.clean(entry.name))
        except OSError:
            continue
    return 0


def _options(name: str) -> list[Option]:
    from fleetmon.cli import parser_of

    parser, _ = parser_of(name)
    found = []
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list of them
        choices = " ".join(map(str, action.choices or ()))
        takes = (
            "agents"
            if action.dest in _TAKE_NAMES
            else "fleets"
            if action.dest == "fleet"
            else "files"
            if action.dest in _TAKE_FILES
            else choices
        )
        help_text = (action.help or "").replace("%%", "%").split(";")[0].split(" (default")[0]
        found.append(Option(tuple(action.option_strings), help_text, action.nargs != 0, takes))
    return found


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


_BASH = """\
# fleetmon completion for bash: eval "$(fleetmon completion bash)"
_fleetmon() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}}
  local command="" word skip="" fleet=""
  local -a words=("${{COMP_WORDS[@]:1:COMP_CWORD-1}}")
  for word in "${{words[@]}}"; do
    if [[ $skip ]]; then
      [[ $skip == --fleet ]] && fleet=$word
      skip=""
    elif [[ $word == --fleet || $word == --url || $word == --*-file ]]; then
      skip=$word
    elif [[ $word != -* && -z $command ]]; then
      command=$word
    fi
  done
  local takes="" options=""
  case "$command" in
    "") options={before}; takes={commands} ;;
{cases}
  esac
  case "$command $prev" in
{values}
  esac
  [[ -z $command && $prev == --fleet ]] && {{ options=""; takes="@fleets"; }}
  if [[ $cur == -* ]]; then takes=$options; fi
  case "$takes" in
    @agents) takes=$(fleetmon completion agents ${{fleet:+--fleet "$fleet"}} 2>/dev/null) ;;
    @fleets) takes=$(fleetmon completion fleets 2>/dev/null) ;;
    @files) COMPREPLY=($(compgen -f -- "$cur")); return ;;
  esac
  COMPREPLY=($(compgen -W "$takes" -- "$cur"))
}}
complete -F _fleetmon fleetmon
"""


def _takes(takes: str) -> str:
    return f"@{takes}" if takes in {"agents", "fleets", "files"} else takes


def _bash(commands: dict[str, list[Option]]) -> str:
    cases, values = [], []
    for name, options in commands.items():
        words = " ".join(word for option in options for word in option.words)
        bare = next((o.takes for o in options if not o.words and o.takes), "")
        cases.append(f"    {name}) options={_quoted(words)}; takes={_quoted(_takes(bare))} ;;")
        for option in options:
            if option.words and option.valued:
                pattern = "|".join(_quoted(f"{name} {word}") for word in option.words)
                takes = _quoted(_takes(option.takes))
                values.append(f'    {pattern}) takes={takes}; options="" ;;')
    return _BASH.format(
        before=_quoted("--fleet --url --token-file --ca-file --help --version"),
        commands=_quoted(" ".join(commands)),
        cases="\n".join(cases),
        values="\n".join(values),
    )


_ZSH = """\
#compdef fleetmon
# fleetmon completion for zsh: eval "$(fleetmon completion zsh)", after compinit
_fleetmon_agents() {{
  local -a names which
  [[ -n ${{opt_args[--fleet]}} ]] && which=(--fleet ${{opt_args[--fleet]}})
  names=(${{(f)"$(fleetmon completion agents $which 2>/dev/null)"}})
  compadd -a names
}}
_fleetmon_fleets() {{
  local -a names
  names=(${{(f)"$(fleetmon completion fleets 2>/dev/null)"}})
  compadd -a names
}}
_fleetmon() {{
  local curcontext=$curcontext state line
  typeset -A opt_args
  _arguments -C \\
    '--fleet[which fleet]:fleet:_fleetmon_fleets' \\
    '--url[where it is]:url:' \\
    '--token-file[its token]:file:_files' \\
    '--ca-file[certificates]:file:_files' \\
    '--version[print it]' '--help[explain]' \\
    '1:command:->command' '*::argument:->argument'
  case $state in
    command)
      local -a commands
      commands=(
{commands}
      )
      _describe command commands ;;
    argument)
      case $words[1] in
{cases}
      esac ;;
  esac
}}
compdef _fleetmon fleetmon
"""

_ZSH_TAKES = {"agents": "_fleetmon_agents", "fleets": "_fleetmon_fleets", "files": "_files"}


def _zsh_action(takes: str) -> str:
    return _ZSH_TAKES.get(takes, f"({takes})" if takes else " ")


def _zsh(commands: dict[str, list[Option]]) -> str:
    purposes = _commands()
    cases = []
    for name, options in commands.items():
        words = []
        for option in options:
            told = option.help.replace("[", "(").replace("]", ")").replace(":", " -")
            for word in option.words:
                value = f":value:{_zsh_action(option.takes)}" if option.valued else ""
                words.append(_quoted(f"*{word}[{told}]{value}"))
            if not option.words:
                words.append(_quoted(f"*:{'name'}:{_zsh_action(option.takes)}"))
        bare = [word for word in words if word.startswith("'*:")]
        kept = [word for word in words if not word.startswith("'*:")] + bare[:1]
        cases.append(f"        {name}) _arguments " + " ".join(kept) + " ;;")
    described = (
        "        " + _quoted(f"{name}:{purposes[name].replace(':', ' -')}") for name in commands
    )
    return _ZSH.format(commands="\n".join(described), cases="\n".join(cases))


def _fish(commands: dict[str, list[Option]]) -> str:
    purposes = _commands()
    lines = [
        "# fleetmon completion for fish",
        "complete -c fleetmon -f",
        "complete -c fleetmon -l fleet -x -a '(fleetmon completion fleets 2>/dev/null)'",
        "complete -c fleetmon -l url -x",
    ]
    for name, options in commands.items():
        lines.append(
            f"complete -c fleetmon -n __fish_use_subcommand -a {name} -d {_quoted(purposes[name])}"
        )
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        for option in options:
            action = {
                "agents": " -a '(fleetmon completion agents 2>/dev/null)'",
                "fleets": " -a '(fleetmon completion fleets 2>/dev/null)'",
                "files": "",
            }.get(option.takes, f" -a {_quoted(option.takes)}" if option.takes else "")
            if not option.words:
                if action:
                    lines.append(f"complete -c fleetmon {seen}{action}")
                continue
            long = [f"-l {word[2:]}" for word in option.words if word.startswith("--")]
            short = [f"-s {word[1:]}" for word in option.words if not word.startswith("--")]
            value = "" if not option.valued else " -r" if option.takes == "files" else " -x"
            lines.append(
                f"complete -c fleetmon {seen} {' '.join(long + short)}{value}"
                f"{action if option.valued else ''} -d {_quoted(option.help)}"
            )
    return "\n".join(lines) + "\n"
