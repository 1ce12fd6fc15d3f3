-- Relies on what is outside the boxes
-- Which samples lose their class without what lies outside the boxes, and give it from there to other objects?
SELECT sample_id, method, target, target_label, correct, severity, outside_effect, outside_room, p_full,
    p_hide_context_neutral, p_hide_far, p_transplant, p_transplant_null, hide_locator, p_hide_outside, p_hide_random,
    drop_outside
FROM audit_targets JOIN findings USING (sample_id, row, target, method)
WHERE rule = 'relies_on_outside'
ORDER BY severity DESC, sample_id, method, target
