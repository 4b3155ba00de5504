"""These tests run in a process of their own, which ``tests/kernels/test_interpreter.py`` starts.

Triton reads TRITON_INTERPRET when it decorates a kernel, so one process cannot both interpret and compile.
"""

import os

collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["check_*.py"]
