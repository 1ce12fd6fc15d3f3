-- Wrong, but looking at the object
-- Which wrong predictions have their map on the box, so that the classes are confusable or the label is wrong?
SELECT sample_id, method, label, p_label, pred_label, pred_prob, energy_in, energy_lift, drop_inside
FROM audit_targets JOIN findings USING (sample_id, row, target, method)
WHERE rule = 'wrong_but_on_object'
ORDER BY pred_prob DESC, sample_id, method
