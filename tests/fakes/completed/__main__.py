"""
MiniStack with what `crrmon deploy` needs and it lacks; `fakes.whole_ministack` runs it.

Importing a module here puts it into MiniStack; those of resources and steps go through its table of types.
"""

from ministack.app import main

from fakes.completed import notifications, operations, resources, steps, trails

_PUT_IN = (notifications, operations, trails)

resources.complete()
steps.complete()
main()
