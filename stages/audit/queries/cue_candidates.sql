-- Cue candidates
-- In which classes does something outside the boxes carry probability, more than an equal random area does?
SELECT label, count(*) AS samples, count(*) FILTER (drop_outside >= {cue_drop}) AS with_drop,
    avg(drop_outside) FILTER (drop_outside >= {cue_drop}) AS mean_drop,
    avg(drop_random) FILTER (drop_outside >= {cue_drop}) AS mean_drop_random,
    arg_max(sample_id, drop_outside) AS strongest
FROM audit
WHERE evaluable AND drop_outside IS NOT NULL
GROUP BY label
HAVING with_drop > 0
ORDER BY with_drop / samples DESC, mean_drop DESC, label
