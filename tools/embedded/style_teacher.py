"""The style teacher: a style vector applied to photos, for making training pictures only; never part of the product.

Architecture: Ghiasi et al. 2017, "Exploring the structure of a real-time, arbitrary neural artistic stylization
network": convolutions whose instance normalisation takes scale and shift from the style vector.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

EPSILON = 1e-5


class StyleTeacher:
    """`teacher(photos, vectors)`: photos [B, 3, H, W] in [0, 1], vectors [B, 100] -> [B, 3, H, W] in [0, 1]."""

    def __init__(self, path: Path, *, device: torch.device) -> None:
        self.weights = {name: tensor.float().to(device) for name, tensor in load_file(str(path)).items()}
        endings = "/StyleNorm/Conv.weight"
        self.norms = {n.removesuffix(endings): n.removesuffix(".weight") for n in self.weights if n.endswith(endings)}

    def __call__(self, photos: Tensor, vectors: Tensor) -> Tensor:
        x = F.relu(self._convolved(photos, "transformer/contract/conv1", kernel=9))
        x = F.relu(self._convolved(x, "transformer/contract/conv2", kernel=3, stride=2))
        x = F.relu(self._convolved(x, "transformer/contract/conv3", kernel=3, stride=2))
        for block in range(1, 6):
            name = f"transformer/residual/residual{block}"
            h = F.relu(self._styled(x, f"{name}/conv1", vectors, kernel=3))
            x = x + self._styled(h, f"{name}/conv2", vectors, kernel=3)
        for block in (1, 2):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = F.relu(self._styled(x, f"transformer/expand/conv{block}/conv", vectors, kernel=3))
        return torch.sigmoid(self._styled(x, "transformer/expand/conv3/conv", vectors, kernel=9))

    def _convolved(self, x: Tensor, name: str, *, kernel: int, stride: int = 1) -> Tensor:
        padded = F.pad(x, (kernel // 2,) * 4, mode="reflect")
        return F.conv2d(padded, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], stride=stride)

    def _styled(self, x: Tensor, name: str, vectors: Tensor, *, kernel: int) -> Tensor:
        x = self._convolved(x, name, kernel=kernel)
        key = next(found for end, found in self.norms.items() if end.endswith(name))
        shift = F.linear(vectors, self.weights[f"{key}.weight"].flatten(1), self.weights[f"{key}.bias"])
        scale = F.linear(vectors, self.weights[f"{key}_1.weight"].flatten(1), self.weights[f"{key}_1.bias"])
        normal = F.instance_norm(x, eps=EPSILON)
        return normal * scale[:, :, None, None] + shift[:, :, None, None]


class StyleTable:
    """Style vectors by kind and name, read from `styles.json` and `styles.npz`."""

    def __init__(self, folder: Path) -> None:
        self.rows = json.loads((folder / "styles.json").read_text(encoding="utf-8"))
        self.vectors: npt.NDArray[np.float32] = np.load(folder / "styles.npz")["vec"].astype(np.float32)

    def vector(self, style: tuple[str, str, int]) -> npt.NDArray[np.float32]:
        """The [100] vector of (kind, name, rows of that name to skip); KeyError names a row that is not there."""
        kind, name, skip = style
        found = [i for i, row in enumerate(self.rows) if row["kind"] == kind and row["name"] == name]
        if len(found) <= skip:
            raise KeyError(f"the style table has no row {skip} of kind {kind!r} named {name!r}")
        return np.asarray(self.vectors[found[skip]])
