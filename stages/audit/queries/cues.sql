-- Cues
-- What is relied on outside the boxes: which samples have the same kind of thing hidden, what does that cost, and in which classes?
SELECT cue_id, named.name, size, mean_drop, mean_drop_low, mean_drop_high, mean_drop_random, alike, alike_p, weak,
    array_to_string([c.label || ' (' || c.n || ')' FOR c IN classes], ', ') AS more_frequent_in,
    array_to_string([e.sample_id FOR e IN exemplars[1:3]], ', ') AS exemplars
FROM cues
LEFT JOIN (SELECT cue_id, arg_max(name, time) AS name FROM cue_names GROUP BY cue_id) AS named USING (cue_id)
ORDER BY weak IS NOT NULL, rank
