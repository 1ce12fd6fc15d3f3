-- Methods side by side
-- What does each saliency method score for each target: faithfulness in percent, localisation, and what its map finds outside?
SELECT method, target, count(*) AS rows, 100 * avg(ad) FILTER (faithful) AS ad,
    100 * avg(ai) FILTER (faithful) AS ai, 100 * avg(ag) FILTER (faithful) AS ag,
    median(energy_lift) FILTER (evaluable) AS lift_median,
    1 - avg(pointing_hit::INT) FILTER (evaluable) AS miss_rate,
    avg(1 - box_area_frac) FILTER (evaluable AND pointing_hit IS NOT NULL) AS miss_rate_null,
    avg(drop_outside) FILTER (evaluable) AS drop_outside, avg(drop_inside) FILTER (evaluable) AS drop_inside,
    avg(drop_random) FILTER (evaluable) AS drop_random
FROM (SELECT *, ad IS NOT NULL AND ai IS NOT NULL AND ag IS NOT NULL AS faithful FROM audit_targets)
WHERE explain_status = 'ok'
GROUP BY method, target
ORDER BY method, target
