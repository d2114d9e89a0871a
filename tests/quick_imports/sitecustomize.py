"""Runs first in each Python process that tests start: garbage is looked for less often.

Most of the CPU time of tests on Ray are the imports of its processes, of which the garbage collection takes an eighth:
`import torch, ray.train` takes 2.8 s instead of 3.2.
"""

import gc

gc.set_threshold(20_000)
