-- Wrong, but looking at the object
-- Which wrong predictions have their map on the box, so that the classes are confusable or the label is wrong?
SELECT sample_id, method, label, p_label, pred_label, pred_prob, energy_in, energy_lift, drop_inside
FROM audit
WHERE target = 'predicted' AND evaluable AND NOT correct AND pointing_hit AND energy_lift >= 1
ORDER BY pred_prob DESC, sample_id, method
