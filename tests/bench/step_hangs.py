"""A step that never ends, nor does the process that it has started, and which takes no notice of SIGTERM."""

import signal
import subprocess
import sys
import time


def run(device, report):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report.facts["child"] = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid
    report.add("before", "", "figure", 1.0)
    time.sleep(600)
