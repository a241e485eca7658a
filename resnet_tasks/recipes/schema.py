"""The table of recipes: every task's own, whose sections say every key, its type, its range and its default."""

from typing import TypeAlias

from resnet_tasks.errors import UsageError, nearest
from resnet_tasks.recipes.classify import ClassifyRecipe
from resnet_tasks.recipes.detect import DetectRecipe
from resnet_tasks.recipes.faces import FacesRecipe
from resnet_tasks.recipes.segment import SegmentRecipe

Recipe: TypeAlias = ClassifyRecipe | DetectRecipe | SegmentRecipe | FacesRecipe
RECIPES: dict[str, type[Recipe]] = {
    "classify": ClassifyRecipe,
    "detect": DetectRecipe,
    "segment": SegmentRecipe,
    "faces": FacesRecipe,
}

# What a task takes where no recipe is named: people's own pictures.
FOLDER_RECIPES = {
    "classify": "classification/folder_resnet50",
    "detect": "detection/folder_retinanet",
    "segment": "segmentation/folder_unet",
    "faces": "faces/folder_arcface",
}


def task_called(name: str) -> str:
    """Returns the name of a task, if it is one; a UsageError otherwise."""
    if name not in RECIPES:
        raise UsageError(f"there is no task {name!r}, only {', '.join(RECIPES)}{nearest(name, RECIPES)}")
    return name
