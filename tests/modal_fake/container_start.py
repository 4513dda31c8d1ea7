"""The first thing in a container's process: what its image does not hold is hidden, then modal's own runtime starts.

The process runs with this machine's Python and packages. The variable ``FAKE_HIDDEN`` says which of them a container
of its image would not have; they can be neither imported nor found as installed. Run as a script, by its path.
"""

import atexit
import json
import os
import runpy
import sys
from importlib.machinery import PathFinder

HIDDEN = json.loads(os.environ["FAKE_HIDDEN"])
MODULES, DISTRIBUTIONS = frozenset(HIDDEN["modules"]), frozenset(HIDDEN["distributions"])


class OnTheImage:
    """Finds what the image holds."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in MODULES else PathFinder.find_spec(name, path, target)

    @staticmethod
    def find_distributions(*context):
        for found in PathFinder.find_distributions(*context):
            if found._normalized_name.replace("_", "-") not in DISTRIBUTIONS:
                yield found

    invalidate_caches = PathFinder.invalidate_caches


sys.path[:] = [path for path in sys.path if path not in HIDDEN["paths"]]
finders = [each for each in sys.meta_path if "editable" not in getattr(each, "__module__", each.__class__.__name__)]
sys.meta_path[:] = [OnTheImage if each is PathFinder else each for each in finders]
# Python takes seconds at the end to clear torch away: the exit hook that is registered first runs last.
atexit.register(os._exit, 0)
runpy.run_module("modal._container_entrypoint", run_name="__main__", alter_sys=True)
