-- Wrong, and looking elsewhere
-- Which wrong predictions come from the background, and does the prediction fall when that part is hidden?
SELECT sample_id, method, label, pred_label, pred_prob, energy_in, energy_lift, drop_outside
FROM audit
WHERE target = 'predicted' AND evaluable AND NOT correct AND NOT pointing_hit AND energy_lift < 1
ORDER BY drop_outside DESC NULLS LAST, pred_prob DESC, sample_id, method
