-- Label suspects
-- Where is the label's class next to impossible, while another class is likely and its own map sits on the box?
SELECT sample_id, method, label, p_label, pred_label, pred_prob, energy_in, box_area_frac, energy_lift
FROM audit_targets JOIN findings USING (sample_id, row, target, method)
WHERE rule = 'label_suspect'
ORDER BY severity DESC, sample_id, method
