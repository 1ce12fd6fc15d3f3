-- Label suspects
-- Where is the label's class next to impossible, while another class is likely and its own map sits on the box?
SELECT sample_id, method, label, p_label, pred_label, pred_prob, energy_in, box_area_frac, energy_lift
FROM audit
WHERE target = 'predicted' AND evaluable AND NOT correct AND p_label <= .1 AND pred_prob >= .7
    AND pointing_hit AND energy_lift >= 1
ORDER BY pred_prob - p_label DESC, sample_id, method
