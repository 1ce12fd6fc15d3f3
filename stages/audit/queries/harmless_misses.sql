-- Off the box, but harmless
-- Which maps lie off the box although hiding that part costs less than a look is worth: a map that is off, not a shortcut?
SELECT sample_id, label, correct, energy_lift, pointing_hit, drop_outside, drop_inside
FROM audit
WHERE evaluable AND NOT pointing_hit AND energy_lift < {on_box_lift} AND drop_outside < {drop_review}
ORDER BY energy_lift, sample_id
