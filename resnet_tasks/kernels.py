"""Which kernels TensorFlow computes with on a CPU: said before it is imported, or not at all."""

import os
import platform


def prefer_onednn() -> None:
    """Has TensorFlow use oneDNN on every x86-64 CPU, unless TF_ENABLE_ONEDNN_OPTS says otherwise already.

    By itself it does so only where the CPU has instructions for neural networks (AVX-512 VNNI, AMX), and takes Eigen's
    kernels elsewhere.  On a CPU with AVX2 alone oneDNN trains 1.2 to 2.1 times as fast: benchmarks/onednn.py.
    """
    if platform.machine().lower() in ("x86_64", "amd64"):  # elsewhere the switch leads to kernels that nobody tried
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
