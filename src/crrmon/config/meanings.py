"""What the settings mean, as it stands below each of them in the source.

Pydantic reads it, too, when told to; but whenever a section is declared, which is at every start, and it takes longer
than all the rest of declaring them. Only the example and the schema show it.
"""

import ast
import inspect
from collections.abc import Mapping
from itertools import pairwise

from pydantic import BaseModel


def meanings(section: type[BaseModel]) -> Mapping[str, str]:
    """Return what the settings of a section mean, by their names; those without a word of their own are left out."""
    (declared,) = ast.parse(inspect.getsource(section)).body
    if not isinstance(declared, ast.ClassDef):
        raise TypeError(f"{section} is no class of a module")
    return {
        setting.target.id: inspect.cleandoc(below.value.value)
        for setting, below in pairwise(declared.body)
        if isinstance(setting, ast.AnnAssign)
        and isinstance(setting.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }
