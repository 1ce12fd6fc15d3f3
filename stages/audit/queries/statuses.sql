-- Statuses
-- How many samples and rows are in order, and what keeps the others from being read, explained or scored?
SELECT 'samples' AS stage, NULL AS method, NULL AS target, status, count(*) AS n, any_value(reason) AS example
FROM samples GROUP BY status
UNION ALL
SELECT 'explain', method, target, status, count(*), any_value(reason) FROM explain GROUP BY method, target, status
UNION ALL
SELECT 'scores', method, target, status, count(*), any_value(reason) FROM scores GROUP BY method, target, status
ORDER BY list_position(['samples', 'explain', 'scores'], stage), method, target, n DESC, status
