-- Crops that lost the box
-- Which samples lost a quarter or more of their boxes to the crop, so that their localisation says little?
SELECT sample_id, label, width, height, box_kept_frac, scores_status, energy_in, correct
FROM audit
WHERE box_kept_frac <= .75 OR scores_status = 'box_outside_view'
ORDER BY box_kept_frac NULLS FIRST, sample_id
