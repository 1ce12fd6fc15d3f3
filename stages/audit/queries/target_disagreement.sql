-- Label against prediction
-- Where the prediction is wrong: where do the maps of the label and of the prediction lie, and what does each need outside?
SELECT l.sample_id, l.method, l.label, p.pred_label, l.p_full AS p_label, p.p_full AS p_predicted,
    l.energy_lift AS lift_label, p.energy_lift AS lift_predicted,
    l.drop_outside AS drop_outside_label, p.drop_outside AS drop_outside_predicted
FROM audit_targets AS l
JOIN audit_targets AS p USING (sample_id, row, method)
WHERE l.target = 'label' AND p.target = 'predicted' AND NOT l.correct
ORDER BY p.p_full - l.p_full DESC, l.sample_id, l.method
