-- Relies on what is outside the boxes
-- Which samples lose their class with what lies outside the boxes, or find it there, by the default thresholds of the rule?
SELECT sample_id, method, target, target_label, correct, hide_locator, p_full, p_hide_outside, p_hide_random,
    p_hide_context, p_saliency_in_context, p_saliency_in_box, drop_outside, drop_inside, drop_random
FROM audit
WHERE evaluable AND p_full - p_hide_context >= .3
    AND ((drop_outside >= .3 AND drop_outside - drop_random >= .1) OR p_saliency_in_context - p_saliency_in_box >= .3)
ORDER BY drop_outside DESC, sample_id, method, target
