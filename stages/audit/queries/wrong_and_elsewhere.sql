-- Wrong, and looking elsewhere
-- Which wrong predictions come from the background, and does the prediction fall when that part is hidden?
SELECT sample_id, method, label, pred_label, pred_prob, energy_in, energy_lift, drop_outside
FROM audit_targets JOIN findings USING (sample_id, row, target, method)
WHERE rule = 'wrong_and_elsewhere'
ORDER BY drop_outside DESC NULLS LAST, pred_prob DESC, sample_id, method
