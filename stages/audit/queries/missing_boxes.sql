-- Missing boxes
-- Where does the part outside the boxes, shown alone, pass for the class, and where is it?
SELECT sample_id, method, label, p_crop_outside, p_full, drop_outside, energy_in, crop_outside_box
FROM audit_targets JOIN findings USING (sample_id, row, target, method)
WHERE rule = 'missing_box'
ORDER BY p_crop_outside DESC, sample_id, method
