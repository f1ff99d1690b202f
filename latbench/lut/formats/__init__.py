"""Formats of tables that other projects make and read, one file each.

A format names the row of an op; import and export both use that name. Formats enter themselves where they are
defined, and every module of this package is imported here: a new format is one new file.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)
