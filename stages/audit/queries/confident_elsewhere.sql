-- Right and confident, but looking elsewhere
-- Which right and confident predictions have a map outside the boxes, and does hiding that part matter?
SELECT sample_id, method, label, pred_prob, energy_in, box_area_frac, energy_lift, drop_outside
FROM audit_targets JOIN findings USING (sample_id, row, target, method)
WHERE rule = 'looks_elsewhere_but_right'
ORDER BY drop_outside DESC NULLS LAST, pred_prob DESC, sample_id, method
