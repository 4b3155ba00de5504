"""A step whose imports are missing."""


def run(device, report):
    import no_such_module_anywhere  # noqa: F401
