-- Cues
-- What is relied on outside the boxes: groups of samples in which the same kind of thing was hidden, what hiding it costs, and in which classes?
SELECT cue_id, size, mean_drop, mean_drop_low, mean_drop_high, mean_drop_random,
    array_to_string(list_transform(classes, c -> c.label || ' (' || c.n || ')'), ', ') AS enriched_classes,
    array_to_string(list_transform(exemplars[1:3], e -> e.sample_id), ', ') AS exemplars
FROM cues
ORDER BY rank
