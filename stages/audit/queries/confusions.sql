-- Confusions
-- Which classes are taken for which, and was the map of the wrong class on the object?
SELECT label, pred_label, method, count(*) AS n, avg(pred_prob) AS pred_prob,
    avg(pointing_hit::INT) FILTER (evaluable) AS on_object, avg(drop_outside) FILTER (evaluable) AS drop_outside
FROM audit_targets
WHERE target = 'predicted' AND NOT correct
GROUP BY label, pred_label, method
ORDER BY n DESC, pred_prob DESC, label, pred_label, method
