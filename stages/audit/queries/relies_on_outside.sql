-- Relies on what is outside the boxes
-- Which samples lose most probability when a part outside the boxes is hidden, more than by an equal random area, and with all that is outside hidden too?
SELECT sample_id, method, target, target_label, correct, hide_locator, p_full, p_hide_outside, p_hide_random,
    p_hide_context, drop_outside, drop_inside, drop_random
FROM audit
WHERE evaluable AND drop_outside >= .3 AND drop_outside - drop_random >= .1 AND p_full - p_hide_context >= .3
ORDER BY drop_outside DESC, sample_id, method, target
