-- Low lift, but harmless
-- Which maps lie off the box although hiding that part costs next to nothing: a map that is off, not a shortcut?
SELECT sample_id, method, label, correct, energy_lift, pointing_hit, drop_outside, drop_inside
FROM audit
WHERE target = 'label' AND evaluable AND energy_lift < .5 AND drop_outside < .05
ORDER BY energy_lift, sample_id, method
