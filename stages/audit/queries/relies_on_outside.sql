-- Relies on what is outside the boxes
-- Which samples lose most probability when the salient part outside the boxes is hidden, where hiding elsewhere is harmless?
SELECT sample_id, method, target, target_label, correct, p_full, p_hide_outside, p_hide_random, drop_outside,
    drop_inside, drop_random
FROM audit
WHERE evaluable AND drop_outside >= .3 AND drop_random < drop_outside / 2
ORDER BY drop_outside DESC, sample_id, method, target
