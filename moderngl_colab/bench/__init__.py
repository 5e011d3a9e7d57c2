"""What the GPU is worth: the same scenes by each strategy, and how much faster they are than Mesa.

::

    from moderngl_colab.bench import bench

    print(bench(seconds=1))
"""

from moderngl_colab.bench.benchmark import bench
from moderngl_colab.bench.result import Benchmark

__all__ = ["Benchmark", "bench"]
