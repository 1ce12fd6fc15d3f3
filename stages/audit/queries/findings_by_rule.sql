-- Findings by rule
-- How many findings does each rule have, and which is its most severe?
SELECT rule, kind, count(*) AS findings, count(DISTINCT sample_id) AS samples, avg(severity) AS mean_severity,
    arg_max(sample_id, severity) AS worst, arg_max(reason, severity) AS reason
FROM findings
GROUP BY rule, kind
ORDER BY kind = 'flag' DESC, findings DESC, rule
