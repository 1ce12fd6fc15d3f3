-- Box study
-- How much probability is lost, on average and in percent, where only the map, the boxes, or parts of both are left?
SELECT method, target, count(*) AS rows, 100 * avg(ad) AS saliency,
    100 * avg(greatest(0, p_full - p_saliency_in_box) / p_full) AS saliency_in_box,
    100 * avg(greatest(0, p_full - p_saliency_in_context) / p_full) AS saliency_outside_box,
    100 * avg(greatest(0, p_full - p_box) / p_full) AS box, 100 * avg(greatest(0, p_full - p_context) / p_full) AS context
FROM audit_targets
WHERE p_full > 0 AND p_saliency_in_box IS NOT NULL
GROUP BY method, target
ORDER BY method, target
