"""Opti-CAM as the paper writes it: one image at a time, torch's own Adam, nothing clever. Imports nothing of ours."""

import torch
import torch.nn.functional as F

MEAN = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).view(1, 3, 1, 1)


def objective_of(name, full, masked, complement, target):
    """Section 3.4, written out for one image; logits are vectors."""
    g, g_full, g_complement = masked[target], full[target], complement[target]
    others = torch.cat([masked[:target], masked[target + 1 :]])
    return {
        "mask": g,
        "diff": -torch.abs(g_full - g),
        "iomask": g - g_complement,
        "iodiff": -torch.abs(g_full - g) + torch.abs(g_full - g_complement),
        "margin": g - others.max(),
    }[name]


def mask_of(name, saliency):
    """Section 3.3: n, applied after upsampling."""
    return {
        "range": lambda s: (s - s.min()) / (s.max() - s.min()),
        "max": lambda s: s / s.max(),
        "sigmoid": torch.sigmoid,
    }[name](saliency)


def opticam_of_one(
    network, feature_maps, image, target, *, steps, learning_rate, objective="mask", normalization="range", fill=0.0
):
    """Section 3 of the paper for one image (1, 3, H, W) in [0, 1]; masked-out pixels become ``fill``.

    ``feature_maps`` is a function from the normalised image to A (1, K, h, w). Returns the objective at every iterate
    (steps + 1) and S (h, w) of the best one.
    """
    mean, std = MEAN.to(image), STD.to(image)

    def logits_of(picture):
        return network((picture - mean) / std)[0]

    with torch.no_grad():
        features = feature_maps((image - mean) / std)
        full = logits_of(image)
    u = torch.full((1, features.shape[1], 1, 1), 0.5, dtype=image.dtype, requires_grad=True)
    adam = torch.optim.Adam([u], lr=learning_rate)
    trace, best, best_saliency = [], -float("inf"), None
    for step in range(steps + 1):
        saliency = (torch.softmax(u, 1) * features).sum(1, keepdim=True)
        mask = F.interpolate(saliency, size=image.shape[2:], mode="bilinear", align_corners=False)
        mask = mask_of(normalization, mask)
        inside = logits_of(image * mask + fill * (1 - mask))
        outside = logits_of(image * (1 - mask) + fill * mask)
        value = objective_of(objective, full, inside, outside, target)
        trace.append(value.item())
        if value.item() > best:
            best, best_saliency = value.item(), saliency[0, 0].detach().clone()
        if step < steps:
            adam.zero_grad()
            (-value).backward()
            adam.step()
    return torch.tensor(trace, dtype=image.dtype), best_saliency
