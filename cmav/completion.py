"""Completion of `cmav …` in shells."""

import ast
import importlib.util
from collections.abc import Mapping, Sequence

from cmav import presets

_USAGE = """\
usage: cmav completion bash|zsh|fish

Prints what a shell needs to complete commands, their flags and the names of configs. For the current shell:

  source <(cmav completion bash)
  source <(cmav completion zsh)
  cmav completion fish | source

To have it always, put the same line into ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish."""

_BASH = """\
_cmav() {
  local IFS=$'\\n'
  COMPREPLY=($(cmav completion words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
  [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
}
complete -o default -F _cmav cmav
"""
_SCRIPTS = {
    "bash": _BASH,
    "zsh": f"autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n{_BASH}",
    "fish": "complete -c cmav -a '(cmav completion words (commandline -opc)[2..] (commandline -ct))'\n",
}


def main(arguments: Sequence[str], commands: Mapping[str, tuple[str, str]]) -> int:
    """Prints a shell's script, or, after `words`, how what was typed may go on; `commands` as in `cmav.__main__`."""
    if arguments and arguments[0] == "words":
        print("\n".join(words(arguments[1:] or [""], commands)))
    elif arguments and arguments[0] in _SCRIPTS:
        print(_SCRIPTS[arguments[0]], end="")
    else:
        print(_USAGE)
        return 0 if arguments in (["--help"], []) else 2
    return 0


def words(typed: Sequence[str], commands: Mapping[str, tuple[str, str]]) -> list[str]:
    """How the last of the words after `cmav` may go on; nothing: the shell's own completion, of files, knows best."""
    *before, last = typed
    if not before:
        return [name for name in (*commands, "completion") if name.startswith(last)]
    if before[0] == "completion":
        return [name for name in _SCRIPTS if name.startswith(last)]
    if before[0] not in commands:
        return []
    if last == "=" or before[-1] == "=":  # Bash takes a = for a word of its own.
        flag, last = (before[-1], "") if last == "=" else (before[-2], last)
        return [name for name in presets.names() if name.startswith(last)] if flag == "--config" else []
    if last.startswith("--config="):
        return [f"--config={name}" for name in presets.names() if f"--config={name}".startswith(last)]
    flags = flags_of(commands[before[0]][0])
    if last.startswith("-"):
        return [f"--{flag}=" for flag in flags if f"--{flag}".startswith(last)]
    takes_config = before[-1] == "--config" or (len(before) == 1 and "config" in flags)
    return [name for name in presets.names() if name.startswith(last)] if takes_config else []


def flags_of(module: str) -> list[str]:
    """Flags of a command, as its file defines them. Read, not imported: that would take seconds."""
    found = ["help"]
    for node in ast.walk(_parse(module)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if function in ("define_flags", "define_config_flag"):
            found += ["config", *(("workdir", "distributed") if function == "define_flags" else ())]
        elif node.args and isinstance(node.args[0], ast.Constant) and str(node.args[0].value).strip("-"):
            if function.startswith("DEFINE_"):
                found.append(node.args[0].value)
            elif function in ("add", "add_argument") and node.args[0].value.startswith("--"):
                found.append(node.args[0].value.removeprefix("--"))
    return found


def _parse(module: str) -> ast.Module:
    with open(importlib.util.find_spec(module).origin) as file:
        return ast.parse(file.read())
