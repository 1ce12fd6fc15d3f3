-- What to review first
-- Which flagged samples are the most severe, and why were they flagged?
SELECT findings.sample_id, label, findings.target, rule, severity, findings.reason
FROM findings
JOIN samples USING (sample_id, row)
WHERE kind = 'flag'
ORDER BY severity DESC, findings.sample_id, rule, findings.target
