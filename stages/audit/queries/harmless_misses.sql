-- Off the box, but harmless
-- Which maps lie off the box although what lies outside is worth little to the class: a map that is off, not a shortcut?
SELECT sample_id, label, correct, energy_lift, pointing_hit, outside_effect, drop_outside, drop_inside
FROM audit
WHERE evaluable AND NOT pointing_hit AND energy_lift < {on_box_lift} AND outside_effect < {outside_review}
ORDER BY energy_lift, sample_id
