-- Locators
-- Whose proposal of what to hide outside the boxes costs most, how often, and how much does each find by itself?
SELECT method, target, hide_locator, count(*) AS costliest, avg(drop_outside) AS mean_drop,
    count(*) FILTER (p_full - p_hide_map >= {drop_outside}) AS map_finds,
    count(*) FILTER (p_full - p_hide_second >= {drop_outside}) AS second_finds,
    count(*) FILTER (p_full - p_hide_outside_map >= {drop_outside}) AS outside_map_finds,
    count(*) FILTER (p_full - p_hide_scan >= {drop_outside}) AS scan_finds,
    count(*) FILTER (drop_random >= {drop_outside}) AS random_finds
FROM audit_targets
WHERE evaluable AND hide_locator IS NOT NULL
GROUP BY method, target, hide_locator
ORDER BY method, target, costliest DESC
