"""``python -m gankit``: the command, for launchers (``torchrun -m gankit train …``) that want a module."""

from gankit.cli import command

if __name__ == "__main__":
    command()
