"""A step that dies after its first figure, as a driver lets a process die."""

import os
import signal


def run(device, report):
    report.add("before", "", "figure", 1.0)
    os.kill(os.getpid(), signal.SIGSEGV)
