#!/usr/bin/env python3
"""The one command: `up`, `test` and Django's own words. Any Python can read this file, to say which one it needs."""

import os
import shutil
import sys


def find_newer_python():
    """Replace this too old Python by a newer one of this machine, if there is one."""
    for minor in (14, 13, 12, 11):
        path = shutil.which("python3.%d" % minor)
        if path:
            os.execv(path, [path] + sys.argv)
    sys.exit(
        "Manabooru needs Python 3.11 or newer and this is Python %d.%d: install a newer one "
        "(apt install python3.11) and start again with it." % sys.version_info[:2]
    )


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        find_newer_python()
    from gallery.launch.bootstrap import main

    main(sys.argv)
