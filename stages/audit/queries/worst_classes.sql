-- Worst classes
-- Which classes rely on what is outside their boxes more often than the others, and how far do their maps miss?
SELECT label, n, n_evaluable, reliance_rate, reliance_low, reliance_high, corrected_rate, corrected_low,
    corrected_high, reliance_q, accuracy, miss_rate, miss_rate_null, lift_median, n_findings
FROM classes
ORDER BY reliance_q NULLS LAST, reliance_rate DESC NULLS LAST, label
