-- Relies on what is outside the boxes
-- Which samples lose their class with what lies outside the boxes, and what of it is to blame?
SELECT sample_id, method, target, target_label, correct, severity, p_full, p_hide_context, hide_locator, p_hide_outside,
    p_hide_random, p_saliency_in_context, p_saliency_in_box, drop_outside, drop_inside, drop_random
FROM audit_targets JOIN findings USING (sample_id, row, target, method)
WHERE rule = 'relies_on_outside'
ORDER BY severity DESC, sample_id, method, target
