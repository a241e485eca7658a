"""What every test stands on: four logical CPUs, and the real data where a machine has them."""

import importlib.machinery
import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


class _FourLogicalCPUs:
    """Splits the CPU into four devices for the tests of several replicas, right behind TensorFlow's import.

    Later is too late: the first operation fixes the devices.  Earlier, here, would cost every test that needs no
    TensorFlow its import; so this stands in `sys.meta_path` and waits for it.
    """

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                cpu = module.config.list_physical_devices("CPU")[0]
                module.config.set_logical_device_configuration(cpu, [module.config.LogicalDeviceConfiguration()] * 4)

            spec.loader.exec_module = exec_module
        return spec


assert "tensorflow" not in sys.modules, "a pytest plugin has imported TensorFlow before tests/conftest.py could"
sys.meta_path.insert(0, _FourLogicalCPUs)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data: RESNET_TASKS_DATA, else `../shared/data` beside the checkout; skips the test without."""
    asked = os.environ.get("RESNET_TASKS_DATA")
    root = Path(asked) if asked else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"needs real data, and there is no {root}; RESNET_TASKS_DATA names the folder")
    return root
