"""Names that pickles of training scripts hold, beside those that ``torch.load`` knows."""

# Modules whose names in a pickle mean that loading it was to run something. A stand-in would run nothing, but nobody
# should use such a file.
CODE_MODULES = frozenset(
    (
        *("os", "posix", "nt", "sys", "subprocess", "shutil", "pty", "runpy", "importlib", "pkgutil", "imp"),
        *("socket", "ctypes", "code", "codeop", "pickle", "_pickle", "marshal", "multiprocessing", "asyncio"),
        *("webbrowser", "urllib", "http", "ftplib", "smtplib", "tempfile", "io", "_io", "fileinput", "inspect", "gc"),
        *("signal", "platform", "timeit", "cProfile", "profile", "pdb", "bdb", "doctest", "pip", "setuptools"),
        *("distutils", "venv", "ensurepip", "zipimport", "commands", "popen2"),
    )
)
CODE = frozenset(
    (
        *("builtins.eval", "builtins.exec", "builtins.compile", "builtins.open", "builtins.__import__"),
        *("builtins.execfile", "builtins.breakpoint", "builtins.input", "builtins.globals", "builtins.locals"),
        *("builtins.vars", "builtins.delattr", "builtins.setattr", "operator.methodcaller", "operator.attrgetter"),
        *("operator.itemgetter", "functools.reduce", "types.CodeType", "types.FunctionType", "torch.load"),
        *("torch.hub.load", "torch.jit.load", "torch.serialization.load", "torch.utils.cpp_extension.load"),
        *("torch.package.PackageImporter", "numpy.load", "numpy.loadtxt", "numpy.fromfile", "numpy.memmap"),
    )
)
# What training scripts store as a matter of course; nothing is said when it is skipped.
PLAIN_MODULES = frozenset(
    (
        *("numpy", "builtins", "collections", "datetime", "pathlib", "argparse", "decimal", "fractions", "uuid"),
        *("enum", "typing", "types", "functools", "logging", "re", "copyreg", "_codecs", "random", "string"),
        *("numbers", "zoneinfo", "dataclasses", "array"),
    )
)
# torch.load fills exact dictionaries and lists only, so that these become such.
DICTIONARIES = frozenset(("collections.defaultdict",))
LISTS = frozenset(("collections.deque",))
