"""p of every class beside the probes, for classifiers whose classes do not exclude each other."""

from dataclasses import replace

import numpy as np
import pytest

from tests.stages.explain.shards import CLASSES, explain, model, rows_by_key, samples_of, settings


@pytest.mark.parametrize("outputs", ["auto", "sigmoid"])
def test_p_of_every_class_is_stored_once_an_image_where_classes_do_not_exclude_each_other(tmp_path, outputs):
    source = replace(model(), outputs=outputs)
    run, _ = explain(str(tmp_path / "run"), samples_of(tmp_path / "images", [41, 3]), settings(), source)
    rows = rows_by_key(run)
    for name in ("41.png", "3.png"):
        label, predicted = rows[name, "label"], rows[name, "predicted"]
        assert predicted["class_probabilities"] is None
        if outputs == "auto":
            assert label["class_probabilities"] is None
            continue
        p = np.array(label["class_probabilities"])
        assert len(p) == CLASSES
        assert p[label["class_index"]] == label["p_full"]
        assert (p.argmax(), p.max()) == (label["pred_index"], label["pred_prob"])
        assert abs(p.sum() - 1) > 1e-3, "each class is a question of its own"
