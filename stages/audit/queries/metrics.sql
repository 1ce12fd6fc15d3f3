-- Metrics of the dataset
-- What do the scores of each method and target come to over the whole dataset, and how sure is that?
SELECT method, target, metric, value, low, high, threshold, n
FROM metrics
ORDER BY method, target, coalesce(nullif(list_position([
    'ad', 'ai', 'ag', 'insertion', 'deletion', 'energy_in', 'box_area_frac', 'pointing_hit', 'localization_error',
    'official_metric', 'pixel_f1', 'box_acc', 'max_box_acc_v2'], metric), 0), 99), metric
