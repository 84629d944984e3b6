"""In the guest, granted commands are also where the host has them. Standard library only."""

import os

_BIN = "/commands/bin"


def link(places: list[str]) -> None:
    """Makes a link to a command at each of its places, in what belongs to the guest alone.

    Where a granted tree or file lies, nothing is made: that is the host's, and what it
    shows there is not executable.
    """
    for place in places:
        if _prepare(os.path.dirname(place)) and not os.path.lexists(place):
            os.symlink(f"{_BIN}/{os.path.basename(place)}", place)


def _prepare(directory: str) -> bool:
    """Makes directories passable, as far as they are the image's own; says whether all are."""
    own = os.stat("/").st_dev
    built = ""
    for part in directory.split("/")[1:]:
        built += "/" + part
        try:
            os.mkdir(built, 0o711)
        except FileExistsError:
            status = os.lstat(built)
            if status.st_dev != own or os.path.islink(built):
                return False
            os.chmod(built, status.st_mode | 0o011)
    return True
