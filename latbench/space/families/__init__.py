"""The families of ops, one file each.

A family's file holds its op (`latbench.space.opspec.OpSpec`) and, if layers may choose it, its candidate
(`latbench.space.candidate.Candidate`). Both enter themselves where they are defined, and every module of this
package is imported here: a new family is one new file.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)
