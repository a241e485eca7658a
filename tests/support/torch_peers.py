"""Networks of PyTorch with random weights, saved by PyTorch, and what they answer: `python torch_peers.py FOLDER`.

A process of its own, because TensorFlow and PyTorch in one may bring two LLVMs, which ends it.  For each net there is
`NAME.pth` or `NAME.safetensors`, and `NAME.answers.npz`: features by our levels, and `answer`, what the net returns.
"""

import sys
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
CIFAR = ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))
HALF = ((127.5,) * 3, (127.5,) * 3)
RELATIVES = ("resnet50c", "ecaresnet50d", "legacy_seresnet50", "resnetv2_50x1_bit", "resnet26", "densenet121")


def shaken(model, seed: int = 0):
    """The model with random norms, statistics and biases, ready to be asked."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("num_batches_tracked"):
                continue
            if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif tensor.ndim == 1:
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
            else:
                scale = (2 / tensor[0].numel()) ** 0.5 / (10 if ".se." in name else 1)  # else all gates are 0 or 1
                tensor.copy_(scale * torch.randn(tensor.shape, generator=generator))
    return model.eval()


def pictures(side: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (2, side, side, 3)).astype(np.float32)


def seen(side: int, constants):
    """The pictures as the peer's own preprocessing hands them over."""
    mean, deviation = (np.array(values, np.float32) for values in constants)
    return torch.from_numpy(np.ascontiguousarray(((pictures(side) - mean) / deviation).transpose(0, 3, 1, 2)))


def write(folder: Path, name: str, model, modules: dict, side: int, constants) -> None:
    """The file and the answers; `modules` by the level of ours that they equal."""
    shaken(model)
    found = {}

    def keep(level):
        return lambda module, inputs, output: found.__setitem__(level, output.numpy().transpose(0, 2, 3, 1))

    for level, module in modules.items():
        module.register_forward_hook(keep(level))
    with torch.no_grad():
        answer = model(seen(side, constants)).numpy()
    np.savez(folder / f"{name}.answers.npz", answer=answer, pictures=pictures(side), **found)
    state = model.state_dict()
    if name == "resnet_50_v2":
        save_file(state, folder / f"{name}.safetensors")
    else:
        wrapped = {f"module.{key}": value for key, value in state.items()}
        torch.save({"epoch": 3, "state_dict": wrapped}, folder / f"{name}.pth")


def cifar_net(depth: int, head: str):
    """He et al.'s CIFAR net as PyTorch repositories write it, option A."""

    class Block(nn.Module):
        def __init__(self, read, width, stride):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(read, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
            self.stride, self.missing = stride, width - read

        def forward(self, x):
            branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            half = self.missing // 2
            return F.relu(branch + F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half)))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
            blocks = (depth - 2) // 6
            for stage, (read, width) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
                made = [Block(width if n else read, width, 1 if n or stage == 1 else 2) for n in range(blocks)]
                setattr(self, f"layer{stage}", nn.Sequential(*made))
            setattr(self, head, nn.Linear(64, 10))

        def forward(self, x):
            x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
            return getattr(self, head)(torch.mean(x, (2, 3)))

    return Net()


def iresnet(depths):
    """Deng et al.'s network in insightface's module names."""

    class Block(nn.Module):
        def __init__(self, read, width, stride):
            super().__init__()
            self.bn1, self.conv1 = nn.BatchNorm2d(read), nn.Conv2d(read, width, 3, 1, 1, bias=False)
            self.bn2, self.prelu = nn.BatchNorm2d(width), nn.PReLU(width)
            self.conv2, self.bn3 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
            self.downsample = None
            if stride != 1:
                self.downsample = nn.Sequential(nn.Conv2d(read, width, 1, stride, bias=False), nn.BatchNorm2d(width))

        def forward(self, x):
            branch = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
            return branch + (x if self.downsample is None else self.downsample(x))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1, self.prelu = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
            read = 64
            for stage, depth in enumerate(depths, 1):
                width = 32 * 2**stage
                made = [Block(width if n else read, width, 1 if n else 2) for n in range(depth)]
                setattr(self, f"layer{stage}", nn.Sequential(*made))
                read = width
            self.bn2, self.fc, self.features = nn.BatchNorm2d(512), nn.Linear(512 * 49, 8), nn.BatchNorm1d(8)

        def forward(self, x):
            x = self.layer4(self.layer3(self.layer2(self.layer1(self.prelu(self.bn1(self.conv1(x)))))))
            return self.features(self.fc(self.bn2(x).flatten(1)))

    return Net()


def layers(model, first: int, stages: int = 4) -> dict:
    return {f"C{stage - 1 + first}": getattr(model, f"layer{stage}") for stage in range(1, stages + 1)}


def main(folder: Path) -> None:
    for name, theirs in {
        "resnet_18": "resnet18",
        "resnet_50": "resnet50",
        "resnext_50_32x4d": "resnext50_32x4d",
        "wide_resnet_50_2": "wide_resnet50_2",
    }.items():
        model = getattr(torchvision.models, theirs)()
        write(folder, name, model, layers(model, 2), 64, IMAGENET)
    for name, theirs in {"resnet_34": "resnet34", "resnet_50_d": "resnet50d", "se_resnet_50": "seresnet50"}.items():
        model = timm.create_model(theirs)
        write(folder, name, model, layers(model, 2), 64, IMAGENET)
    model = timm.create_model("resnetv2_50")
    norms = {f"C{stage + 1}": model.stages[stage].blocks[0].norm1 for stage in (1, 2, 3)}
    write(folder, "resnet_50_v2", model, {**norms, "C5": model.norm}, 64, HALF)
    for head, constants in (("linear", IMAGENET), ("fc", CIFAR)):
        model = cifar_net(20, head)
        write(folder, f"resnet_20_cifar.{head}", model, layers(model, 0, 3), 32, constants)
    model = iresnet((2, 2, 2, 2))
    write(folder, "iresnet_18", model, layers(model, 1), 112, HALF)
    for theirs in RELATIVES:
        torch.save(timm.create_model(theirs).state_dict(), folder / f"{theirs}.pth")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
