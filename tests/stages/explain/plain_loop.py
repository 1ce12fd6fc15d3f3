"""Opti-CAM as the paper writes it: one image at a time, torch's own Adam, nothing clever. Imports nothing of ours."""

import torch
import torch.nn.functional as F

MEAN = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).view(1, 3, 1, 1)


def opticam_of_one(network, feature_maps, image, target, *, steps, learning_rate):
    """Section 3 of the paper for one image (1, 3, H, W) in [0, 1].

    ``feature_maps`` is a function from the normalised image to A (1, K, h, w). Returns the objective at every iterate
    (steps + 1) and S (h, w) of the best one.
    """
    mean, std = MEAN.to(image), STD.to(image)
    with torch.no_grad():
        features = feature_maps((image - mean) / std)
    u = torch.full((1, features.shape[1], 1, 1), 0.5, dtype=image.dtype, requires_grad=True)
    adam = torch.optim.Adam([u], lr=learning_rate)
    trace, best, best_saliency = [], -float("inf"), None
    for step in range(steps + 1):
        saliency = (torch.softmax(u, 1) * features).sum(1, keepdim=True)
        mask = F.interpolate(saliency, size=image.shape[2:], mode="bilinear", align_corners=False)
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        objective = network((image * mask - mean) / std)[0, target]
        trace.append(objective.item())
        if objective.item() > best:
            best, best_saliency = objective.item(), saliency[0, 0].detach().clone()
        if step < steps:
            adam.zero_grad()
            (-objective).backward()
            adam.step()
    return torch.tensor(trace, dtype=image.dtype), best_saliency
