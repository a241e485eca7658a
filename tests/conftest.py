"""What every test stands on: four logical CPUs, and the real data where a machine has them."""

import importlib.machinery
import os
import sys
from pathlib import Path

import pytest

from resnet_tasks.kernels import prefer_onednn

prefer_onednn()
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


sys.path.append(str(Path(__file__).parent / "support"))  # tiny_backbone, by that name in recipes as well


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory) -> Path:
    """A finished run on the embedded digits with a tiny network, averaged weights and a resizing evaluation.

    Shared by all tests: copy it to change it.
    """
    import resnet_tasks

    changes = {
        "model.backbone": "tiny_backbone:backbone",
        "model.image_size": [10, 12],
        "model.crop_fraction": 0.9,
        "model.dropout": 0.1,
        "train.epochs": 5,
        "train.ema": 0.9,
        "augment.pad_crop": 1,
    }
    run = tmp_path_factory.mktemp("digits") / "run"
    return resnet_tasks.train("classify", "quickstart/classify_digits", run=run, set=changes)


@pytest.fixture(scope="session")
def digits_model(digits_run):
    """The shared run's model, opened."""
    import resnet_tasks

    return resnet_tasks.load(digits_run)


@pytest.fixture(scope="session")
def digits_artefact(digits_run) -> Path:
    """The shared run's SavedModel."""
    import resnet_tasks

    return resnet_tasks.export(digits_run)
