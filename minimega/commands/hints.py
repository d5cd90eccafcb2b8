"""Which option somebody meant by a name that is none."""

from minimega.commands import names
from minimega.commands.option_table import TABLE, of_command
from minimega.errors import nearest


def here(name: str, command: str = "", prefix: str = "--") -> str:
    """The end of an error message: the option to use instead of an unknown name, or "".

    `command` is the command that was typed; "" searches all of them.

    >>> here("learning_rate", "train"), here("max_new_tokens", "train")
    ('; use --lr', '; use --generate-sentence-length of generate, score, sheet')
    """
    mine = of_command(command) if command else TABLE
    name = names.plain(name)
    off = name.removeprefix("no-")
    if name != off and off in mine and mine[off].kind is bool:
        return f"; use {prefix}{off} false"
    meant = names.found(name, names.OPTIONS)
    own = [said for said in meant if said.split()[0] in mine]
    if not own and (name in mine or (near := nearest(name, mine, prefix))):
        return f"; did you mean {prefix}{name}?" if name in mine else near
    if not meant or (not own and name in TABLE):  # an option of other commands
        return ""
    said = (own or meant)[0]
    where = "" if own else f" of {TABLE[said.split()[0]].commands.replace(' ', ', ')}"
    remark = f" ({names.REMARKS[name]})" if name in names.REMARKS else ""
    return f"; use {prefix}{said}{where}{remark}"
