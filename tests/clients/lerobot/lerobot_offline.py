"""Makes lerobot 0.4.4 importable beside a CPU build of torch, without the network. Import it before lerobot."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
import warnings
from typing import Any


def dataset_class() -> Any:
    """Returns lerobot's LeRobotDataset class."""
    cache = tempfile.mkdtemp(prefix="lerobot-")  # else `datasets` copies what it opens into the user's cache
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    os.environ |= {"HF_HOME": cache, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "SVT_LOG": "1"}
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)

    import torch

    torch.set_num_threads(1)
    # torchvision's compiled ops do not load beside another torch, and its import fails for want of this one operator,
    # which reading and writing datasets never calls.
    dataset_class.library = torch.library.Library("torchvision", "DEF")  # type: ignore[attr-defined]
    dataset_class.library.define("nms(Tensor a, Tensor b, float c) -> Tensor")  # type: ignore[attr-defined]
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset
