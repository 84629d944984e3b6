"""In the guest, granted commands are also where the host has them. Standard library only."""

import os

_BIN = "/commands/bin"


def link(places: list[str], root: str = "") -> None:
    """Makes a link to a command at each of its places, in what is the guest's alone.

    Where a granted file or tree lies, none is made: that is the host's, and nothing
    in it can be executed.
    """
    for place in places:
        if _open_up(os.path.dirname(place), root) and not os.path.lexists(root + place):
            os.symlink(f"{_BIN}/{os.path.basename(place)}", root + place)


def _open_up(directory: str, root: str) -> bool:
    """Makes a path passable for the script, and says whether all of it is the guest's."""
    own = os.stat(root or "/").st_dev
    built = root
    for part in directory.split("/")[1:]:
        built += "/" + part
        try:
            os.mkdir(built, 0o711)
        except FileExistsError:
            if os.path.islink(built) or os.stat(built).st_dev != own:
                return False
            # A closed directory of the image: passable now, and as little listed as before.
            os.chmod(built, os.stat(built).st_mode | 0o111)
    return True
